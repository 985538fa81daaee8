"""HTTP load from one process: keep-alive connections, each with one request under way."""

import asyncio
import time
from dataclasses import dataclass, field

END_OF_HEAD = b"\r\n\r\n"
LENGTH = b"content-length:"


@dataclass
class Load:
    """The result: answered requests, the seconds they took, and our own seconds of CPU."""

    elapsed: float = 0.0
    cpu: float = 0.0
    seconds: list[float] = field(default_factory=list)
    """The latency of each request."""

    @property
    def rate(self) -> float:
        return len(self.seconds) / self.elapsed


def request(path: str, body: bytes) -> bytes:
    head = (
        f"POST {path} HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def post(port: int, body: bytes, connections: int, seconds: float, pause: float = 0.0, path: str = "/tasks") -> Load:
    """Sends POSTs on a number of connections; ``pause``: seconds between an answer and the next request.

    Raises:
        RuntimeError: an answer was not 202, or a connection was lost.
    """
    return asyncio.run(_post(port, request(path, body), connections, seconds, pause))


async def _post(port: int, message: bytes, connections: int, seconds: float, pause: float) -> Load:
    load = Load()
    loop = asyncio.get_running_loop()
    stop = loop.time() + seconds
    clients = []
    begin, cpu = time.perf_counter(), time.process_time()
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: Client(message, load, stop, pause), "127.0.0.1", port)
        clients.append(client)
    await asyncio.gather(*(client.done for client in clients))
    load.elapsed, load.cpu = time.perf_counter() - begin, time.process_time() - cpu
    return load


class Client(asyncio.Protocol):
    """One connection. Parses only the status and the length of an answer."""

    def __init__(self, message: bytes, load: Load, stop: float, pause: float) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._message = message
        self._load = load
        self._stop = stop
        self._pause = pause
        self._bytes = b""
        self._begin = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        head, found, body = self._bytes.partition(END_OF_HEAD)
        if not found:
            return
        lower = head.lower()
        at = lower.index(LENGTH) + len(LENGTH)
        if len(body) < int(lower[at:].split(b"\r", 1)[0]):
            return
        if not head.startswith(b"HTTP/1.1 202"):
            self._fail(self._bytes.decode(errors="replace"))
            return
        self._bytes = b""
        loop = asyncio.get_running_loop()
        self._load.seconds.append(loop.time() - self._begin)
        if loop.time() >= self._stop:
            self.done.set_result(None)
            self._transport.close()
        elif self._pause:
            loop.call_later(self._pause, self._send)
        else:
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(f"connection lost: {error}")

    def _send(self) -> None:
        self._begin = asyncio.get_running_loop().time()
        self._transport.write(self._message)

    def _fail(self, why: str) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(why))
