"""A database, a witness, and runners on hosts of their own."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from lockgate.postgres.server import Server
from lockgate.witness import Witness
from tests import server
from tests.faults.network.network import Host, Network
from tests.system import Supervised, System

IDLE = "without-work"

LIMIT = 90.0
"""Seconds for anything to happen at all; what it may take is for the tests to say."""


class Scene(System[Server]):
    """What a story of a broken network plays in."""

    def __init__(self, server: Server, witness: Witness, network: Network) -> None:
        super().__init__(server, witness, handlers="tests.faults.network.handlers")
        self.network = network

    def begin(self, host: Host, *, module: str = "lockgate_runner", **settings: Any) -> Supervised:
        """Starts a runner there, with all settings that matter here as they come."""
        url = make_conninfo(self.url("runner"), host=self.network.server)
        return self.start(module, url=url, prefix=host.command, **settings)

    def stand_by(self, queues: Iterable[str], executors: int) -> Supervised:
        """Starts a runner on a sound host that is ready to work for these queues.

        It idles in the slots of a queue without work, which it lets go for others. So its executors are started
        already: how long that takes says more about the machine than about the network.
        """
        self.q.queue(IDLE, slots=executors)
        runner = self.begin(self.network.host(), queues=" ".join([*queues, IDLE]), concurrency=executors)
        runner.says("slot taken", LIMIT, count=executors)
        runner.says("executor started", LIMIT, count=executors)
        return runner

    def sessions(self, host: Host) -> int:
        """How many sessions from that host the server believes in."""
        count: int = self.q.db.value("select count(*) from pg_stat_activity where client_addr = %s::inet", host.address)
        return count

    def ended_twice(self) -> list[int]:
        return [task for task, times in Counter(self.ends()).items() if times > 1]

    def clear(self) -> None:
        """Ends all runners and removes their hosts."""
        super().clear()
        for host in list(self.network.hosts):
            host.remove()


@contextmanager
def scene() -> Iterator[Scene]:
    """A new one, and nothing left of it at the end.

    Raises:
        NoNetwork: there can be none here.
    """
    with Network() as network:
        settings = {"listen_addresses": f"127.0.0.1,{network.server}", "fsync": "off"}
        with server.of_its_own(settings) as own, Witness(network.witness) as witness:
            let_in(own, network)
            with Scene(own, witness, network) as it:
                yield it


def let_in(own: Server, network: Network) -> None:
    """Lets the network's hosts connect, with a password like everybody."""
    with (own.folder.path / "cluster" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {network.block}.0/24 scram-sha-256\n")
    with psycopg.connect(own.dsn()) as connection:
        connection.execute("select pg_reload_conf()")
