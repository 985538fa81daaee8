"""The executor: the child process in which handlers run, started as ``python -P -m lockgate_runner.executor.child``.

The main thread takes one order after another: it arms the kernel timer, then executes the handler. Meanwhile the
control thread reads messages about that order, and arms the timer with each extended deadline. So the kernel also kills
a handler that keeps the interpreter's lock for longer than the grace: the safe side. When one of their pipes ends, the
runner is dead, and the executor kills itself.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from lockgate.handlers import Cancelled, Discard, Handler, Retry, Task, registry, setups
from lockgate.witness import Testimony
from lockgate_runner.executor import protocol, watchdog
from lockgate_runner.executor.protocol import End, Error, Execute, FromExecutor

RESULT_LIMIT = 1024 * 1024
"""Bytes of a result as JSON; lockgate.finish says the same."""

PROGRESS_LIMIT = 16 * 1024
"""Bytes of a progress report as JSON; lockgate.report_progress says the same."""

MESSAGE_LIMIT = 4 * 1024
"""Characters of an error's message."""

SCHEMA_LIMIT = 16 * 1024
"""Bytes of the JSON Schema of a payload; a larger one is not announced."""

TRACEBACK_LIMIT = 12 * 1024
"""Characters of its traceback: with the message, 16 KiB."""

INTERRUPT_SIGNAL = signal.SIGUSR2
"""Interrupts the main thread, whatever call it waits in."""


class Child:
    """This process: its pipes, its timer, and the handler that executes now."""

    def __init__(self, orders: int, control: int, answers: int) -> None:
        self._orders = orders
        self._control = control
        self._answers = answers
        self._timer = watchdog.timer()
        self._lock = threading.Lock()
        self._current: Task | None = None
        self._interrupted: int | None = None
        """The lease that was interrupted last, perhaps before its order was read: it comes through another pipe."""
        self._interruptible = False
        self._coroutine: asyncio.Task[Any] | None = None
        self._loop = asyncio.Runner()
        self._sending = threading.Lock()
        self._progress_lock = threading.Lock()
        self._progress_sent = False
        self._progress_next: msgspec.Raw | None = None

    def send(self, message: FromExecutor) -> None:
        data = memoryview(protocol.frame(message))
        with self._sending:
            while data:
                data = data[os.write(self._answers, data) :]

    def _report(self, lease: int, value: msgspec.Raw) -> None:
        """Sends progress, or keeps it as the next while an earlier one is not stored yet: the latest wins."""
        here = threading.current_thread() is threading.main_thread() and self._interruptible
        if here:
            self._interruptible = False  # or an interrupt could cut a frame in two
        with self._progress_lock:
            if self._progress_sent:
                self._progress_next, send = value, False
            else:
                self._progress_sent = send = True
        if send:
            self.send(protocol.Progress(lease, value))
        if here:
            self._interruptible = True
            if self._current and self._current.cancelled:
                self._interruptible = False
                raise Cancelled

    def _send_next(self, lease: int) -> None:
        with self._progress_lock:
            value, self._progress_next = self._progress_next, None
            self._progress_sent = value is not None
        if value is not None:
            self.send(protocol.Progress(lease, value))

    def work(self) -> None:
        """Executes what arrives, until the runner is dead."""
        signal.signal(INTERRUPT_SIGNAL, self._on_interrupt)
        threading.Thread(target=self._listen, name="control", daemon=True).start()
        try:
            for order in protocol.received(self._orders, protocol.decode_order):
                self._begin(order)
                ended = self._execute(order)
                for stream in (sys.stdout, sys.stderr):
                    with contextlib.suppress(Exception):  # a handler may have closed or replaced them
                        stream.flush()
                with self._lock:
                    self._current = None
                    self._timer.disarm()
                with self._progress_lock:
                    last, self._progress_next, self._progress_sent = self._progress_next, None, False
                if last is not None:
                    self.send(protocol.Progress(order.lease, last))
                self.send(ended)
        finally:
            die()

    def _begin(self, order: Execute) -> None:
        task = Task(
            id=order.task,
            lease=order.lease,
            queue=order.queue,
            kind=order.kind,
            attempt=order.attempt,
            max_attempts=order.max_attempts,
        )
        task.on_progress = self._reporter(order.lease)
        with self._lock:
            self._timer.arm(order.until)
            self._current = task
            task.cancelled = self._interrupted == order.lease

    def _listen(self) -> None:
        """The control thread."""
        try:
            for message in protocol.received(self._control, protocol.decode_control):
                with self._lock:
                    current = self._current if self._current and self._current.lease == message.lease else None
                    match message:
                        case protocol.Alive() if current:
                            self._timer.arm(message.until)
                        case protocol.Stored() if current:
                            self._send_next(current.lease)
                        case protocol.Interrupt():
                            self._interrupted = message.lease
                            if current:
                                self._interrupt(current)
                        case _:
                            pass  # about a handler that has ended meanwhile
        finally:
            die()

    def _reporter(self, lease: int) -> Callable[[Any], None]:
        return lambda value: self._report(lease, encode(value, "progress", PROGRESS_LIMIT))

    def _interrupt(self, task: Task) -> None:
        task.cancelled = True
        if self._coroutine:
            self._coroutine.get_loop().call_soon_threadsafe(self._coroutine.cancel)
        else:
            signal.pthread_kill(threading.main_thread().ident or 0, INTERRUPT_SIGNAL)

    def _on_interrupt(self, *_: object) -> None:
        if self._interruptible and self._current and self._current.cancelled:
            self._interruptible = False
            raise Cancelled

    def _execute(self, order: Execute) -> End:
        task = self._current
        assert task is not None  # noqa: S101 - begun with the same order
        try:
            handler = registry.get(order.kind)
            if handler is None:
                kinds = ", ".join(sorted(registry))
                raise LookupError(f"no handler of kind {order.kind!r} here; there are: {kinds}")
            arguments = handler.arguments(bytes(order.payload), task)
            with Testimony(os.environ.get("LOCKGATE_WITNESS"), order.queue, order.task, order.lease):
                try:
                    self._interruptible = not handler.is_async
                    if task.cancelled:
                        raise Cancelled
                    result = self._call(handler, arguments)
                finally:
                    self._interruptible = False
            return End(order.lease, "returned", result=encode(result, "result", RESULT_LIMIT))
        except (Cancelled, asyncio.CancelledError) as error:
            return End(order.lease, "cancelled" if task.cancelled else "raised", error=describe(error))
        except Retry as error:
            return End(order.lease, "retry", error=describe(error), retry_after=error.after)
        except Discard as error:
            return End(order.lease, "discard", error=describe(error))
        except BaseException as error:  # a handler may raise anything, SystemExit included; all of it is an outcome
            return End(order.lease, "raised", error=describe(error))

    def _call(self, handler: Handler, arguments: dict[str, Any]) -> Any:
        if not handler.is_async:
            return handler.function(**arguments)

        async def cancellable(coroutine: Coroutine[Any, Any, Any]) -> Any:
            with self._lock:
                self._coroutine = asyncio.current_task()
                if self._current and self._current.cancelled:
                    coroutine.close()
                    raise Cancelled
            try:
                return await coroutine
            finally:
                with self._lock:
                    self._coroutine = None

        return self._loop.run(cancellable(handler.function(**arguments)))


