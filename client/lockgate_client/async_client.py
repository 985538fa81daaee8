"""The async client."""

import asyncio
import functools
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from lockgate_client import calls
from lockgate_client.messages import NewTask, Taken, Task
from lockgate_client.steps import Limits, NextTask, Pause, Send, Step, Steps, arguments, options

P = ParamSpec("P")
T = TypeVar("T")


def _call(
    call: Callable[Concatenate[Limits, P], Steps[T]],
) -> "Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]":
    @functools.wraps(call)
    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(call(self._limits, *args, **kwargs))

    return method


def _series(
    call: Callable[Concatenate[Limits, P], calls.Series],
) -> "Callable[Concatenate[AsyncClient, P], AsyncIterator[Task]]":
    @functools.wraps(call)
    def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[Task]:
        return self._all(call(self._limits, *args, **kwargs))

    return method


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
        async with _Performer(self._http, tasks) as performer:
            return await performer.run(steps)

    async def _all(self, series: calls.Series) -> AsyncIterator[Task]:
        async with _Performer(self._http) as performer:
            while not series.is_over:
                for task in await performer.run(series.more()):
                    yield task


class _Performer:
    """Does the steps of one call."""

    def __init__(self, http: httpx.AsyncClient, tasks: Iterable[NewTask] | AsyncIterable[NewTask] = ()) -> None:
        self._http = http
        self._tasks = aiter(tasks if isinstance(tasks, AsyncIterable) else _async(tasks))
        self._stream: httpx.Response | None = None
        self._lines: AsyncIterator[str] = _async(())

    async def run(self, steps: Steps[T]) -> T:
        try:
            step = next(steps)
            while True:
                try:
                    brought = await self._do(step)
                except httpx.RequestError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(brought)
        except StopIteration as end:
            answer: T = end.value
            return answer

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
        await self._close()
        response = await self._http.send(self._http.build_request(**arguments(send)), stream=send.is_stream)
        if send.is_stream:
            self._stream, self._lines = response, response.aiter_lines()
            if not response.is_success:
                await response.aread()
        return response

    async def _close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()


async def _async(some: Iterable[T]) -> AsyncIterator[T]:
    for one in some:
        yield one
