"""What the page shows, as its templates take it. The JavaScript files make the same of the stream of events."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from msgspec import DecodeError, Raw, json, to_builtins

from lockgate_service.page.snapshot import Json, TaskRow
from lockgate_service.page.text import (
    COUNT_MAX,
    cause,
    coarse,
    count,
    duration,
    elapsed,
    moment,
    plainly,
    plural,
    progress,
)
from lockgate_service.tasks.messages import Attempt, Failure, Output, TaskDetail

DENSE = 24  # slots: boxes of more are small
NAMES_MAX = 6
TEXT_MAX = 65_536  # characters of one text in the drawer
# The text of a slot by its status. Above: its number is more than its queue has now.
SAYS = {
    "free": "free",
    "held": "ready",
    "running": "",
    "abandoned": "runner gone: waits out its grace",
    "silent": "runner silent: waits out its grace",
}
# Of an attempt that did not end its task.
OUTCOMES = {"adopted": "its runner was gone", "returned": "given back", "failed": "failed"}
# What can be done about a task of each status, for whoever may.
ACTS = {
    "scheduled": ["cancel", "delete"],
    "queued": ["cancel", "delete"],
    "running": ["cancel"],
    "succeeded": ["delete"],
    "failed": ["retry", "delete"],
    "cancelled": ["retry", "delete"],
}
STOPPING = "asked to stop"
ABOVE = "goes when this ends"


class Age(NamedTuple):
    """A time, and how long ago it was when the page was rendered; `since` lets the page go on counting."""

    since: str
    text: str
    title: str


def ago(time: str | None, now: float, form: Callable[[float], str] = elapsed) -> Age | None:
    if time is None:
        return None
    then = moment(time)
    if then is None:
        return Age("", time, time)
    return Age(time, form(now - then), plainly(time))


def slot(one: Json, slots: int, now: float) -> Json:
    """A box of the strip."""
    part, words = progress(one.get("progress"))
    number, task = one["slot"], one.get("task")
    above = number > slots
    says = SAYS[one["status"]]
    if task is not None and not says:
        says = STOPPING if one.get("cancel_requested") else ABOVE if above else ""
    return {
        "key": f"{one['queue']}/{number}",
        "slot": number,
        "status": "stopping" if says == STOPPING else one["status"],
        "above": above,
        "says": says,
        "kind": one.get("kind"),
        "task": task,
        "age": ago(one.get("start_time"), now) if task is not None else None,
        "part": part,
        "words": words,
        "runner": one.get("runner"),
    }


def band(queue: Json, snapshot: Json, now: float) -> Json:
    """A queue in the strip."""
    of_queue = [one for one in snapshot["slots"].values() if one["queue"] == queue["name"]]
    boxes = [slot(one, queue["slots"], now) for one in of_queue]
    names = standing(queue, snapshot, {one.get("runner") for one in of_queue})
    return {
        "key": queue["name"],
        "slots": queue["slots"],
        "paused": queue["paused"],
        "load": f"{queue['running']} of {queue['slots']}",
        "full": queue["running"] >= queue["slots"],
        "standing": standing_by(queue, any(one["status"] == "held" for one in boxes)),
        "names": [*names[:NAMES_MAX], *([f"+{len(names) - NAMES_MAX}"] if len(names) > NAMES_MAX else [])],
        "waiting": f"{count(queue['queued'])} waiting" if queue["queued"] else "nothing waits",
        "oldest": ago(queue.get("due_since"), now),
        "dense": len(boxes) > DENSE,
        "boxes": boxes,
    }


def standing_by(queue: Json, is_held: bool) -> str:
    """Which runners could take what waits, in words."""
    if queue["standbys"]:
        return f"{plural(queue['standbys'], 'runner stands', 'runners stand')} by"
    is_short = queue["queued"] and not queue["paused"] and queue["running"] < queue["slots"] and not is_held
    return "no runner has room" if is_short else ""


def standing(queue: Json, snapshot: Json, holders: set[str | None]) -> Sequence[str]:
    """The names of the runners that stand by, as far as they are known."""
    held = Counter(one.get("runner") for one in snapshot["slots"].values())
    names = [
        one["runner"]
        for one in snapshot["runners"].values()
        if not one["draining"]
        and one["runner"] not in holders
        and held[one["runner"]] < one["concurrency"]
        and ("queues" not in one or queue["name"] in one["queues"])
    ]
    return names[: queue["standbys"]]


def counters(snapshot: Json) -> Json:
    """By the name of each."""
    of_all, queues = snapshot["all"], snapshot["queues"].values()
    hour = of_all["hour"]

    def waiting(name: str) -> str:
        more = any(one[name] > COUNT_MAX for one in queues)
        return f"{sum(min(one[name], COUNT_MAX) for one in queues):,}{'+' if more else ''}"

    found = {
        "queued": waiting("queued"),
        "scheduled": waiting("scheduled"),
        "running": count(of_all["running"]),
        **{name: f"{number:,}" for name, number in hour["ended"].items()},
    }
    for name in ("wait", "run"):
        found |= {f"{name}_{part}": duration(hour[name].get(part)) for part in ("median", "p95")}
    return found


def problems(snapshot: Json, failures: Sequence[Failure]) -> list[Json]:
    """What needs attention, each with a text and what can be done about it."""
    found: list[Json] = [
        {
            "key": f"slot {one['queue']}/{one['slot']}",
            "what": f"The runner {one.get('runner') or ''} of slot {one['slot']} of {one['queue']} "
            f"{'is gone' if one['status'] == 'abandoned' else 'is silent'}",
            "detail": "Its task is taken over when the grace has passed." if one.get("task") else "",
            "link": f"?task={one['task']}" if one.get("task") else None,
            "show": f"Show task {one.get('task')}",
        }
        for one in snapshot["slots"].values()
        if one["status"] in ("abandoned", "silent")
    ]
    for queue in snapshot["queues"].values():
        name, waits = queue["name"], queue["queued"]
        detail = f"{count(waits)} waiting" if waits else ""
        if queue["paused"]:
            paused = {"key": f"paused {name}", "what": f"Queue {name} is paused", "detail": detail}
            found.append(paused | {"do": f"Resume {name}"})
        elif waits and not queue["runners"]:
            found.append({"key": f"unserved {name}", "what": f"No runner serves queue {name}", "detail": detail})
    return found + [_failure(one) for one in failures]


def _failure(one: Failure) -> Json:
    parameters = {name: value for name, value in to_builtins(one.filter).items() if value is not None}
    return {
        "key": f"failed {one.queue} {one.kind} {one.failure}",
        "what": f"{count(one.tasks)} × {one.kind} failed",  # noqa: RUF001  (a times sign)
        "detail": f"{one.failure or 'without a word'}, in {one.queue}",
        "link": f"?{urlencode(parameters, doseq=True)}",
        "show": "Show them",
        "do": f"Retry all {count(one.tasks)}",
    }


def row(one: TaskRow, now: float) -> Json:
    """A line of the table."""
    part, words = progress(_value(one.progress)) if one.status == "running" else (None, None)
    took = ""
    if one.status == "scheduled":
        then = moment(one.run_at)
        took = f"in {coarse(then - now)}" if then is not None and then > now else "due"
    elif one.status != "running" and one.exec_time is not None:
        took = duration(one.exec_time)
    return {
        "id": one.id,
        "status": one.status,
        "stopping": _is_stopping(one),
        "kind": one.kind,
        "queue": one.queue,
        "tags": ", ".join(one.tags),
        "note": one.error if one.status in ("failed", "scheduled", "queued") else words,
        "part": part,
        "attempt": f"{one.attempt} of {one.max_attempts}" if one.attempt else "",
        "created": ago(one.create_time, now, coarse),
        "running": ago(one.start_time, now) if one.status == "running" else None,
        "took": took,
        "runner": one.runner,
    }


def runner(one: Json, now: float) -> Json:
    """A line of the table of runners."""
    return {
        "key": str(one["session"]),
        "runner": one["runner"],
        "place": f"{one['host']}, process {one['pid']}",
        "queues": ", ".join(one["queues"]) if "queues" in one else "all",
        "load": f"{one['running']} of {one['concurrency']}",
        "since": ago(one["since"], now, coarse),
        "version": one["version"],
        "draining": one["draining"],
    }


def queue(one: Json, now: float) -> Json:
    """A line of the table of queues."""
    return {
        "key": one["name"],
        "load": f"{one['running']} of {one['slots']}",
        "queued": count(one["queued"]),
        "scheduled": count(one["scheduled"]),
        "oldest": ago(one.get("due_since"), now),
        "ended": " / ".join(f"{one['hour']['ended'][name]:,}" for name in ("succeeded", "failed", "cancelled")),
        "runners": f"{one['runners']}",
        "grace": duration(one["grace"]),
        "paused": one["paused"],
    }


def task(one: TaskDetail, outputs: Sequence[Output], now: float) -> Json:
    """A task in the drawer. JSON is shown as the database has it, number for number."""
    printed = {output.lease: output.text for output in outputs}
    turns = [_turn(attempt, OUTCOMES[attempt.outcome], printed) for attempt in one.attempts]
    if one.start_time is not None and one.status not in ("queued", "scheduled"):
        age = ago(one.start_time, now) if one.status == "running" else None
        turns.append(_turn(one, one.status, printed) | {"age": age})
    part, words = progress(_value(one.progress))
    again = {"kind": one.kind, "queue": one.queue, "priority": one.priority, "max_attempts": one.max_attempts}
    again |= {name: value for name in ("timeout", "tags") if (value := getattr(one, name))}
    return {
        "task": one,
        "stopping": _is_stopping(one),
        "turns": turns,
        "printed": list(printed.values()),
        "error": None if turns and turns[-1]["error"] else _error(one.error),
        "part": part,
        "words": words,
        "acts": ["kill"] if _is_stopping(one) else ACTS[one.status],
        "facts": _facts(one, now),
        "payload": pretty(one.payload) or "{}",
        "result": pretty(one.result),
        "metadata": pretty(one.metadata),
        "body": _body(again, one.payload),
    }


def _facts(one: TaskDetail, now: float) -> Json:
    run_at = one.run_at if one.status == "scheduled" else None
    times = {"Created": one.create_time, "Not before": run_at, "Started": one.start_time, "Ended": one.finish_time}
    facts = {name: age.title for name, time in times.items() if (age := ago(time, now))} | {
        "Attempts": f"{one.attempt} of {one.max_attempts}",
        "Priority": str(one.priority),
        "Timeout": one.timeout and f"{one.timeout} s",
        "Tags": ", ".join(one.tags),
        "Lease": one.lease,
        "Idempotency key": one.idempotency_key,
        "Dedupe key": one.dedupe_key,
    }
    return {name: value for name, value in facts.items() if value}


def _is_stopping(one: TaskRow | TaskDetail) -> bool:
    return one.status == "running" and one.cancel_requested is not None


def _turn(one: Attempt | TaskDetail, outcome: str, printed: dict[int, str]) -> Json:
    """Takes its output out of `printed`."""
    slot = f"slot {one.slot}" if one.slot is not None else ""
    return {
        "title": f"Attempt {one.attempt}",
        "outcome": outcome,
        "start": plainly(one.start_time) if one.start_time else "",
        "took": duration(one.exec_time) if one.exec_time is not None else "",
        "where": ", ".join(filter(None, (one.runner, slot))),
        "error": _error(one.error),
        "output": printed.pop(one.lease, None) if one.lease is not None else None,
    }


def _error(error: Raw) -> Json | None:
    value = _value(error)
    if not isinstance(value, dict):
        return None
    return {"cause": cause(value), "traceback": str(value.get("traceback") or "")}


def _value(raw: Raw | None) -> Any:
    """None for JSON that only Postgres can hold."""
    try:
        return None if raw is None else json.decode(raw)
    except DecodeError:
        return None


def pretty(raw: Raw | None) -> str | None:
    """On several lines, but otherwise as it is; None if there is nothing in it."""
    if raw is None or bytes(raw) in (b"null", b"{}"):
        return None
    try:
        text = json.format(bytes(raw), indent=2).decode()
    except DecodeError:
        text = bytes(raw).decode()
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}\n…"


def _body(fields: Mapping[str, Any], payload: Raw) -> str | None:
    """Of a request for another task like this one; None if it would be long."""
    if len(bytes(payload)) > TEXT_MAX:
        return None
    return f'{json.encode(fields).decode()[:-1]},"payload":{bytes(payload).decode()}}}'
