"""What a call does, step by step, for whoever does it: a sync or an async client. Nothing here touches a network.

A call is a generator. It yields steps, is given what each brought, and returns its answer.
"""

import random
import time
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
from msgspec import DecodeError, ValidationError, json

from lockgate_client.messages import Problem, RequestFailed, Task, read_time

T = TypeVar("T")

PAUSE_SECONDS = 0.1  # after the first failure; doubled after each
PAUSE_SECONDS_MAX = 5.0
CONNECT_SECONDS = 5.0
# A proxy says 502 and 504 while the service is away.
AWAY = frozenset({502, 503, 504})
_NOTHING_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


@dataclass(frozen=True)
class Limits:
    """`timeout`: seconds in which an answer has to begin, and after which a call tries no more. `retries`: how often it
    tries again."""

    timeout: float
    retries: int


@dataclass(frozen=True)
class Send:
    """Brings the httpx.Response; raises httpx.RequestError. `content`: JSON unless a header says otherwise. `seconds`:
    the longest silence until it answers, None for the client's. With `is_stream` its lines are to be read one by one.
    """

    method: str
    path: str
    content: bytes | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    seconds: float | None = None
    is_repeatable: bool = True
    is_stream: bool = False


@dataclass(frozen=True)
class NextLine:
    """Brings a line of the latest answer that is a stream, None at its end; raises httpx.RequestError."""


@dataclass(frozen=True)
class NextTask:
    """Brings the next task that is to be submitted, None after the last."""


@dataclass(frozen=True)
class Pause:
    """Brings nothing, later."""

    seconds: float


@dataclass(frozen=True)
class Found:
    """Hands on the next tasks of a call that brings several things, one after the other."""

    tasks: list[Task]


Step = Send | NextLine | NextTask | Pause
Steps = Generator[Step | Found, Any, T]


def exchange(limits: Limits, send: Send, until: float | None = None) -> Steps[httpx.Response]:
    """The answer, if it is none of an error. What is safe to be sent again is, while there is no answer or the service
    is away: some times, or up to that time. Raises RequestFailed."""
    deadline = time.monotonic() + limits.timeout if until is None else until
    tries = 0
    while True:
        tries += 1
        try:
            response: httpx.Response = yield send
        except httpx.RequestError as error:
            failure = RequestFailed(f"{send.method} {send.path}: no answer: {error or type(error).__name__}")
            failure.__cause__ = error
            may_try = send.is_repeatable or isinstance(error, _NOTHING_SENT)
        else:
            if response.is_success:
                return response
            failure = refusal(send, response)
            may_try = send.is_repeatable and failure.status in AWAY
        pause = max(pause_after(tries), failure.retry_after or 0)
        is_last = until is None and tries > limits.retries
        if not may_try or is_last or time.monotonic() + pause > deadline:
            raise failure
        yield Pause(pause)


def pause_after(failures: int) -> float:
    """Seconds until the next try: longer after each failure, and not the same for everybody."""
    return min(PAUSE_SECONDS * 2.0 ** min(failures - 1, 10), PAUSE_SECONDS_MAX) * random.uniform(0.8, 1.2)  # noqa: S311


def refusal(send: Send, response: httpx.Response) -> RequestFailed:
    """Also for what a proxy says, which is no problem document."""
    try:
        problem = json.decode(response.content, type=Problem)
    except DecodeError:
        problem = Problem("about:blank", response.reason_phrase, response.status_code, response.text[:500])
    after = response.headers.get("Retry-After", "")
    return RequestFailed(
        f"{send.method} {send.path}: {problem.status} {problem.title}: {problem.detail}",
        problem,
        float(after) if after.isdecimal() else None,
    )


def answer(limits: Limits, send: Send, into: type[T], until: float | None = None) -> Steps[T]:
    """As `exchange`, decoded."""
    return decoded((yield from exchange(limits, send, until)).content, into)


def decoded(content: bytes | str, into: type[T]) -> T:
    """Raises RequestFailed."""
    try:
        return json.decode(content, type=into, dec_hook=read_time)
    except (DecodeError, ValidationError) as error:
        raise RequestFailed(f"the answer cannot be understood: {error}") from error


def options(url: str, key: str | None, limits: Limits) -> dict[str, Any]:
    """For httpx.Client and httpx.AsyncClient."""
    return {
        "base_url": url,
        "headers": {"Authorization": f"Bearer {key}"} if key else {},
        "timeout": _timeout(limits.timeout),
    }


def arguments(send: Send) -> dict[str, Any]:
    """For their `build_request`."""
    is_json = {} if send.content is None else {"Content-Type": "application/json"}
    found: dict[str, Any] = {
        "method": send.method,
        "url": send.path,
        "content": send.content,
        "params": send.params,
        "headers": {**is_json, **send.headers},
    }
    return found if send.seconds is None else found | {"timeout": _timeout(send.seconds)}


def _timeout(seconds: float) -> httpx.Timeout:
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_SECONDS))
