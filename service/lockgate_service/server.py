"""HTTP itself: uvicorn's, but for what it says to a request that is none."""

from http import HTTPStatus

import h11
from msgspec import json
from uvicorn.protocols.http.h11_impl import H11Protocol

from lockgate_service.http.middleware import dressed
from lockgate_service.http.problems import MEDIA_TYPE, invalid, problem


def protocol(root: str) -> type[H11Protocol]:
    """`root`: what comes before every path, where a proxy has it so."""
    refusal = invalid("request", "is not HTTP/1.1, or its first line and headers have more than 64 KiB")
    body = json.encode(problem(refusal, root))
    headers = dressed(
        [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
        ],
        root,
    )

    class Protocol(H11Protocol):
        """Answers with a problem document, as to everything else that is wrong; if it has not begun to answer."""

        def send_400_response(self, msg: str) -> None:  # noqa: ARG002  (always the same)
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                for event in (
                    h11.Response(status_code=400, headers=headers, reason=HTTPStatus.BAD_REQUEST.phrase.encode()),
                    h11.Data(data=body),
                    h11.EndOfMessage(),
                ):
                    self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Protocol
