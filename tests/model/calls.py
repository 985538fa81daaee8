"""What may be called. Hypothesis draws numbers; what they pick from is only known when the call is made.

So a draw never depends on what the database did, and an example can be shortened and replayed whatever two sessions
that raced made of it. Most picks are of what makes sense at that moment, the others of anything at all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from typing import Any, TypeVar

from hypothesis import strategies as st

from tests.contract import BOOM
from tests.model.call import CLIENTS, OWNER, RUNNERS, Call
from tests.model.rules import ENDED, FUTURE, PAST, Grant, Model, Sighting

T = TypeVar("T")
Settings = dict[str, Any]

NOBODY = 10**8  # the number of a task, a queue or a lease that never was
SLOTS = (1, 2, 3, 4, 0)
NAMES = ("default", "a", "b")


def pick(number: int, *pools: Sequence[T], odd: Sequence[T] = ()) -> T:
    """Three times in four from the first pool that is not empty; else from the odd ones, if there are any, or from the
    last pool, which is anything at all."""
    usual = next(pool for pool in pools if pool)
    chosen = usual if number % 4 != 3 else odd or pools[-1]
    return chosen[number // 4 % len(chosen)]


def tasks(model: Model, *statuses: str) -> list[int]:
    return [task.id for task in model.tasks.values() if task.status in statuses or not statuses]


def some_task(model: Model, number: int, *statuses: str) -> int:
    return pick(number, tasks(model, *statuses), [*tasks(model), NOBODY])


def queue_numbers(model: Model) -> list[int]:
    """Of those that are, and of those that once were."""
    known = [queue.id for queue in model.queues.values() if isinstance(queue.id, int)]
    return list(dict.fromkeys([*known, *(grant.queue for grant in model.grants), NOBODY]))


def places(model: Model) -> list[tuple[int, int]]:
    return list(product(queue_numbers(model), SLOTS))


Held = tuple[str, tuple[int, int]]


def held(model: Model, number: int, likely: Callable[[str, tuple[int, int]], bool] = lambda _who, _place: True) -> Held:
    """A runner, and a place that it holds."""
    mine = [(who, place) for place, who in model.slots.items()]
    return pick(number, [one for one in mine if likely(*one)], mine, list(product(RUNNERS, places(model))))


def current(model: Model, grant: Grant) -> bool:
    row = model.tasks.get(grant.task)
    return row is not None and (row.status, row.lease) == ("running", grant.lease)


def some_grant(model: Model, number: int, stranger: int) -> tuple[str, Grant]:
    """A claim, and who speaks about it: hardly ever somebody else than it was given to.

    The odd ones are those that were good once, of tasks that execute again.
    """
    good = [grant for grant in model.grants if current(model, grant)]
    running = {grant.task: grant for grant in good}
    lost = [grant for grant in model.grants if grant.task in running and not current(model, grant)]
    same = [grant for grant in lost if grant.runner == running[grant.task].runner]
    nothing = Grant("r1", NOBODY, NOBODY, NOBODY, 1)
    grant = pick(number, good, model.grants[-3:], [*model.grants, nothing], odd=same or lost)
    return (RUNNERS[grant.lease % len(RUNNERS)] if stranger == 15 else grant.runner), grant


# People and programs that submit ------------------------------------------------------------------------------------


def submit(model: Model, client: int, item: dict[str, Any]) -> Call:
    def rule(model: Model, told: Any) -> int | None:
        return model.submit(item, told)

    named = {"kind": item["kind"], "queue": item.get("queue"), **item}
    return Call("submit", CLIENTS[client], tuple(named.values()), rule, named=tuple(named))


def submit_batch(model: Model, client: int, items: list[dict[str, Any]], scope: str) -> Call:
    return Call("submit_batch", CLIENTS[client], (items, scope), lambda m, told: m.submit_batch(items, scope, told))


def cancel(model: Model, client: int, task: int, force: bool) -> Call:
    number = pick(task, tasks(model, "running"), [*tasks(model), NOBODY])
    return Call("cancel", CLIENTS[client], (number, force), lambda m, _: m.cancel(number, force), target=number)


def retry(model: Model, client: int, task: int) -> Call:
    number = some_task(model, task, "failed", "cancelled")
    return Call("retry", CLIENTS[client], (number,), lambda m, _: m.retry(number), target=number)


def delete_task(model: Model, client: int, task: int) -> Call:
    number = some_task(model, task, *ENDED)
    return Call("delete_task", CLIENTS[client], (number,), lambda m, _: m.delete_task(number), target=number)


def purge(model: Model, client: int, queue: str, batch: int) -> Call:
    return Call("purge", CLIENTS[client], (queue, batch), lambda m, _: m.purge(queue, batch))


def create_queue(model: Model, client: int, queue: str, settings: Settings) -> Call:
    said = {"backoff_base": 100.0} | settings
    return Call("create_queue", CLIENTS[client], (queue, said), lambda m, _: m.create_queue(queue, said))


def change_queue(model: Model, client: int, queue: str, settings: Settings) -> Call:
    return Call("change_queue", CLIENTS[client], (queue, settings), lambda m, _: m.change_queue(queue, settings))


def set_slots(model: Model, client: int, queue: str, slots: int) -> Call:
    return Call("set_slots", CLIENTS[client], (queue, slots), lambda m, _: m.change_queue(queue, {"slots": slots}))


def pause(model: Model, client: int, queue: str) -> Call:
    return Call("pause", CLIENTS[client], (queue,), lambda m, _: m.change_queue(queue, {"paused": True}))


def resume(model: Model, client: int, queue: str) -> Call:
    return Call("resume", CLIENTS[client], (queue,), lambda m, _: m.change_queue(queue, {"paused": False}))


def delete_queue(model: Model, client: int, queue: int) -> Call:
    used = {task.queue for task in model.tasks.values()}
    name = pick(queue, [name for name in model.queues if name not in used and name != "default"], NAMES)
    return Call("delete_queue", CLIENTS[client], (name,), lambda m, _: m.delete_queue(name))


# Runners ------------------------------------------------------------------------------------------------------------


def register(model: Model, runner: str) -> Call:
    args = (runner, "here", 1, "0", 1, None, ["sleep"])
    return Call("register", runner, args, lambda m, told: m.register(runner, told))


def deregister(model: Model, runner: str) -> Call:
    session = model.current.get(runner, NOBODY)
    return Call("deregister", runner, (session,), lambda m, _: m.deregister(runner, session))


def take_slot(model: Model, runner: str, queue: int) -> Call:
    free = [
        q.id for q in model.queues.values() if any((q.id, slot) not in model.slots for slot in range(1, q.slots + 1))
    ]
    number = pick(queue, [number for number in free if isinstance(number, int)], queue_numbers(model))
    return Call("take_slot", runner, (number,), lambda m, _: m.take_slot(runner, number))


def retake_slot(model: Model, runner: str, place: int) -> Call:
    orphaned = [(s.queue, s.slot) for s in model.sightings if sees(model, s) and (s.queue, s.slot) not in model.slots]
    free = [at for at in places(model) if at not in model.slots and model.queue_of(at[0])]
    return retake(runner, *pick(place, orphaned, free, places(model)))


def retake(runner: str, number: int, slot: int) -> Call:
    return Call("retake_slot", runner, (number, slot), lambda m, _: m.retake_slot(runner, number, slot))


def release_slot(model: Model, place: int) -> Call:
    who, (number, slot) = held(model, place)
    return Call("release_slot", who, (number, slot), lambda m, _: m.release_slot(who, number, slot))


def claim(model: Model, place: int) -> Call:
    def idle(_who: str, place: tuple[int, int]) -> bool:
        queue = model.queue_of(place[0])
        return queue is not None and model.running_in(queue.name, place[1]) is None

    who, (number, slot) = held(model, place, idle)
    session = model.current.get(who, NOBODY)
    return Call("claim", who, (number, slot, who, session), lambda m, told: m.claim(who, session, number, slot, told))


def finish(model: Model, grant: int, stranger: int, result: int) -> Call:
    who, of = some_grant(model, grant, stranger)
    said = {"n": result}
    return Call(
        "finish", who, (of.task, of.lease, who, 0.5, said),
        lambda m, _: m.finish(who, of.task, of.lease, 0.5, said), target=of.task,
    )  # fmt: skip


def finish_and_claim(model: Model, grant: int, stranger: int, result: int, place: int) -> Call:
    who, of = some_grant(model, grant, stranger)
    mine = [at for at, holder in model.slots.items() if holder == who]
    there = [at for at in mine if at == (of.queue, of.slot)]
    number, slot = pick(place, there, mine, places(model))
    said, session = {"n": result}, model.current.get(who, NOBODY)
    return Call(
        "finish_and_claim", who, (of.task, of.lease, who, 0.5, said, number, slot, session),
        lambda m, told: m.finish_and_claim(who, session, of, 0.5, said, number, slot, told), target=of.task,
    )  # fmt: skip


def fail(model: Model, grant: int, stranger: int, retry_after: float | None, discard: bool) -> Call:
    who, of = some_grant(model, grant, stranger)
    return Call(
        "fail", who, (of.task, of.lease, who, 0.5, BOOM, retry_after, discard),
        lambda m, _: m.fail(who, of.task, of.lease, 0.5, BOOM, retry_after, discard), target=of.task,
    )  # fmt: skip


def return_task(model: Model, grant: int, stranger: int) -> Call:
    who, of = some_grant(model, grant, stranger)
    args = (of.task, of.lease, who)
    return Call("return_task", who, args, lambda m, _: m.return_task(who, of.task, of.lease), target=of.task)


def reconfirm(model: Model, place: int) -> Call:
    def own(who: str, place: tuple[int, int]) -> bool:
        queue = model.queue_of(place[0])
        row = model.running_in(queue.name, place[1]) if queue else None
        return row is not None and row.runner == who

    who, at = held(model, place, own)
    return confirm(model, who, *at)


def confirm(model: Model, who: str, number: int, slot: int) -> Call:
    session = model.current.get(who, NOBODY)
    args = (number, slot, who, session)
    return Call("reconfirm", who, args, lambda m, _: m.reconfirm(who, session, number, slot))


def sees(model: Model, seen: Sighting) -> bool:
    """Whether it is still as it was seen."""
    row = model.tasks.get(seen.task)
    return row is not None and (row.status, row.lease, row.session) == ("running", seen.lease, seen.session)


def adopt(model: Model, runner: str, seen: int) -> Call:
    good = [s for s in model.sightings if sees(model, s)]
    orphans = [s for s in good if model.slots.get((s.queue, s.slot)) != model.tasks[s.task].runner]
    taken = [s for s in orphans if (s.queue, s.slot) in model.slots]
    # Those whose owner has come back since, and those that were claimed again.
    again = {s.task for s in orphans}
    changed = [s for s in model.sightings if s.task in again and s not in good]
    nothing = Sighting(NOBODY, 1, NOBODY, NOBODY, NOBODY)
    one = pick(seen, taken, orphans, good, [*model.sightings, nothing], odd=changed)
    holder = model.slots.get((one.queue, one.slot))
    who = holder if holder and seen // 4 % 4 != 3 else runner
    args = (one.queue, one.slot, one.task, one.lease, one.session)
    return Call("adopt", who, args, lambda m, _: m.adopt(who, one), target=one.task)


def report_progress(model: Model, grant: int, stranger: int, length: int) -> Call:
    who, of = some_grant(model, grant, stranger)
    said = {"so far": "x" * length}
    args = (of.task, of.lease, who, said)
    return Call("report_progress", who, args, lambda m, _: m.report_progress(who, of.task, of.lease, said))


def write_output(model: Model, grant: int, text: str) -> Call:
    who, of = some_grant(model, grant, 0)
    args = (of.task, of.lease, text)
    return Call("write_output", who, args, lambda m, _: m.write_output(of.task, of.lease, text))


def delete_expired(model: Model, runner: str) -> Call:
    return Call("delete_expired", runner, (500,), lambda m, _: m.delete_expired(runner, 500))


# The owner, and time, which passes when the test says so ------------------------------------------------------------


def take_the_short_way(model: Model, runner: str) -> Call:
    """As a claim makes its session do that had to read very many dead entries of an index."""
    ways = [way for way in model.heads if way[0] == runner and model.queue_of(way[1])] or [(runner, NOBODY)]

    def rule(model: Model, _told: Any) -> None:
        model.short.update(ways)

    text = ", ".join(f"set_config('lockgate.short_until_{number}', 'infinity', false)" for _, number in ways)
    return Call("take_the_short_way", runner, (), rule, statement=f"select {text}")


def promote(model: Model, queue: str) -> Call:
    return Call("promote", OWNER, (queue,), lambda m, _: m.promote(queue))


def come_due(model: Model, task: int) -> Call:
    number = some_task(model, task, "scheduled")
    text = "update lockgate.task set run_at = %s where id = %s and status = 'scheduled'"
    return Call("come_due", OWNER, (PAST, number), lambda m, _: m.come_due(number), statement=text, target=number)


def grow_old(model: Model, task: int) -> Call:
    number = some_task(model, task, *ENDED)
    ended = datetime.fromisoformat(PAST) + timedelta(seconds=min(number, 3600))
    text = "update lockgate.task set finish_time = %s where id = %s and finish_time is not null"
    return Call(
        "grow_old", OWNER, (ended, number), lambda m, _: m.grow_old(number, ended), statement=text, target=number
    )


def forget_session(model: Model, session: int) -> Call:
    gone = [number for number in model.runners if number not in model.sessions]
    number = pick(session, gone, [*model.runners, NOBODY])
    text = "update lockgate.runner set since = %s where session = %s"
    return Call("forget_session", OWNER, (PAST, number), lambda m, _: m.be_forgotten(number), statement=text)


# Recipes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    make: Callable[..., Call]
    picks: dict[str, Any] = field(hash=False)

    def __repr__(self) -> str:
        return f"{self.make.__name__}({', '.join(f'{name}={value!r}' for name, value in self.picks.items())})"

    def call(self, model: Model) -> Call:
        return self.make(model, **self.picks)


def recipe(make: Callable[..., Call], **picks: st.SearchStrategy[Any]) -> st.SearchStrategy[Recipe]:
    return st.fixed_dictionaries(picks).map(partial(Recipe, make))


numbers = st.integers(0, 255)
clients = st.integers(0, len(CLIENTS) - 1)
runners = st.sampled_from(RUNNERS)
names = st.sampled_from(("default", "a", "default", "a", "b", "nowhere"))
grants = {"grant": numbers, "stranger": st.integers(0, 15)}
results = st.integers(0, 999)

Item = dict[str, Any]
ordinary: Item = {}
items = st.tuples(
    st.fixed_dictionaries(
        {"kind": st.sampled_from(("sleep", "sleep", "sleep", "mail"))},
        optional={
            "payload": st.sampled_from(({"n": 1}, {"n": 2})),
            "priority": st.sampled_from((0, 1, -1, 5, -5)),
            "max_attempts": st.sampled_from((1, 2, 3)),
        },
    ),
    st.sampled_from(
        (*[ordinary] * 4, {"queue": "default"}, *[{"queue": "a"}] * 3, {"queue": "b"}, {"queue": "nowhere"})
    ),
    st.sampled_from(
        (*[ordinary] * 4, {"delay": 3600.0}, {"run_at": FUTURE}, {"run_at": PAST, "delay": 3600.0}, {"delay": -5.0})
    ),
    st.sampled_from((*[ordinary] * 3, {"idempotency_key": "i"}, {"idempotency_key": "j"})),
    st.sampled_from((*[ordinary] * 3, {"dedupe_key": "d"}, {"dedupe_key": "e"})),
).map(lambda parts: {name: value for part in parts for name, value in part.items()})
# Now and then one that breaks a limit, and takes its whole batch with it.
any_items = st.tuples(
    items, st.sampled_from((ordinary,) * 45 + ({"priority": 101}, {"max_attempts": 0}, {"kind": ""}))
).map(lambda item: item[0] | item[1])
settings_of_a_queue: st.SearchStrategy[Settings] = st.fixed_dictionaries(
    {},
    optional={
        "slots": st.sampled_from((1, 2, 3, 4, 0, 1001)),
        "paused": st.sampled_from((False, False, True)),
        "grace": st.sampled_from((5.0, 1.0, 60.0)),
        "max_attempts": st.sampled_from((3, 1, 2)),
        "timeout": st.sampled_from((None, 60.0)),
        "backoff_base": st.sampled_from((100.0, 0.0)),
        "retention": st.sampled_from((604800.0, 0.0, None)),
        "kinds": st.sampled_from((None, ["sleep"], ["mail"])),
    },
)

SUBMISSION = st.one_of(
    recipe(submit, client=clients, item=any_items),
    recipe(
        submit_batch,
        client=clients,
        items=st.lists(any_items, min_size=1, max_size=4),
        scope=st.sampled_from(("x", "y")),
    ),
)
CLAIM = recipe(claim, place=numbers)
END = st.one_of(
    recipe(finish, **grants, result=results),
    recipe(
        fail,
        **grants,
        retry_after=st.sampled_from((0.0, 0.0, None, 3600.0, -1.0, float("nan"), float("inf"))),
        discard=st.sampled_from((False, False, False, True)),
    ),
    recipe(return_task, **grants),
)
NEXT = recipe(finish_and_claim, **grants, result=results, place=numbers)
REPORT = st.one_of(
    recipe(report_progress, **grants, length=st.sampled_from((1, 2, 20000))),
    recipe(write_output, grant=numbers, text=st.sampled_from(("a", "b", "c"))),
)
ADOPT = recipe(adopt, runner=runners, seen=numbers)
SLOT = st.one_of(
    recipe(take_slot, runner=runners, queue=numbers),
    recipe(retake_slot, runner=runners, place=numbers),
    recipe(release_slot, place=numbers),
    recipe(reconfirm, place=numbers),
    recipe(register, runner=runners),
    recipe(deregister, runner=runners),
)
PEOPLE = st.one_of(
    recipe(cancel, client=clients, task=numbers, force=st.booleans()),
    recipe(retry, client=clients, task=numbers),
    recipe(retry, client=clients, task=numbers),
    recipe(delete_task, client=clients, task=numbers),
)
QUEUE = st.one_of(
    recipe(set_slots, client=clients, queue=names, slots=st.integers(0, 4)),
    recipe(pause, client=clients, queue=names),
    recipe(resume, client=clients, queue=names),
    recipe(change_queue, client=clients, queue=names, settings=settings_of_a_queue),
    recipe(change_queue, client=clients, queue=names, settings=st.just({"slot": 1})),
    recipe(create_queue, client=clients, queue=st.sampled_from((*NAMES, "Bad name")), settings=settings_of_a_queue),
    recipe(delete_queue, client=clients, queue=numbers),
)
TIME = st.one_of(
    recipe(come_due, task=numbers),
    recipe(come_due, task=numbers),
    recipe(grow_old, task=numbers),
    recipe(forget_session, session=numbers),
    recipe(promote, queue=names),
    recipe(take_the_short_way, runner=runners),
    recipe(purge, client=clients, queue=names, batch=st.sampled_from((1, 1, 2, 1000))),
    recipe(delete_expired, runner=runners),
)
AT_THE_LINE = st.one_of(CLAIM, CLAIM, NEXT, SUBMISSION, recipe(promote, queue=st.just("default")))
ABOUT_A_TASK = st.one_of(CLAIM, END, NEXT, REPORT, ADOPT, PEOPLE)
ANY = st.one_of(SUBMISSION, ABOUT_A_TASK, SLOT, QUEUE, TIME)
