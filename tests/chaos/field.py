"""The system under test: a server, supervised runners, a witness outside, and somebody who submits."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from lockgate.embedded import Server
from lockgate.schema import apply, create_logins
from lockgate.witness import Witness
from tests.runner.process import CHECKOUT, children, command_line

AUDIT = """
create table audit (task bigint not null, lease bigint, status text not null);
create function audit() returns trigger language plpgsql as
$$ begin insert into audit values (new.id, new.lease, new.status); return null; end $$;
create trigger audit after update on lockgate.task for each row
  when (new.status in ('succeeded', 'failed', 'cancelled') and old.status is distinct from new.status)
  execute function audit();
"""


@dataclass
class Supervised:
    """One ``lockgate run``, started again when the supervisor itself was killed."""

    environment: dict[str, str]
    log: Path
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "lockgate", "run"],
                env=self.environment,
                cwd=CHECKOUT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def runner(self) -> int | None:
        """The process id of its runner now."""
        if self.process is None:
            return None
        return next((pid for pid in children(self.process.pid) if "-m runner" in command_line(pid)), None)

    def hands(self) -> list[int]:
        runner = self.runner()
        return [] if runner is None else [p for p in children(runner) if "runner.hand_process" in command_line(p)]

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)


@dataclass
class Field:
    """Everything of one run. `accepted` maps each task whose submission was answered to when that was."""

    folder: Path
    seed: int
    slots: int
    runners: int
    concurrency: int
    grace: float
    witness: Witness
    server: Server = field(init=False)
    supervised: list[Supervised] = field(default_factory=list)
    accepted: dict[int, float] = field(default_factory=dict)
    slot_history: list[tuple[float, int]] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.server = Server(self.folder / "data")
        self.random = random.Random(self.seed)
        self._feeder = threading.Thread(target=self._feed, name="feeder", daemon=True)

    def __enter__(self) -> "Field":
        self.server.start()
        apply(self.server.dsn())
        logins = create_logins(self.server.dsn(), self.server.password)
        with self.owner() as owner:
            owner.execute(AUDIT)
            owner.execute("update lockgate.queue set grace = %s, backoff_base = 0.1, max_attempts = 50", (self.grace,))
            owner.execute("select lockgate.set_slots('default', %s)", (self.slots,))
        self.slot_history.append((time.monotonic(), self.slots))
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("LOCKGATE_", "DATABASE_"))} | {
            "DATABASE_URL": self.server.dsn(logins["runner"]),
            "LOCKGATE_HANDLERS": "tests.chaos.handlers",
            "LOCKGATE_WITNESS": self.witness.address,
            "LOCKGATE_CONCURRENCY": str(self.concurrency),
            "LOCKGATE_MEMORY_LIMIT": "300",
            "LOCKGATE_ASK_LIMIT": "1",
            "LOCKGATE_LOG_FORMAT": "json",
        }
        for number in range(self.runners):
            one = Supervised(environment, self.folder / f"runner-{number}.log")
            one.start()
            self.supervised.append(one)
        self._feeder.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.done.set()
        self._feeder.join(10)
        for one in self.supervised:
            one.stop()
        for one in self.supervised:
            if one.process:
                try:
                    one.process.wait(15)
                except subprocess.TimeoutExpired:
                    one.process.kill()
        self.server.stop("immediate")

    def owner(self) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.server.dsn(), autocommit=True, connect_timeout=2)

    def _task(self) -> tuple[str, dict[str, float]]:
        seconds = self.random.choice([0.0, 0.05, 0.2, 0.5, 1.0, 2.0])
        kind = self.random.choices(["work", "compute", "crash", "leave", "refuse", "swell"], [80, 8, 3, 3, 3, 1])[0]
        match kind:
            case "crash" | "leave":
                return kind, {}
            case "swell":
                return kind, {"megabytes": 100, "seconds": seconds}
            case _:
                return kind, {"seconds": seconds}

    def _feed(self) -> None:
        """Keeps about 20 tasks waiting. Each is sent again under its key until somebody says it is stored."""
        connection: psycopg.Connection[Any] | None = None
        pending: tuple[str, dict[str, float], str] | None = None
        while not self.done.is_set():
            try:
                if connection is None:
                    connection = self.owner()
                row = connection.execute("select count(*) from lockgate.task where status = 'queued'").fetchone()
                if pending is None and row and row[0] >= 20:
                    self.done.wait(0.1)
                    continue
                kind, payload, key = pending or (*self._task(), str(uuid.uuid4()))
                pending = (kind, payload, key)
                stored = connection.execute(
                    "select lockgate.submit('default', %s, %s::jsonb, idempotency_key => %s)",
                    (kind, json.dumps(payload), key),
                ).fetchone()
                if stored:
                    self.accepted[stored[0]] = time.monotonic()
                pending = None
            except psycopg.Error:
                if connection:
                    with suppress(psycopg.Error):
                        connection.close()
                connection = None
                self.done.wait(0.2)
