"""The two clients: each does the steps of the calls in its way."""

import asyncio
import functools
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from lockgate_client import calls
from lockgate_client.messages import NewTask, Taken, Task
from lockgate_client.steps import Found, Limits, NextTask, Pause, Send, Step, Steps, arguments, options

P = ParamSpec("P")
T = TypeVar("T")


def _call(call: Callable[Concatenate[Limits, P], Steps[T]]) -> "Callable[Concatenate[Client, P], T]":
    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(call(self._limits, *args, **kwargs))

    return method


def _series(call: Callable[Concatenate[Limits, P], Steps[None]]) -> "Callable[Concatenate[Client, P], Iterator[Task]]":
    @functools.wraps(call)
    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[Task]:
        return self._all(call(self._limits, *args, **kwargs))

    return method


def _async_call(
    call: Callable[Concatenate[Limits, P], Steps[T]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    @functools.wraps(call)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(call(self._limits, *args, **kwargs))

    return method


def _async_series(
    call: Callable[Concatenate[Limits, P], Steps[None]],
) -> "Callable[Concatenate[AsyncClient, P], AsyncIterator[Task]]":
    @functools.wraps(call)
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Task]:
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
            answer: T = performer.run(steps)
            return answer

    def _all(self, steps: Steps[None]) -> Iterator[Task]:
        with _Performer(self._http) as performer:
            while found := performer.run(steps):
                yield from found.tasks


class AsyncClient:
    """`Client` for asyncio: the same calls, to be awaited, or iterated over with `async for`."""

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        timeout: float = 30,
        retries: int = 4,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._limits = Limits(timeout, retries)
        self._http = httpx.AsyncClient(**options(url, key, self._limits), transport=transport)

    submit = _async_call(calls.submit)
    submit_many = _async_call(calls.submit_many)
    wait = _async_call(calls.wait)
    get = _async_call(calls.get)
    list = _async_series(calls.list_tasks)
    events = _async_series(calls.events)
    failures = _async_call(calls.failures)
    output = _async_call(calls.output)
    cancel = _async_call(calls.cancel)
    retry = _async_call(calls.retry)
    change = _async_call(calls.change)
    delete = _async_call(calls.delete)
    queues = _async_call(calls.queues)
    change_queue = _async_call(calls.change_queue)
    slots = _async_call(calls.slots)

    async def stream(self, tasks: Iterable[NewTask] | AsyncIterable[NewTask]) -> Taken:
        """As `Client.stream`."""
        return await self._run(calls.stream(self._limits), tasks)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _run(self, steps: Steps[T], tasks: Iterable[NewTask] | AsyncIterable[NewTask] = ()) -> T:
        async with _AsyncPerformer(self._http, tasks) as performer:
            answer: T = await performer.run(steps)
            return answer

    async def _all(self, steps: Steps[None]) -> AsyncIterator[Task]:
        async with _AsyncPerformer(self._http) as performer:
            while found := await performer.run(steps):
                for task in found.tasks:
                    yield task


class _Performer(ExitStack):
    """Does the steps of one call. Holds its latest answer that is a stream."""

    def __init__(self, http: httpx.Client, tasks: Iterable[NewTask] = ()) -> None:
        super().__init__()
        self._http = http
        self._tasks = iter(tasks)
        self._lines: Iterator[str] = iter(())

    def run(self, steps: Steps[Any]) -> Any:
        """Its answer, or what it has found by then."""
        try:
            step = next(steps)
            while not isinstance(step, Found):
                try:
                    brought = self._do(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)
        except StopIteration as end:
            return end.value
        return step

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
        self.close()
        response = self._http.send(self._http.build_request(**arguments(send)), stream=send.is_stream)
        if send.is_stream:
            self.callback(response.close)
            self._lines = response.iter_lines()
            if not response.is_success:
                response.read()
        return response


class _AsyncPerformer(AsyncExitStack):
    """As `_Performer`."""

    def __init__(self, http: httpx.AsyncClient, tasks: Iterable[NewTask] | AsyncIterable[NewTask] = ()) -> None:
        super().__init__()
        self._http = http
        self._tasks = aiter(tasks if isinstance(tasks, AsyncIterable) else _async(tasks))
        self._lines: AsyncIterator[str] = _async(())

    async def run(self, steps: Steps[Any]) -> Any:
        """Its answer, or what it has found by then."""
        try:
            step = next(steps)
            while not isinstance(step, Found):
                try:
                    brought = await self._do(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)
        except StopIteration as end:
            return end.value
        return step

    async def _do(self, step: Step) -> Any:
        match step:
            case Send():
                return await self._send(step)
            case Pause():
                return await asyncio.sleep(step.seconds)
            case NextTask():
                return await anext(self._tasks, None)
        return await anext(self._lines, None)

    async def _send(self, send: Send) -> httpx.Response:
        await self.aclose()
        response = await self._http.send(self._http.build_request(**arguments(send)), stream=send.is_stream)
        if send.is_stream:
            self.push_async_callback(response.aclose)
            self._lines = response.aiter_lines()
            if not response.is_success:
                await response.aread()
        return response


async def _async(some: Iterable[T]) -> AsyncIterator[T]:
    for one in some:
        yield one
