"""What is read once for all who ask."""

import asyncio

from service.shared import Shared


def test_those_who_come_while_it_is_read_get_the_same_answer_and_the_next_a_new_one() -> None:
    async def ask() -> None:
        reads = 0
        go = asyncio.Event()

        async def read() -> int:
            nonlocal reads
            reads += 1
            await go.wait()
            return reads

        shared = Shared(read, seconds=0)
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

        shared = Shared(read, seconds=3600)
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

        shared = Shared(read, seconds=3600)
        answers = await asyncio.gather(*(shared.get() for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError] * 3
        failing = False
        assert await shared.get() == "back"

    asyncio.run(ask())
