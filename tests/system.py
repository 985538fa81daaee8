"""A whole system, once: a server with the schema and an audit, the programs beside it, and a witness outside.

The harnesses of tests/faults and of tests/amqp add to it what they break, and how they judge.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from functools import cached_property
from typing import Any, Generic, Protocol, Self, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from lockgate.schema import apply, create_logins
from lockgate.witness import Execution, Witness
from tests.contract import Contract, until
from tests.database import Database
from tests.runner.process import RunnerProcess, runners_of
from tests.service.conftest import Process

T = TypeVar("T")
P = TypeVar("P", bound="Place")

LIMIT = 60.0
"""Seconds for anything to happen at all."""

RETRY = 0.05
"""Seconds between two tries of a submitter."""

AWAY = (psycopg.OperationalError, psycopg.InterfaceError)
"""What a statement raises while the server is away, or is about to be."""

AUDIT = """
create table lockgate.audit (
  number bigint generated always as identity primary key, at timestamptz not null default clock_timestamp(),
  task bigint not null, before text not null, after text not null, lease bigint, new_lease bigint, slot int,
  attempt int, max_attempts int);
create function lockgate.audit() returns trigger language plpgsql as $$
begin
  insert into lockgate.audit (task, before, after, lease, new_lease, slot, attempt, max_attempts)
  values (old.id, old.status, case when tg_op = 'DELETE' then 'deleted' else new.status::text end, old.lease, new.lease,
          coalesce(new.slot, old.slot), new.attempt, new.max_attempts);
  return null;
end $$;
create trigger audit_change after update on lockgate.task for each row
  when (new.status is distinct from old.status or new.lease is distinct from old.lease)
  execute function lockgate.audit();
create trigger audit_delete after delete on lockgate.task for each row execute function lockgate.audit();
"""
"""The transaction that changes a task writes it, so neither can be without the other."""

ENDS = """
select task from lockgate.audit
where after in ('succeeded', 'failed', 'cancelled') and before not in ('succeeded', 'failed', 'cancelled')
"""

UNENDED = "select count(*) from lockgate.task where status in ('scheduled', 'queued', 'running')"


class Place(Protocol):
    """A server, or a pair of them of which one is the primary."""

    def dsn(self, user: str = ..., /) -> str:
        """The URL for this login, the administrator's without one."""

    def password(self, user: str) -> str: ...


class Supervised(RunnerProcess):
    """A `lockgate run`: its pid is the supervisor's, its lines are those of all its runners."""

    def __init__(self, url: str, witness: str | None = None, **given: Any) -> None:
        super().__init__(url, witness, **{"module": "lockgate run"} | given)

    def runner(self) -> int:
        """The process id of its runner."""
        return until(lambda: next(iter(runners_of(self.pid)), None), "a runner")

    def spare(self) -> int:
        """Waits until there is a spare that has loaded everything; its process id."""
        until(lambda: self._last() == "spare ready", f"a spare {self.noise}")
        return runners_of(self.pid)[-1]

    def _last(self) -> str:
        """What was heard last, a runner's beginning or a spare's."""
        return next((e for line in reversed(self.lines) if (e := line["event"]) in ("connected", "spare ready")), "")

    def told(self, since: float) -> list[tuple[str, float]]:
        """What its runners have logged since that time.time(), and how many seconds later."""
        lines = [(str(line["event"]), datetime.fromisoformat(line["time"]).timestamp()) for line in list(self.lines)]
        return [(event, at - since) for event, at in lines if at >= since]


