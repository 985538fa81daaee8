"""Hosts of their own for runners: network namespaces, each joined to the database by a wire that a test may break.

What belongs to one run carries its process id in its name: namespaces ``lockgate-<pid>-<n>``, devices ``lg<pid>…``.
TUN devices go with the process that made them; what else is left of a dead run is removed by the next.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.network.wire import Wire, tun
from tests.runner.process import exists

SPACE = "lockgate-"
BLOCKS = [f"198.{18 + n // 256}.{n % 256}" for n in range(512)]
"""Addresses set aside for tests between devices (RFC 2544); a run uses one block."""

NUMBERS = count(1)
"""For names: no two things of one process have the same."""


class NoNetwork(Exception):
    """No namespaces can be made here; the text says why."""


class Network:
    """The side of the database: an address for the server, which the wires lead to, and one for the witness."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        self._numbers = count(4)
        self._anchor = -1

    def __enter__(self) -> Self:
        possible()
        remove_leftovers()
        taken = run("ip", "-4", "-o", "addr") + run("ip", "-4", "route")
        start = os.getpid() % len(BLOCKS)
        self.block = next(block for block in BLOCKS[start:] + BLOCKS if f"{block}." not in taken)
        self.server, self.witness = f"{self.block}.1", f"{self.block}.2"
        # Both addresses live on a device that no packet takes, and go with this process.
        self._anchor = tun(device := f"lg{os.getpid()}a{next(NUMBERS)}")
        batch(
            f"addr add {self.server}/32 dev {device}",
            f"addr add {self.witness}/32 dev {device}",
            f"link set {device} up",
        )
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        for host in list(self.hosts):
            host.remove()
        if self._anchor >= 0:
            os.close(self._anchor)

    def host(self) -> "Host":
        """A new one. Needs removing, or the end of the network."""
        host = Host(self, next(self._numbers))
        self.hosts.append(host)
        try:
            host.join()
        except BaseException:
            host.remove()
            raise
        return host


class Host:
    """A namespace with two links: a wire to the server, and a veth pair to the witness that is never cut."""

    def __init__(self, network: Network, place: int) -> None:
        self.network = network
        self.address, self._other_address = f"{network.block}.{2 * place}", f"{network.block}.{2 * place + 1}"
        self._number = next(NUMBERS)
        self.name = f"{SPACE}{os.getpid()}-{self._number}"
        self.command = ["ip", "netns", "exec", self.name]
        """What a command begins with to be executed on this host."""
        self.wire: Wire
        self._wired = False
        self._outside = f"lg{os.getpid()}v{self._number}"

    def join(self) -> None:
        server, runner, inside = (f"lg{os.getpid()}{end}{self._number}" for end in "srw")
        run("ip", "netns", "add", self.name)
        self.wire = Wire(tun(runner), tun(server))
        self._wired = True
        batch(
            f"link set {runner} netns {self.name}",
            f"link set {server} up",
            f"route add {self.address}/32 dev {server} src {self.network.server}",
            f"link add {self._outside} type veth peer name {inside} netns {self.name}",
            f"link set {self._outside} up",
            f"route add {self._other_address}/32 dev {self._outside} src {self.network.witness}",
        )
        batch(
            "link set lo up",
            f"link set {runner} up",
            f"addr add {self.address}/32 dev {runner}",
            f"route add {self.network.server}/32 dev {runner} src {self.address}",
            f"link set {inside} up",
            f"addr add {self._other_address}/32 dev {inside}",
            f"route add {self.network.witness}/32 dev {inside} src {self._other_address}",
            namespace=self.name,
        )

    def vanish(self) -> None:
        """Takes the host away in the midst of everything: not even the ends of its connections get out any more."""
        self.wire.cut()
        remove_namespace(self.name)

    def remove(self) -> None:
        """Removes all there is of it, and ends what runs there."""
        self.network.hosts.remove(self)
        remove_namespace(self.name)
        remove_device(self._outside)
        if self._wired:
            self.wire.close()


def possible() -> None:
    """Tries whether namespaces and TUN devices can be made here.

    Raises:
        NoNetwork: they cannot; the text says why.
    """
    if sys.platform != "linux":
        raise NoNetwork("network namespaces are Linux'")
    if os.geteuid() != 0:
        raise NoNetwork("only root may make network namespaces")
    if shutil.which("ip") is None:
        raise NoNetwork("there is no command ip (Debian's package iproute2)")
    number = next(NUMBERS)
    name = f"{SPACE}{os.getpid()}-{number}"
    try:
        run("ip", "netns", "add", name)
        run("ip", "netns", "exec", name, "true")
        run("ip", "netns", "del", name)
    except subprocess.CalledProcessError as error:
        raise NoNetwork(f"{' '.join(error.cmd)}: {error.stderr.strip()}") from None
    try:
        os.close(tun(f"lg{os.getpid()}a{number}"))
    except OSError as error:
        raise NoNetwork(f"no TUN device can be made: {error}") from None


def remove_leftovers() -> None:
    """Removes the namespaces and devices of runs that have ended without doing it, with all that still runs there."""
    for line in run("ip", "netns", "list").splitlines():
        name = line.split()[0]
        if dead(name, SPACE):
            remove_namespace(name)
    for path in Path("/sys/class/net").glob("lg*"):
        if dead(path.name, "lg"):
            remove_device(path.name)


def dead(name: str, prefix: str) -> bool:
    """Whether this is the name of something whose maker has ended."""
    found = re.match(rf"{prefix}(\d+)[-v]\d+$", name)
    return found is not None and not exists(int(found[1]))


def remove_namespace(name: str) -> None:
    """Kills what runs in it, and removes it; no matter if it is gone already."""
    if not Path("/run/netns", name).exists():
        return
    for pid in run("ip", "netns", "pids", name).split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
    run("ip", "netns", "del", name)


def remove_device(name: str) -> None:
    """Removes it, with its other end; no matter if it is gone. A namespace lives on while a socket of it does."""
    with suppress(subprocess.CalledProcessError):
        run("ip", "link", "del", name)


def batch(*commands: str, namespace: str = "") -> None:
    """Executes commands of `ip`, on this host or in a namespace."""
    where = ["-n", namespace] if namespace else []
    run("ip", *where, "-batch", "-", said="\n".join(commands))


def run(*command: str, said: str = "") -> str:
    """What a command prints.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    return subprocess.run(command, input=said, capture_output=True, text=True, check=True, timeout=60).stdout
