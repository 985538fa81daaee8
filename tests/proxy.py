"""A network between a program and its server that can be cut, can fall silent, and can lose one answer."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Link:
    """One connection through the proxy."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.flowing = threading.Event()
        self.doomed = False
        """Whether the next answer is to be lost, and the connection with it."""

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards connections to where `dsn` leads, whatever is spoken there; `self.dsn` and `self.address` lead here."""

    def __init__(self, dsn: str) -> None:
        where = conninfo_to_dict(dsn)
        self._host, self._port = str(where.get("host")), int(where.get("port") or 5432)
        self._listener: socket.socket | None = None
        self._links: set[Link] = set()
        self._silent = False
        self._marked = b""
        self._lost = threading.Event()
        self._here = 0
        self.connect()
        self.address = f"127.0.0.1:{self._here}"
        self.dsn: str = make_conninfo(dsn, host="127.0.0.1", port=self._here)

    def connect(self) -> None:
        """Lets connections through."""
        self._listener = socket.create_server(("127.0.0.1", self._here))
        self._here = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Refuses new connections and breaks those there are."""
        if self._listener is not None:
            # close() alone leaves a listener alive that a thread waits on.
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        for link in list(self._links):
            link.cut()

    def lead_to(self, port: int) -> None:
        """From now on, where there is another server."""
        self._port = port

    def silence(self) -> None:
        """Connections stay and are still accepted, but nothing comes through any more, not even their end."""
        self._silent = True
        self.strand()

    def resume(self) -> None:
        self._silent = False
        for link in list(self._links):
            link.flowing.set()

    def strand(self) -> None:
        """The connections there are fall silent; new ones do not."""
        for link in list(self._links):
            link.flowing.clear()

    def lose_answer_to(self, request: bytes) -> threading.Event:
        """The next request with these bytes in it arrives, and its connection breaks before the answer does.

        What was asked has been done then: an answer is sent after the commit. The event is set when it is lost.
        """
        self._marked, self._lost = request, threading.Event()
        return self._lost

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.cut()
        self.resume()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                try:
                    link = Link(client, self._dial())
                except OSError:
                    client.close()
                    continue
                if not self._silent:
                    link.flowing.set()
                self._links.add(link)
                threading.Thread(target=self._forward, args=(link, True), daemon=True).start()
                threading.Thread(target=self._forward, args=(link, False), daemon=True).start()

    def _dial(self) -> socket.socket:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
            return server
        return socket.create_connection((self._host, self._port))

    def _forward(self, link: Link, to_server: bool) -> None:
        source, target = (link.client, link.server) if to_server else (link.server, link.client)
        with suppress(OSError):
            while data := source.recv(65536):
                link.flowing.wait()
                if to_server and self._marked and self._marked in data:
                    self._marked, link.doomed = b"", True
                elif not to_server and link.doomed:
                    self._lost.set()
                    break
                target.sendall(data)
        link.flowing.wait()
        link.cut()
        self._links.discard(link)
        source.close()
