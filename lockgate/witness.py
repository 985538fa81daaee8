"""The witness: knows from outside how many handlers execute at any moment.

Each executing handler holds a connection to the witness for as long as it executes, and the kernel closes it when the
process dies, however it dies. So the count does not depend on anything the queue says about itself.

The exchange: the executor connects and writes ``{queue} {task} {lease}`` and a newline; the witness counts it and
answers with one byte; only then does the handler start. When the handler has ended the executor writes one byte and
waits for one before it tells the runner, so that an execution is uncounted before its slot can be used again.
"""

import contextlib
import selectors
import socket
import threading
import time
from dataclasses import dataclass, field

LIMIT = 10.0  # seconds either side waits for the other


@dataclass(slots=True)
class Execution:
    """One execution as the witness saw it; times are seconds of the witness's monotonic clock."""

    queue: str
    task: int
    lease: int
    begin: float
    end: float | None = None


@dataclass(slots=True)
class Witness:
    """A server on loopback, in a thread of its own. ``most`` is the greatest number seen at once, per queue."""

    host: str = "127.0.0.1"
    most: dict[str, int] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    _open: dict[socket.socket, Execution | None] = field(default_factory=dict)
    _listener: socket.socket = field(default_factory=socket.socket)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    _thread: threading.Thread | None = None
    _stopping: bool = False

    @property
    def address(self) -> str:
        """``host:port``, for the environment variable LOCKGATE_WITNESS of runners."""
        host, port = self._listener.getsockname()
        return f"{host}:{port}"

    def current(self, queue: str | None = None) -> list[Execution]:
        """What executes at this moment, of one queue or of all."""
        return [e for e in list(self.executions) if e.end is None and queue in (None, e.queue)]

    def __enter__(self) -> "Witness":
        self._listener.bind((self.host, 0))
        self._listener.listen(256)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._serve, name="witness", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping = True
        if self._thread:
            self._thread.join(LIMIT)
        for connection in list(self._open):
            connection.close()
        self._listener.close()
        self._selector.close()

    def _serve(self) -> None:
        while not self._stopping:
            ready = [key.fileobj for key, _ in self._selector.select(timeout=0.1)]
            # Ends before beginnings: an execution that ended before another began must not be counted beside it.
            for connection in ready:
                if isinstance(connection, socket.socket) and connection is not self._listener:
                    self._hear(connection)
            if self._listener in ready:
                connection, _ = self._listener.accept()
                connection.setblocking(False)
                self._open[connection] = None
                self._selector.register(connection, selectors.EVENT_READ)

    def _hear(self, connection: socket.socket) -> None:
        if connection not in self._open:  # a sweep heard its end already
            return
        try:
            said = connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            said = b""
        execution = self._open[connection]
        if execution is None and said:
            self._sweep(besides=connection)
            queue, task, lease = said.decode().split()
            execution = Execution(queue, int(task), int(lease), time.monotonic())
            self._open[connection] = execution
            self.executions.append(execution)
            at_once = sum(1 for e in self._open.values() if e is not None and e.end is None and e.queue == queue)
            self.most[queue] = max(self.most.get(queue, 0), at_once)
        elif execution is not None and execution.end is None:
            execution.end = time.monotonic()
        with contextlib.suppress(OSError):
            connection.send(b".")
        if not said:
            self._selector.unregister(connection)
            connection.close()
            del self._open[connection]

    def _sweep(self, besides: socket.socket) -> None:
        """Hears every end that has arrived by now, so that a beginning is counted against the living only."""
        for connection in [c for c, e in self._open.items() if e is not None and e.end is None and c is not besides]:
            self._hear(connection)


class Testimony:
    """The executor's side: a context in which this process is known to execute. Does nothing without an address."""

    def __init__(self, address: str | None, queue: str, task: int, lease: int) -> None:
        self._address = address
        self._words = f"{queue} {task} {lease}\n".encode()
        self._socket: socket.socket | None = None

    def __enter__(self) -> None:
        if not self._address:
            return
        host, _, port = self._address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=LIMIT)
        self._socket.sendall(self._words)
        if self._socket.recv(1) != b".":
            raise ConnectionError(f"the witness at {self._address} does not answer")

    def __exit__(self, *_: object) -> None:
        if self._socket is None:
            return
        with self._socket, contextlib.suppress(OSError):
            self._socket.sendall(b".")
            self._socket.recv(1)
