"""An executor as its runner sees it: started, fed, interrupted, killed, and dead only once its process is.

The answers of all executors of a runner are one stream of frozen values. Each executor passes them to the function it
was started with, in the order in which they happened: its death comes last.
"""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog

from lockgate_runner.executor import protocol, watchdog
from lockgate_runner.executor.output import Output, Printed
from lockgate_runner.executor.protocol import End, Execute, Progress

START_LIMIT = 60.0
"""Seconds the handlers may take to load."""

PAGE = os.sysconf("SC_PAGE_SIZE")

log = structlog.get_logger()


class HandlersNotLoaded(Exception):
    """The handlers cannot be imported in the executor; the text says why."""


class Started(msgspec.Struct, frozen=True):
    """This executor has loaded its handlers."""

    executor: "Executor"


class NotStarted(msgspec.Struct, frozen=True):
    """An executor could not load its handlers, or not be started at all."""

    reason: str


class Progressed(msgspec.Struct, frozen=True):
    """The handler that executes there has reported progress."""

    executor: "Executor"
    progress: Progress


class Ended(msgspec.Struct, frozen=True):
    """The handler there has ended, so many seconds after its executor was given the task."""

    executor: "Executor"
    end: End
    seconds: float


class Died(msgspec.Struct, frozen=True):
    """The executor is dead, with its process group. ``at`` is on the clock of deadlines."""

    executor: "Executor"
    code: int
    seconds: float
    at: float


Answer: TypeAlias = Started | NotStarted | Progressed | Printed | Ended | Died


class Executor:
    """One child process that executes one task at a time."""

    def __init__(self, process: "subprocess.Popen[bytes]", answer: Callable[[Answer], None]) -> None:
        self.pid = process.pid
        self.kinds: list[str] = []
        self.schemas: dict[str, msgspec.Raw] = {}
        """JSON Schemas of payloads, by kind."""
        self.alive = True
        self.stopping = False
        """Whether the runner ends it; its death is no news then."""
        self.lease: int | None = None
        """The lease it executes; None once it has answered or is dead."""
        self.tasks = 0
        """The number of tasks it was given."""
        self.death: asyncio.Task[None]
        self._process = process
        self._answer = answer
        self._begun = time.monotonic()
        self._orders: asyncio.WriteTransport | None = None
        self._control: asyncio.WriteTransport | None = None
        self._ready: asyncio.Future[protocol.Ready] = asyncio.get_running_loop().create_future()
        self._answers = -1
        self._frames = protocol.Frames()
        self._answers_ended = asyncio.Event()
        self._output: Output | None = None

    @classmethod
    async def start(cls, answer: Callable[[Answer], None]) -> "Executor":
        """Starts an executor and waits until its handlers are loaded.

        Call it on the main thread: see PDEATHSIG in prctl(2).

        Raises:
            HandlersNotLoaded: importing them failed, or took longer than START_LIMIT.
        """
        orders_out, orders_in = os.pipe()
        control_out, control_in = os.pipe()
        answers_out, answers_in = os.pipe()
        output_out, output_in = os.pipe()
        theirs = [orders_out, control_out, answers_in]
        lifeline = int(os.environ.get("LOCKGATE_LIFELINE", "-1"))
        process = subprocess.Popen(  # noqa: ASYNC220 - vfork and exec, about two milliseconds
            [sys.executable, "-P", "-m", "lockgate_runner.executor.child", *map(str, [*theirs, os.getpid()])],
            pass_fds=[*theirs, *([lifeline] if lifeline >= 0 else [])],
            stdin=subprocess.DEVNULL,
            stdout=output_in,
            stderr=output_in,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
            start_new_session=True,
        )
        for descriptor in (*theirs, output_in):
            os.close(descriptor)
        executor = cls(process, answer)
        keep(executor.pid)
        await executor._attach(orders_in, control_in, answers_out, output_out)
        try:
            async with asyncio.timeout(START_LIMIT):
                ready = await asyncio.shield(executor._ready)
                executor.kinds, executor.schemas = ready.kinds, ready.schemas
        except TimeoutError:
            await executor.stop()
            raise HandlersNotLoaded(f"the handlers took longer than {START_LIMIT:.0f} s to load") from None
        except BaseException:
            await executor.stop()
            raise
        return executor

    async def _attach(self, orders: int, control: int, answers: int, output: int) -> None:
        loop = asyncio.get_running_loop()
        self._orders, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(orders, "wb", 0))
        self._control, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(control, "wb", 0))
        self._answers = answers
        os.set_blocking(answers, False)
        loop.add_reader(answers, self._read)
        self._output = Output(output, self._answer)
        self.death = asyncio.create_task(self._await_death(), name=f"executor {self.pid} death")

    # -- orders -------------------------------------------------------------------------------------------------------

    def execute(self, order: Execute) -> None:
        """Gives it a task."""
        self.lease, self._begun = order.lease, time.monotonic()
        self.tasks += 1
        if self._output:
            self._output.begin(order)
        _send(self._orders, order)

    def live_until(self, until: float) -> None:
        """Extends the deadline, unless the pipe is full: an executor has to read to live on."""
        if self.lease is not None and self._control and self._control.get_write_buffer_size() == 0:
            _send(self._control, protocol.Alive(self.lease, until))

    def interrupt(self) -> None:
        """Interrupts the handler."""
        if self.lease is not None:
            _send(self._control, protocol.Interrupt(self.lease))

    def progress_stored(self) -> None:
        """Lets the executor send the next progress."""
        if self.lease is not None:
            _send(self._control, protocol.Stored(self.lease))

    def memory(self) -> int:
        """Returns the bytes of memory it occupies now, without its children; 0 where the system does not say."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    def kill(self) -> None:
        """Kills the executor and its process group. It is dead only once `Died` has come."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends an executor that is not needed any more, and waits until it is dead."""
        self.stopping = True
        self.kill()
        await asyncio.wait([self.death])

    # -- answers ------------------------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Takes the answers there are. Kills an executor whose pipe has ended or carries anything else."""
        try:
            data = os.read(self._answers, protocol.READ_SIZE)
            for body in self._frames.add(data):
                self._received(protocol.decode_from_executor(body))
            if data:
                return
        except BlockingIOError:
            return
        except ValueError as error:
            log.error("executor protocol error", executor=self.pid, error=str(error), lease=self.lease)
        asyncio.get_running_loop().remove_reader(self._answers)
        self._answers_ended.set()
        self.kill()

    def _received(self, message: protocol.FromExecutor) -> None:
        match message:
            case protocol.Ready():
                self._ready.set_result(message)
            case protocol.Refused():
                self._ready.set_exception(HandlersNotLoaded(message.reason))
            case Progress() if message.lease == self.lease:
                self._answer(Progressed(self, message))
            case End() if message.lease == self.lease:
                seconds = time.monotonic() - self._begun
                if self._output:
                    self._output.drain()  # or the end of it would be taken for the next task's
                self.lease = None
                self._answer(Ended(self, message, seconds))
            case _:
                pass  # about a lease that is over

    async def _await_death(self) -> None:
        await _exited(self._process)
        # While the dead process is not reaped its number cannot belong to another group: whatever it forked dies here.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        # A process it forked out of its group may hold the pipes open; the executor's own answers have arrived by now.
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                await self._answers_ended.wait()
        asyncio.get_running_loop().remove_reader(self._answers)
        os.close(self._answers)
        if self._output:
            self._output.close()
        self.alive, self.lease = False, None
        _kept.discard(self.pid)
        for pipe in (self._orders, self._control):
            if pipe:
                pipe.close()
        if not self._ready.done():
            self._ready.set_exception(
                HandlersNotLoaded(f"the executor {describe_exit(code)} while loading the handlers")
            )
            self._ready.exception()
        self._answer(Died(self, code, time.monotonic() - self._begun, watchdog.now()))


