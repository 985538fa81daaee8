"""A wire between two TUN devices: carries IP packets, or loses, delays or refuses them, each direction for itself.

The TCP at both of its ends is the kernel's and knows nothing of all this. A firewall's rule on a router between them
would do for a plain cut; this also holds packets back on kernels without netem, and cuts at the sight of a packet.
"""

import fcntl
import heapq
import os
import random
import selectors
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count

PACKET_MAX = 65535
TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
IPV4, TCP = 4, 6
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


def tun(name: str) -> int:
    """Makes a TUN device; it lives as long as the descriptor.

    Raises:
        OSError: not allowed, no such thing here, or the name is taken.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except BaseException:
        os.close(device)
        raise
    return device


@dataclass
class Way:
    """One direction of a wire. Times in seconds; ``loss`` is the part of the packets that never arrives."""

    open: bool = True
    refuses: bool = False
    """Whether a TCP packet is answered with a reset, as a rejecting firewall does, instead of being carried."""
    loss: float = 0.0
    delay: float = 0.0
    jitter: float = 0.0
    """A packet takes ``delay`` ± ``jitter``, so that later ones overtake earlier ones."""
    lost: int = 0
    trap: bytes = b""
    """The first packet with these bytes in it is lost, and from then on everything in both directions."""
    sprung: threading.Event = field(default_factory=threading.Event)


class Wire:
    """Carries packets between two TUN devices, in a thread, until it is closed."""

    def __init__(self, runner: int, server: int) -> None:
        self.to_server, self.to_runner = Way(), Way()
        self._runner, self._server = runner, server
        self._dice = random.Random()
        self._late: list[tuple[float, int, int, Way, bytes]] = []
        self._numbers = count()
        self._bell, self._rope = os.pipe()
        self._thread = threading.Thread(target=self._carry, name="wire", daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Loses everything in both directions."""
        self.to_server.open = self.to_runner.open = False

    def refuse(self) -> None:
        """Answers everything in both directions with a reset."""
        self.to_server.refuses = self.to_runner.refuses = True

    def heal(self) -> None:
        """Carries everything again."""
        for way in (self.to_server, self.to_runner):
            way.open, way.refuses = True, False
            way.loss = way.delay = way.jitter = 0.0

    def close(self) -> None:
        os.close(self._rope)
        self._thread.join()
        for descriptor in (self._runner, self._server, self._bell):
            os.close(descriptor)

    def _carry(self) -> None:
        ways = {self._runner: (self.to_server, self._server), self._server: (self.to_runner, self._runner)}
        with selectors.DefaultSelector() as selector:
            for descriptor in (*ways, self._bell):
                selector.register(descriptor, selectors.EVENT_READ)
            while True:
                wait = max(0.0, self._late[0][0] - time.monotonic()) if self._late else None
                ready = [key.fd for key, _ in selector.select(wait)]
                if self._bell in ready:
                    return
                for source in ready:
                    way, target = ways[source]
                    try:
                        packet = os.read(source, PACKET_MAX)
                    except BlockingIOError:
                        continue
                    except OSError:  # the device went with its namespace
                        selector.unregister(source)
                        continue
                    self._take(packet, way, source, target)
                while self._late and self._late[0][0] <= time.monotonic():
                    _, _, target, way, packet = heapq.heappop(self._late)
                    self._put(packet, way, target)

    def _take(self, packet: bytes, way: Way, source: int, target: int) -> None:
        if packet[0] >> 4 != IPV4:
            return
        if way.trap and way.trap in packet:
            self.cut()
            way.trap = b""
            way.lost += 1
            way.sprung.set()
        elif way.refuses:
            if answer := reset(packet):
                self._put(answer, way, source)
        elif way.loss and self._dice.random() < way.loss:
            way.lost += 1
        elif way.delay:
            due = time.monotonic() + way.delay + self._dice.uniform(-way.jitter, way.jitter)
            heapq.heappush(self._late, (due, next(self._numbers), target, way, packet))
        else:
            self._put(packet, way, target)

    def _put(self, packet: bytes, way: Way, target: int) -> None:
        if not way.open:
            way.lost += 1
            return
        with suppress(OSError):  # the device is down or gone, or its queue is full: lost, as on any wire
            os.write(target, packet)


def reset(packet: bytes) -> bytes:
    """The RST that answers a TCP packet over IPv4 (RFC 9293, 3.10.7.1); nothing for another RST or no TCP."""
    size = (packet[0] & 15) * 4
    if packet[9] != TCP:
        return b""
    source, target, sequence, acknowledged, offset, flags = struct.unpack_from("!HHIIBB", packet, size)
    if flags & RST:
        return b""
    if flags & ACK:
        answer = (acknowledged, 0, RST)
    else:
        data = len(packet) - size - (offset >> 4) * 4
        answer = (0, (sequence + data + bool(flags & SYN) + bool(flags & FIN)) % 2**32, RST | ACK)
    here, there = packet[16:20], packet[12:16]
    segment = struct.pack("!HHIIBBHHH", target, source, answer[0], answer[1], 5 << 4, answer[2], 0, 0, 0)
    pseudo = here + there + struct.pack("!BBH", 0, TCP, len(segment))
    segment = segment[:16] + checksum(pseudo + segment) + segment[18:]
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(segment), 0, 0, 64, TCP, 0, here, there)
    return header[:10] + checksum(header) + header[12:] + segment


def checksum(data: bytes) -> bytes:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
