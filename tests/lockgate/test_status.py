"""`lockgate status`: what it shows, on terminals of any size, and while the database is away."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest
from rich.console import Console

from lockgate.commands.status import Failure, Queue, Slot, Snapshot, fitting
from tests.contract import Contract
from tests.database import Database
from tests.lockgate.ask import Away, ask
from tests.lockgate.up import LIMIT, environment


def shown(db: Database) -> str:
    said = ask(db, "status", "--once", COLUMNS="100", LINES="60")
    assert said.exit_code == 0, said.output
    return said.stdout


def test_two_of_two_are_busy_while_four_runners_stand_by(q: Contract, db: Database) -> None:
    for _ in range(3):
        q.submit()
    runners = [q.runner(f"host-{number}") for number in range(6)]
    runners[0].work(1)
    runners[1].work(2)
    screen = shown(db)
    assert "default  ■■  2 of 2 busy   ○○○○ 4 runners stand by" in screen
    assert re.search(r"1 queued · 0 scheduled · the oldest waits \d", screen)
    assert "6 runners" in screen.splitlines()[0]
    for said in ("━ slot 1 ━", "━ slot 2 ━", "task 1 ", "task 2 ", "host-0", "host-1"):
        assert said in screen
    assert "host-2" not in screen


def test_who_stands_by_serves_the_queue_and_has_room(q: Contract, db: Database) -> None:
    q.queue("other")
    q.runner(queues=["other"])
    q.runner(concurrency=2, queues=["other", "default"]).take(1, "other")
    q.runner().take(2, "other")
    default, other = (line for line in shown(db).splitlines() if "busy" in line)
    assert "1 runner stands by" in default
    assert "1 runner stands by" in other


def test_free_slots_say_who_is_ready_in_them(q: Contract, db: Database) -> None:
    q.runner("patient").take(2)
    screen = shown(db)
    assert "□□  0 of 2 busy" in screen
    assert "patient" in screen
    assert len(re.findall("free +ready", screen)) == 1


def test_a_runner_that_is_gone_is_said(q: Contract, db: Database) -> None:
    q.submit()
    runner = q.runner()
    runner.work()
    runner.die()
    assert "its runner is gone" in shown(db)


def test_what_keeps_tasks_waiting_is_said(q: Contract, db: Database) -> None:
    q.submit()
    assert "no runner serves it" in shown(db)
    q.queue(paused=True)
    assert "paused" in shown(db)
    q.queue(slots=0)
    assert "no slots" in shown(db)


def test_many_are_counted_to_ten_thousand(db: Database) -> None:
    db.query(
        "insert into task (queue, kind, status, max_attempts, payload, run_at) "
        "select 'default', 'sleep', 'scheduled', 1, '{}', now() + interval '1 h' from generate_series(1, 10001)"
    )
    assert "0 queued · 10000+ scheduled" in shown(db)


def test_the_newest_failures_are_shown(q: Contract, db: Database) -> None:
    tasks = [q.row("failed") for _ in range(7)]
    screen = shown(db)
    assert [int(number) for number in re.findall(r"ago  task (\d+)  sleep  Boom: it went wrong", screen)] == tasks[
        :1:-1
    ]


def snapshot(slots: int, queues: int = 1) -> Snapshot:
    """As full and with names as long as can be."""
    many = tuple(Slot(n, 10**9 + n, "kind" * 50, 99.0, "runner" * 20, n % 7 > 0) for n in range(1, slots + 1))
    queue = Queue("q" * 63, slots, True, slots, "10000+", "10000+", 1e6, 12, True, many)
    return Snapshot((queue,) * queues, (Failure(10**9, "q" * 63, "kind" * 50, 5.0, "error " * 40),) * 5, 1000, 1000)


def drawn(snapshot: Snapshot, width: int, height: int, trouble: str | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(fitting(console, snapshot, "host:5432/database", "12:00:00", trouble))
    return capture.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
@pytest.mark.parametrize("slots", [0, 1, 2, 12, 40, 1000])
def test_it_is_no_wider_than_the_terminal_and_says_the_numbers(width: int, slots: int) -> None:
    for height in (10, 24, 60, 150):
        lines = drawn(snapshot(slots), width, height)
        assert max(map(len, lines)) <= width
        [heading] = [line for line in lines if line.startswith("qqq")]
        assert (f"{slots} of {slots} busy" if slots else "no slots") in heading


@pytest.mark.parametrize(("height", "seen"), [(300, "┏━ slot 40 ━"), (60, "40 ■ 1000000040 99 s kind"), (20, "■" * 40)])
def test_each_slot_is_shown_with_as_much_as_there_is_room_for(height: int, seen: str) -> None:
    lines = drawn(snapshot(40), 120, height)
    assert len(lines) <= height
    assert any(seen in line for line in lines), "\n".join(lines)


def test_a_database_that_is_away_is_said_above_what_was_seen_last() -> None:
    lines = drawn(snapshot(2), 100, 40, "the database cannot be reached: refused")
    assert lines[1].strip() == "the database cannot be reached: refused; shown is 12:00:00"
    assert any("2 of 2 busy" in line for line in lines)


class Terminal:
    """`lockgate status` on a terminal of its own."""

    def __init__(self, db: Database) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        settings = environment(DATABASE_URL=db.service, TERM="xterm-256color")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lockgate", "status"], env=settings, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)

    def read(self, words: str) -> str:
        """What it writes from now on, up to and with these words; colours left out."""
        end = time.monotonic() + LIMIT
        read = ""
        while words not in read:
            assert time.monotonic() < end, f"{words!r} is not in {read!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    read += re.sub("\x1b\\[[0-9;]*m", "", os.read(self._ours, 65536).decode(errors="replace"))
                except OSError:  # closed on the other side
                    assert words in read, f"{words!r} is not in {read!r}"
        return read

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(db: Database) -> Iterator[Terminal]:
    terminal = Terminal(db)
    yield terminal
    terminal.close()


def test_it_is_live_and_ctrl_c_leaves_the_terminal_as_it_was(q: Contract, terminal: Terminal) -> None:
    terminal.read("0 queued")
    q.submit()
    terminal.read("1 queued")
    terminal.process.send_signal(signal.SIGINT)
    terminal.read("\x1b[?1049l")
    assert terminal.process.wait(LIMIT) == 0


def test_it_goes_on_when_the_database_is_back(db: Database, terminal: Terminal) -> None:
    terminal.read("0 queued")
    with Away(db):
        terminal.read("; shown is ")
    db.query("select submit('default', 'sleep')")
    terminal.read("1 queued")
    terminal.process.terminate()
    assert terminal.process.wait(LIMIT) == 128 + signal.SIGTERM