def _send(pipe: asyncio.WriteTransport | None, message: Execute | protocol.Control) -> None:
    if pipe and not pipe.is_closing():
        pipe.write(protocol.frame(message))


_reaper: "subprocess.Popen[bytes] | None" = None
_kept: set[int] = set()


def keep(pid: int) -> None:
    """Tells the reaper of a new executor; starts a reaper where there is none, or the last one was killed."""
    global _reaper
    if not hasattr(os, "pidfd_open"):
        return  # only Linux has it; elsewhere the processes that a dead executor leaves behind live on
    _kept.add(pid)
    news = {pid}
    for _ in range(2):
        if _reaper is None or _reaper.poll() is not None:
            news = _kept
            lifeline = int(os.environ.get("LOCKGATE_LIFELINE", "-1"))
            _reaper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("reaper.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[lifeline] if lifeline >= 0 else [],
                start_new_session=True,
                bufsize=0,
            )
            death = os.pidfd_open(_reaper.pid)
            asyncio.get_running_loop().add_reader(death, _reaper_died, death, time.monotonic())
        with suppress(BrokenPipeError):
            if _reaper.stdin:
                _reaper.stdin.write(b"".join(b"%d\n" % executor for executor in news))
            return


def _reaper_died(death: int, started: float) -> None:
    """Starts another reaper for the executors there are, at the earliest a second after the start of this one."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(death)
    os.close(death)
    loop.call_later(max(0.0, started + 1 - time.monotonic()), _keep_again)


def _keep_again() -> None:
    if _kept:
        keep(next(iter(_kept)))


def describe_exit(code: int) -> str:
    """Returns a return code in words: "exited with 3", "was killed by SIGSEGV"."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def _exited(process: "subprocess.Popen[bytes]") -> None:
    """Waits until the process has ended, if possible without reaping it."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    if hasattr(os, "pidfd_open"):
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, done.set)
        try:
            await done.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
    else:
        threading.Thread(target=lambda: (process.wait(), loop.call_soon_threadsafe(done.set)), daemon=True).start()
        await done.wait()
