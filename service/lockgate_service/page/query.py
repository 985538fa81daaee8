"""The query of the page's address: the filter of the tasks, where the list begins, and the task shown in full."""

import re
from datetime import datetime, timedelta
from typing import Any, get_args
from urllib.parse import urlencode

from litestar.datastructures import MultiDict
from msgspec import Struct

from lockgate_service.auth.keys import Caller
from lockgate_service.http.params import TASK_ID_MAX, seconds
from lockgate_service.http.problems import Refusal
from lockgate_service.tasks.messages import Status, TaskFilter

TEXTS = ("queue", "kind", "tag", "runner", "error", "failure")
TIMES = ("created_after", "created_before", "finished_after", "finished_before")
TEXT_MAX = 200
FAILURE_MAX = 400
TRAIL_MAX = 20  # pages that there is a way back to
STATUSES: tuple[Status, ...] = get_args(Status)
PARTS = ("tasks", "task")


class PageQuery(Struct):
    """`given` are the parameters as they were; `wrong`, by name, says what is wrong with them. The list begins below
    the id `below`, after the pages that began below those of `trail` (0: the first one)."""

    only: TaskFilter
    given: dict[str, str]
    wrong: dict[str, str]
    below: int | None
    trail: list[int]
    task: int | None
    parts: frozenset[str]

    def link(self, **changes: Any) -> str:
        """The address with the same filters and these changes, relative to the page."""
        parameters: list[tuple[str, str]] = [("status", one) for one in self.only.status or ()]
        parameters += self.given.items()
        parameters += [(name, str(value)) for name, value in changes.items() if value not in (None, "")]
        return f"?{urlencode(parameters)}" if parameters else "./"

    def at(self, task: int | None) -> str:
        """The same page, with this task in full, or none."""
        return self.link(below=self.below, trail="-".join(map(str, self.trail)), task=task)

    @property
    def is_detailed(self) -> bool:
        """Whether it filters by more than status, queue, kind and error."""
        return not self.given.keys() <= {"queue", "kind", "error"}

    @property
    def older_trail(self) -> str:
        """For the page after this one."""
        return "-".join(str(one) for one in [*self.trail, self.below or 0][-TRAIL_MAX:])

    @property
    def newer(self) -> str | None:
        """The page before this one; None on the first."""
        if self.below is None:
            return None
        *rest, before = self.trail or [0]
        return self.link(below=before or None, trail="-".join(map(str, rest)))


def page_query(query: MultiDict[Any], caller: Caller, now: datetime) -> PageQuery:
    """Ignores empty and unknown parameters: people type addresses, and pass them around."""
    given = {name: str(query[name]) for name in (*TEXTS, *TIMES) if str(query.get(name) or "").strip()}
    given = {name: text if name == "failure" else text.strip() for name, text in given.items()}  # it is compared whole
    wrong: dict[str, str] = {}
    named = [one for one in query.getall("status", []) if one]
    if strange := [one for one in named if one not in STATUSES]:
        wrong["status"] = f"there is no status “{strange[0]}”"
    for name in TEXTS:
        most = FAILURE_MAX if name == "failure" else TEXT_MAX
        if "\0" in given.get(name, "") or len(given.get(name, "")) > most:
            wrong[name] = f"must be at most {most} characters, and no NUL"
    times: dict[str, datetime] = {}
    for name in TIMES:
        if name in given:
            try:
                times[name] = time_of(given[name], now)
            except (ValueError, OverflowError, Refusal):
                wrong[name] = "must be like 90s, 15m, 1h, 7d (ago), or 2026-05-01T12:00:00Z"
    texts: dict[str, str | None] = {name: given.get(name) for name in TEXTS}
    try:
        texts["queue"] = caller.queue_of(texts["queue"])
    except Refusal as why:
        wrong["queue"] = why.detail
    only = TaskFilter(status=[one for one in STATUSES if one in named] or None, **texts, **times)  # type: ignore[arg-type]
    trail = [_id(one) or 0 for one in str(query.get("trail") or "").split("-") if one][-TRAIL_MAX:]
    parts = frozenset(str(query.get("part") or "").split(",")) & set(PARTS)
    return PageQuery(only, given, wrong, _id(query.get("below")), trail, _id(query.get("task")), parts)


def time_of(text: str, now: datetime) -> datetime:
    """Raises ValueError, OverflowError or Refusal for what is neither a time nor how long ago."""
    if re.fullmatch(r"\d+[smhd]", text):
        return now - timedelta(seconds=seconds("time", text))
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("it has no offset")
    return time


def _id(text: Any) -> int | None:
    if not re.fullmatch("[0-9]{1,19}", str(text or "")):
        return None
    number = int(text)
    return number if 0 < number <= TASK_ID_MAX else None