class System(Generic[P]):
    """A context on a server that runs. It ends whatever it has started.

    `handlers`: the module of the runners'. `patience`: seconds the administrator waits for a connection.
    """

    def __init__(self, server: P, witness: Witness, *, handlers: str, patience: int = 20) -> None:
        self.server = server
        self.witness = witness
        self.over = threading.Event()
        """Set when everybody should come to an end."""
        self.programs: list[RunnerProcess | Process] = []
        self.stack = ExitStack()
        """What else ends with it, once the programs have ended."""
        self.handlers = handlers
        self._patience = patience

    def __enter__(self) -> Self:
        apply(self.server.dsn())
        self._logins = create_logins(self.server.dsn(), self.server.password)
        with self.owner() as owner:
            owner.execute(AUDIT)
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.clear()
        self.stack.close()

    def clear(self) -> None:
        """Ends all programs."""
        for one in list(self.programs):
            self.close(one)

    @property
    def runners(self) -> list[Supervised]:
        return [one for one in self.programs if isinstance(one, Supervised)]

    # -- the database -------------------------------------------------------------------------------------------------

    def url(self, use: str) -> str:
        """For the login of the service, of runners or of a viewer."""
        return self.server.dsn(self._logins[use])

    def owner(self) -> "psycopg.Connection[Any]":
        """A connection of the one who may do everything. Raises psycopg.Error while the server is away."""
        return psycopg.connect(self.server.dsn(), autocommit=True, connect_timeout=self._patience)

    @cached_property
    def q(self) -> Contract:
        """The contract, for a server that stays."""
        owner = self.server.dsn()
        admin = make_conninfo(owner, options="-c search_path=lockgate,public")
        db = Database("lockgate", admin, owner, self.url("service"), self.url("runner"), self.url("viewer"))
        self.stack.callback(db.close)
        return Contract(db)

    def ask(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Rows, or none while the server is away."""
        with suppress(*AWAY), self.owner() as owner:
            return owner.execute(text.encode(), parameters or None).fetchall()
        return []

    def insist(self, text: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Executes it, as often as it takes unless it is over; its rows."""
        while not self.over.is_set():
            with suppress(*AWAY), self.owner() as owner:
                done = owner.execute(text.encode(), parameters or None)
                return done.fetchall() if done.description else []
            self.over.wait(0.2)
        return []

    # -- the programs -------------------------------------------------------------------------------------------------

    def start(self, module: str = "lockgate run", *, use: str = "runner", **settings: Any) -> Supervised:
        """Starts a program: a runner with the system's handlers unless told otherwise."""
        given = {"module": module, "handlers": self.handlers if use == "runner" else ""} | settings
        url = given.pop("url", None) or self.url(use)
        self.programs.append(one := Supervised(url, self.witness.address, **given))
        return one

    def serve(self, *arguments: str) -> Process:
        """Starts the service on some free port."""
        self.programs.append(one := Process("--port", "0", *arguments, DATABASE_URL=self.url("service")))
        return one

    def close(self, one: RunnerProcess | Process) -> None:
        """Ends one, with all below it."""
        one.close()
        self.programs.remove(one)

    # -- the tasks ----------------------------------------------------------------------------------------------------

    def submit(self, kind: str, payload: Mapping[str, object] = {}, times: int = 1) -> list[int]:
        with self.owner() as owner:
            rows = owner.execute(
                "select lockgate.submit('default', %s, %s::jsonb) from generate_series(1, %s)",
                (kind, json.dumps(payload), times),
            )
            return [row[0] for row in rows]

    def executions(self, task: int) -> list[Execution]:
        return [execution for execution in list(self.witness.executions) if execution.task == task]

    def executing(self, one: Supervised) -> int:
        """Waits until its runner executes something, by the table and the witness; what it is."""
        query = (
            "select t.id from lockgate.task t join lockgate.runner r on r.session = t.session"
            " where t.status = 'running' and r.pid = %s"
        )
        with self.owner() as owner:

            def found() -> int | None:
                row = owner.execute(query, (one.runner(),)).fetchone()
                return row[0] if row and any(e.task == row[0] for e in self.witness.current()) else None

            return until(found, "a runner to execute")

    def begins(self, task: int, after: float, limit: float = LIMIT) -> float:
        """Waits until that task begins again; when that was, on the monotonic clock."""
        begun = lambda: next((e for e in self.executions(task) if e.begin > after), None)  # noqa: E731
        return until(begun, f"task {task} to begin again", limit, 0.005).begin

    def succeed(self, tasks: Sequence[int], limit: float = LIMIT) -> None:
        """Waits until all of these have succeeded."""
        query = "select count(*) from lockgate.task where status = 'succeeded' and id = any (%s)"
        with self.owner() as owner:
            until(lambda: owner.execute(query, (tasks,)).fetchone() == (len(tasks),), "all to succeed", limit, 0.1)

    def all_end(self, limit: float = LIMIT) -> None:
        """Waits until no task is left that has not ended."""
        with self.owner() as owner:
            until(lambda: owner.execute(UNENDED).fetchone() == (0,), "every task to end", limit, 0.1)

    def ends(self) -> list[int]:
        """A task for each end that was recorded of it."""
        with self.owner() as owner:
            return [task for (task,) in owner.execute(ENDS)]


class Submitter(threading.Thread):
    """Submits one thing after the other, each again and again until it is said to be stored.

    `make`: what comes next, or None to look again a little later. `send`: whether it is stored, or nobody asks any
    more. `pause`: seconds before the next.
    """

    def __init__(self, make: Callable[[], T | None], send: Callable[[T], bool], pause: Callable[[], float]) -> None:
        super().__init__(name="submitter", daemon=True)
        self._enough = threading.Event()
        self._make = make
        self._send = send
        self._pause = pause

    def run(self) -> None:
        while not self._enough.wait(self._pause()):
            if (one := self._make()) is not None:
                while not self._send(one) and not self._enough.wait(RETRY):
                    pass

    def stop(self) -> None:
        """Lets it end with what it has under way."""
        self._enough.set()
        if self.ident:
            self.join(LIMIT)
