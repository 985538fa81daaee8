"""A seed says which faults come, when two come together, and how each throws its dice."""

from itertools import islice

from tests.faults.chaos.__main__ import steps

FAULTS = ["kill-runner", "freeze-long", "restart", "end-slot-session"]
ROUND = ["end-slot-session", "freeze-long", "kill-runner", "kill-runner", "kill-runner", "restart"]


def plan(seed: int, count: int) -> list[list[tuple[str, float]]]:
    return [[(name, dice.random()) for name, dice in step] for step in islice(steps(FAULTS, seed), count)]


def test_the_same_seed_is_the_same_plan_and_another_is_another() -> None:
    assert plan(7, 50) == plan(7, 50)
    assert plan(7, 50) != plan(8, 50)


def test_dice_thrown_by_a_fault_change_nothing_for_the_next() -> None:
    names = []
    for step in islice(steps(FAULTS, 7), 50):
        names.append([name for name, _ in step])
        for _, dice in step:
            dice.random()
    assert names == [[name for name, _ in step] for step in plan(7, 50)]


def test_every_fault_comes_in_each_round() -> None:
    names = [name for step in plan(7, 50) for name, _ in step]
    for first in range(0, len(names) - len(ROUND), len(ROUND)):
        assert sorted(names[first : first + len(ROUND)]) == ROUND


def test_some_come_alone_and_some_in_company_with_another() -> None:
    together = [[name for name, _ in step] for step in plan(7, 50)]
    assert {len(names) for names in together} == {1, 2}
    assert all(len(names) == len(set(names)) for names in together)
