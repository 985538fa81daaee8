"""Calls of everybody, legal and illegal, one after the other and two at once, against the database and a model of it.

Half a minute of it is part of the tests. An hour of it:

    uv run pytest tests/model --hypothesis-profile=long

A failure prints the shortest story that was found, and a line `@reproduce_failure(...)`: put above `AnyCalls`, it tells
that story again. Without it, what failed once is tried first in the next run: .hypothesis keeps it.
"""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.contract import Contract, Threads
from tests.model import calls
from tests.model.call import RUNNERS
from tests.model.calls import Recipe
from tests.model.conftest import SECONDS
from tests.model.world import MEETINGS, World


class AnyCalls(RuleBasedStateMachine):
    world: World

    def __init__(self) -> None:
        super().__init__()
        self.say(self.world.begin)

    def say(self, what: Callable[[], None]) -> None:
        """Nothing any more when time is up. No draw depends on it."""
        if self.world.over:
            return
        try:
            what()
        except BaseException:
            self.world.failed = True
            raise

    def alone(self, recipe: Recipe) -> None:
        self.say(lambda: self.world.alone(recipe.call(self.world.model)))

    @initialize(tasks=st.lists(calls.items, min_size=1, max_size=4), working=st.integers(0, 3))
    def begin(self, tasks: list[dict[str, Any]], working: int) -> None:
        """Sessions, some tasks, and some that execute already."""
        for runner in RUNNERS:
            self.alone(Recipe(calls.register, {"runner": runner}))
        for task in tasks:
            self.alone(Recipe(calls.submit, {"client": 0, "item": task}))
        for runner in RUNNERS[:working]:
            self.alone(Recipe(calls.take_slot, {"runner": runner, "queue": 0}))
            self.alone(Recipe(calls.claim, {"place": 0}))

    @rule(recipe=calls.SUBMISSION)
    def submit(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(task=calls.items, runner=calls.runners, queue=calls.numbers, place=calls.numbers)
    def work(self, task: dict[str, Any], runner: str, queue: int, place: int) -> None:
        """The usual way of a task into a slot, or of another one that goes before it."""
        self.alone(Recipe(calls.take_slot, {"runner": runner, "queue": queue}))

        def submit_and_claim() -> None:
            claim = calls.claim(self.world.model, place)
            there = self.world.model.queue_of(claim.args[0])
            item = task | {"queue": there.name} if there else task
            self.world.alone(calls.submit(self.world.model, 0, item))
            self.world.alone(claim)

        self.say(submit_and_claim)

    @rule(recipe=calls.CLAIM)
    def claim(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(recipe=calls.END, runner=calls.runners, short=st.booleans(), place=calls.numbers)
    def end(self, recipe: Recipe, runner: str, short: bool, place: int) -> None:
        """And on to the next, which may be the same again."""
        if short:
            self.alone(Recipe(calls.take_the_short_way, {"runner": runner}))
        self.alone(recipe)
        self.alone(Recipe(calls.claim, {"place": place}))

    @rule(recipe=calls.NEXT, times=st.integers(1, 4), lost=st.booleans())
    def finish_and_claim(self, recipe: Recipe, times: int, lost: bool) -> None:
        """One task after the other. Where an answer is lost, the runner says it again."""

        def finish_and_claim() -> None:
            call = recipe.call(self.world.model)
            self.world.alone(call)
            if lost:
                self.world.alone(call)

        for _ in range(times):
            self.say(finish_and_claim)

    @rule(recipe=calls.REPORT)
    def report(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(runner=calls.runners, back=st.booleans())
    def lose_a_session(self, runner: str, back: bool) -> None:
        """And come back to its slots at once, or as if it had never been."""

        def lose() -> None:
            places = [place for place, holder in self.world.model.slots.items() if holder == runner]
            self.world.lose(runner)
            if back:
                self.world.alone(calls.register(self.world.model, runner))
                for place in places:
                    self.world.alone(calls.retake(runner, *place))
                    self.world.alone(calls.confirm(self.world.model, runner, *place))

        self.say(lose)

    @rule(recipe=calls.ADOPT, take=st.booleans())
    def adopt(self, recipe: Recipe, take: bool) -> None:
        if take:
            self.alone(Recipe(calls.retake_slot, {"runner": recipe.picks["runner"], "place": 0}))
        self.alone(recipe)

    @rule(recipe=calls.SLOT)
    def take_or_release_a_slot(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(recipe=calls.PEOPLE)
    def cancel_or_retry_or_delete(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(recipe=calls.QUEUE)
    def change_a_queue(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(recipe=calls.TIME)
    def let_time_pass(self, recipe: Recipe) -> None:
        self.alone(recipe)

    @rule(first=calls.ANY, second=calls.ANY, meeting=st.sampled_from(MEETINGS))
    def meet(self, first: Recipe, second: Recipe, meeting: str) -> None:
        self.together(first, second, meeting)

    @rule(first=calls.ABOUT_A_TASK, second=calls.ABOUT_A_TASK, meeting=st.sampled_from(MEETINGS))
    def meet_over_a_task(self, first: Recipe, second: Recipe, meeting: str) -> None:
        self.together(first, second, meeting)

    @rule(task=calls.items, first=calls.AT_THE_LINE, second=calls.AT_THE_LINE, meeting=st.sampled_from(MEETINGS))
    def meet_at_the_line(self, task: dict[str, Any], first: Recipe, second: Recipe, meeting: str) -> None:
        """Of one queue, in which two have a slot each."""
        for runner in RUNNERS[:2]:
            self.alone(Recipe(calls.submit, {"client": 0, "item": task | {"queue": "default"}}))
            self.alone(Recipe(calls.take_slot, {"runner": runner, "queue": 0}))
        self.together(first, second, meeting)

    def together(self, first: Recipe, second: Recipe, meeting: str) -> None:
        model = self.world.model
        self.say(lambda: self.world.together(first.call(model), second.call(model), meeting))


@pytest.mark.timeout(0)  # a failure is made short first, which takes its time
def test_the_database_and_the_model_agree_whatever_is_called(q: Contract, threads: Threads) -> None:
    class Here(AnyCalls):
        world = World(q, threads, SECONDS[settings.get_current_profile_name()])

    while not Here.world.over:
        run_state_machine_as_test(Here)
