"""An executor as its runner sees it: started, fed, asked, killed, and never mistaken for dead while it lives."""

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

import msgspec
import structlog

from lockgate_runner.claimed import Claimed
from lockgate_runner.executor.output import Output
from lockgate_runner.executor.protocol import (
    Alive,
    Ask,
    Control,
    Ended,
    Execute,
    Frames,
    FromExecutor,
    Heard,
    Progress,
    Ready,
    Refused,
    decode_from_executor,
    frame,
)

START_LIMIT = 60.0
"""Seconds the handlers may take to load."""

PAGE = os.sysconf("SC_PAGE_SIZE")

log = structlog.get_logger()


class HandlersNotLoaded(Exception):
    """The handlers cannot be imported in the executor; the text says why."""


class Executor:
    """One child process that executes one task at a time.

    ``ended`` is called with what the handler came to; ``died`` with the return code once the process *is* dead, its
    process group is killed and nothing it said before is still to come.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.pid = process.pid
        self.kinds: list[str] = []
        self.schemas: dict[str, msgspec.Raw] = {}
        """JSON Schemas of payloads, by kind."""
        self.alive = True
        self.stopping = False
        """Whether it was told to end; its death is no news then."""
        self.lease: int | None = None
        """The lease it executes; None while it waits."""
        self.tasks = 0
        """How many it has executed."""
        self.on_ended: Callable[[Ended], None] = lambda _: None
        self.on_progress: Callable[[Progress], None] = lambda _: None
        self.on_output: Callable[[int, int, bytes], None] = lambda _, __, ___: None
        self.on_died: Callable[[int], None] = lambda _: None
        self._process = process
        self._orders: asyncio.WriteTransport | None = None
        self._control: asyncio.WriteTransport | None = None
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._output: Output | None = None
        self._dying: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls) -> "Executor":
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
        executor = cls(process)
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
        reading, answering = await loop.connect_read_pipe(lambda: _Answers(self._hear), os.fdopen(answers, "rb", 0))
        answering.ended.add_done_callback(self._answers_ended)
        self._output = Output(output, lambda task, lease, data: self.on_output(task, lease, data))
        self._dying = asyncio.create_task(
            self._await_death(reading, answering.ended), name=f"executor {self.pid} death"
        )

    # -- orders -------------------------------------------------------------------------------------------------------

    def execute(self, task: Claimed, until: float) -> None:
        self.lease = task.lease
        self.tasks += 1
        if self._output:
            tag: dict[str, object] = {"queue": task.queue, "task": task.task, "kind": task.kind, "lease": task.lease}
            self._output.begin(task.task, task.lease, tag)
        order = Execute(
            task=task.task,
            lease=task.lease,
            queue=task.queue,
            kind=task.kind,
            payload=task.payload,
            attempt=task.attempt,
            max_attempts=task.max_attempts,
            until=until,
        )
        _send(self._orders, order)

    def live_until(self, until: float) -> None:
        """Renews the deadline. Left out while the pipe is full: an executor has to read to live on."""
        if self.lease is not None and self._control and self._control.get_write_buffer_size() == 0:
            _send(self._control, Alive(self.lease, until))

    def ask(self) -> None:
        """Asks the handler to stop."""
        if self.lease is not None:
            _send(self._control, Ask(self.lease))

    def heard(self) -> None:
        """The last progress is stored."""
        if self.lease is not None:
            _send(self._control, Heard(self.lease))

    def memory(self) -> int:
        """Bytes of memory it occupies now, its children not counted; 0 where the system does not say."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE
        except (OSError, IndexError):
            return 0

    def kill(self) -> None:
        """Kills the executor and all of its process group. Dead only once ``on_died`` was called."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Ends an executor that is not needed any more, and waits until it is dead."""
        self.stopping = True
        self.kill()
        if self._dying:
            await asyncio.wait([self._dying])

    # -- answers ------------------------------------------------------------------------------------------------------

    def _answers_ended(self, ended: "asyncio.Future[ValueError | None]") -> None:
        """The pipe has ended, or said something that is no answer; either way the executor is of no use."""
        if error := ended.result():
            log.error("executor spoke nonsense", executor=self.pid, error=str(error), lease=self.lease)
        self.kill()

    def _hear(self, message: FromExecutor) -> None:
        match message:
            case Ready():
                self._ready.set_result(message)
            case Refused():
                self._ready.set_exception(HandlersNotLoaded(message.reason))
            case Progress():
                if message.lease == self.lease:
                    self.on_progress(message)
            case Ended():
                if message.lease == self.lease:
                    if self._output:
                        self._output.drain()  # or the end of it would be taken for the next task's
                    self.lease = None
                    self.on_ended(message)

    async def _await_death(self, answers: asyncio.ReadTransport, answered: "asyncio.Future[ValueError | None]") -> None:
        await _exited(self._process)
        # While the dead process is not reaped its number cannot belong to another group: whatever it forked dies here.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        code = self._process.wait()
        # A process it forked out of its group may hold the pipes open; what the executor itself said has arrived by
        # now.
        await asyncio.wait([answered], timeout=1)
        answers.close()
        if self._output:
            self._output.close()
        self.alive = False
        _kept.discard(self.pid)
        for pipe in (self._orders, self._control):
            if pipe:
                pipe.close()
        if not self._ready.done():
            self._ready.set_exception(
                HandlersNotLoaded(f"the executor {describe_exit(code)} while loading the handlers")
            )
            self._ready.exception()
        self.on_died(code)


def _send(pipe: asyncio.WriteTransport | None, message: Execute | Control) -> None:
    if pipe and not pipe.is_closing():
        pipe.write(frame(message))


class _Answers(asyncio.Protocol):
    """What an executor says, until its pipe ends or says something that is no answer."""

    def __init__(self, heard: Callable[[FromExecutor], None]) -> None:
        self.ended: asyncio.Future[ValueError | None] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._frames = Frames()

    def data_received(self, data: bytes) -> None:
        if self.ended.done():
            return
        try:
            for body in self._frames.add(data):
                self._heard(decode_from_executor(body))
        except ValueError as error:
            self.ended.set_result(error)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


_reaper: "subprocess.Popen[bytes] | None" = None
_kept: set[int] = set()


def keep(pid: int) -> None:
    """Tells the reaper of a new executor; starts one where there is none, or the last one was killed."""
    global _reaper
    if not hasattr(os, "pidfd_open"):
        return  # only Linux has it; elsewhere what a dead executor leaves behind is left
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
    """Another has its place for the executors there are, but no sooner than a second after the start of this one."""
    loop = asyncio.get_running_loop()
    loop.remove_reader(death)
    os.close(death)
    loop.call_later(max(0.0, started + 1 - time.monotonic()), _keep_again)


def _keep_again() -> None:
    if _kept:
        keep(next(iter(_kept)))


def describe_exit(code: int) -> str:
    """A return code in words: "exited with 3", "was killed by SIGSEGV"."""
    if code >= 0:
        return f"exited with {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


async def _exited(process: "subprocess.Popen[bytes]") -> None:
    """Waits until the process has ended, without reaping it where the system allows that."""
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