def encode(value: Any, what: str, limit: int) -> msgspec.Raw:
    """Returns a handler's result or progress as JSON of at most ``limit`` bytes.

    Raises:
        ValueError: it is too large, or holds what JSON or Postgres cannot: NaN, infinity, lone surrogates.
        TypeError: it holds objects that have no JSON form.
    """
    try:
        text = json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False, ensure_ascii=False)
        encoded = text.encode()
    except RecursionError:
        raise ValueError(f"the {what} is nested too deeply to be stored") from None
    except UnicodeEncodeError as error:
        raise ValueError(f"the {what} cannot be stored: {error.reason} (a lone surrogate)") from None
    except ValueError as error:
        raise ValueError(f"the {what} cannot be stored as JSON: {error}") from None
    if len(encoded) > limit:
        raise ValueError(f"the {what} is {len(encoded):,} bytes of JSON; the limit is {limit:,}")
    return msgspec.Raw(encoded)


def describe(error: BaseException) -> Error:
    """Returns an exception as stored: bounded, cleaned of what Postgres refuses, without our own frames."""

    def clean(text: str, limit: int) -> str:
        text = text.encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
        return text if len(text) <= limit else f"{text[: limit // 2]}\n[…]\n{text[-limit // 2 :]}"

    own = {__file__, threading.__file__}
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename not in own]
    lines = "".join(traceback.format_list(frames))
    try:
        message = str(error)
    except Exception as worse:  # an exception without a text must not cost us the outcome
        message = f"(its text cannot be had: {type(worse).__name__})"
    return Error(type(error).__qualname__, clean(message, MESSAGE_LIMIT), clean(lines, TRACEBACK_LIMIT) or None)


def die() -> None:
    """Kills this process and its process group."""
    os.killpg(os.getpgid(0), signal.SIGKILL)


def schemas() -> dict[str, msgspec.Raw]:
    """Returns the JSON Schema of each kind's payload, where there is one."""
    found: dict[str, msgspec.Raw] = {}
    for kind, handler in registry.items():
        with contextlib.suppress(Exception):  # hints may be of any type; checking payloads does not rest on this
            if schema := handler.schema():
                found[kind] = encode(schema, "schema", SCHEMA_LIMIT)
    return found


def load_handlers() -> None:
    """Imports the built-in handler and those of LOCKGATE_HANDLERS, the working directory searched last; sets up."""
    sys.path.append(os.getcwd())  # noqa: PTH109 - sys.path takes text
    importlib.import_module("lockgate_runner.sleep")
    for name in os.environ.get("LOCKGATE_HANDLERS", "").replace(",", " ").split():
        importlib.import_module(name)
    for setup in setups:
        setup()


def main() -> None:
    orders, control, answers, parent = map(int, sys.argv[1:5])
    if os.getpgrp() != os.getpid():
        sys.exit("lockgate_runner.executor.child is started by a runner, as the leader of a session of its own")
    watchdog.die_with_parent(parent)
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The runner decides when an executor ends. Not SIG_IGN, which programs started by a handler would inherit.
        signal.signal(signal_number, lambda *_: None)
    for descriptor in (orders, control, answers, int(os.environ.get("LOCKGATE_LIFELINE", "-1"))):
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
    child = Child(orders, control, answers)
    try:
        load_handlers()
    except BaseException as error:
        described = describe(error)
        child.send(protocol.Refused(f"{described.type}: {described.message}"))
        sys.exit(1)
    child.send(protocol.Ready(sorted(registry), schemas()))
    child.work()


if __name__ == "__main__":
    main()
