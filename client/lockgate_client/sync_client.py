"""The sync client."""

import functools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from lockgate_client import calls
from lockgate_client.messages import NewTask, Taken, Task
from lockgate_client.steps import Limits, NextTask, Pause, Send, Step, Steps, arguments, options

P = ParamSpec("P")
T = TypeVar("T")


def _call(call: Callable[Concatenate[Limits, P], Steps[T]]) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._limits, *args, **kwargs))

    return method


def _series(call: Callable[Concatenate[Limits, P], calls.Series]) -> "Callable[Concatenate[Client, P], Iterator[Task]]":
    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Task]:
        return self._all(call(self._limits, *args, **kwargs))

    return method


class Client:
    """The service at this address; as a context manager, or with `close` at the end. Threads may share one.

    `key`: of the API. `timeout`: seconds in which an answer has to begin, and after which a call tries no more.
    `retries`: how often it tries again when there is no answer or the service is away, where that is safe; as late as
    the service asks for. Every call raises RequestFailed. `transport`: for certificates or proxies of your own.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 30,
        retries: int = 4,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._limits = Limits(timeout, retries)
        self._http = httpx.Client(**options(url, key, self._limits), transport=transport)

    submit = _call(calls.submit)
    submit_many = _call(calls.submit_many)
    wait = _call(calls.wait)
    get = _call(calls.get)
    list = _series(calls.list_tasks)
    events = _series(calls.events)
    failures = _call(calls.failures)
    output = _call(calls.output)
    cancel = _call(calls.cancel)
    retry = _call(calls.retry)
    change = _call(calls.change)
    delete = _call(calls.delete)
    queues = _call(calls.queues)
    change_queue = _call(calls.change_queue)
    slots = _call(calls.slots)

    def stream(self, tasks: Iterable[NewTask]) -> Taken:
        """Submits any number of tasks, taking no more memory for more of them, and says how many are stored.

        They go in requests of up to 10,000, sent after a second when fewer have come. When it fails, `taken` of the
        RequestFailed says how many of them, from the first, are stored: `itertools.islice(tasks, taken.lines, None)` is
        the rest.
        """
        return self._run(calls.stream(self._limits), tasks)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, steps: Steps[T], tasks: Iterable[NewTask] = ()) -> T:
        with _Performer(self._http, tasks) as performer:
            return performer.run(steps)

    def _all(self, series: calls.Series) -> Iterator[Task]:
        with _Performer(self._http) as performer:
            while not series.is_over:
                yield from performer.run(series.more())


class _Performer:
    """Does the steps of one call."""

    def __init__(self, http: httpx.Client, tasks: Iterable[NewTask] = ()) -> None:
        self._http = http
        self._tasks = iter(tasks)
        self._stream: httpx.Response | None = None
        self._lines: Iterator[str] = iter(())

    def run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    brought = self._do(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)
        except StopIteration as end:
            answer: T = end.value
            return answer

    def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return self._send(step)
            case Pause():
                return time.sleep(step.seconds)
            case NextTask():
                return next(self._tasks, None)
        return next(self._lines, None)

    def _send(self, send: Send) -> httpx.Response:
        self._close()
        response = self._http.send(self._http.build_request(**arguments(send)), stream=send.is_stream)
        if send.is_stream:
            self._stream, self._lines = response, response.iter_lines()
            if not response.is_success:
                response.read()
        return response

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
