"""What is read once for all who ask."""

import asyncio

from lockgate_service.single_flight import SingleFlight, SingleFlightByKey


def test_those_who_come_while_it_is_read_get_the_same_answer_and_the_next_a_new_one() -> None:
    async def ask() -> None:
        reads = 0
        go = asyncio.Event()

        async def read() -> int:
            nonlocal reads
            reads += 1
            await go.wait()
            return reads

        shared = SingleFlight(read, seconds=0)
        asking = [asyncio.create_task(shared.get()) for _ in range(5)]
        await asyncio.sleep(0)
        asking.pop().cancel()  # who goes away takes it from nobody
        go.set()
        assert await asyncio.gather(*asking) == [1] * 4
        shared._good_until = float("-inf")
        assert await shared.get() == 2

    asyncio.run(ask())


def test_a_fresh_answer_is_given_again() -> None:
    async def ask() -> None:
        values = iter(range(9))

        async def read() -> int:
            return next(values)

        shared = SingleFlight(read, seconds=3600)
        assert [await shared.get() for _ in range(3)] == [0, 0, 0]

    asyncio.run(ask())


def test_a_failure_is_told_to_all_who_waited_and_tried_again_for_the_next() -> None:
    async def ask() -> None:
        failing = True

        async def read() -> str:
            await asyncio.sleep(0)
            if failing:
                raise OSError("away")
            return "back"

        shared = SingleFlight(read, seconds=3600)
        answers = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError] * 3
        failing = False
        assert await shared.get() == "back"

    asyncio.run(ask())


def test_each_key_has_an_answer_of_its_own_and_those_asked_for_last_are_kept() -> None:
    async def ask() -> None:
        reads: list[str] = []

        async def read(key: str) -> int:
            reads.append(key)
            return len(reads)

        shared = SingleFlightByKey(read, lambda _: 3600, most=2)
        assert [await shared.get(key) for key in "abab"] == [1, 2, 1, 2]
        assert [await shared.get(key) for key in "aca"] == [1, 3, 1]
        assert await shared.get("b") == 4
        assert reads == ["a", "b", "c", "b"]

    asyncio.run(ask())
