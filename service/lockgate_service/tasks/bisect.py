"""What cannot be stored is told from what can: a batch that is refused for its content is tried in halves."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from lockgate_service.http.errors import is_about_content

T = TypeVar("T")


async def in_halves(
    batch: list[T], store: Callable[[list[T]], Awaitable[None]], refuse: Callable[[list[T], Exception], None]
) -> None:
    """Each of the batch is stored or refused with the error that stopped it; raises only when it is cancelled.

    `store` stores all of a batch or nothing.
    """
    try:
        if batch:
            await store(batch)
    except Exception as error:  # every one: it belongs to those who wait
        if len(batch) > 1 and is_about_content(error):
            # Nothing was stored. Halves, and halves of those, until what is bad is alone and hurts nobody else.
            middle = len(batch) // 2
            await in_halves(batch[:middle], store, refuse)
            await in_halves(batch[middle:], store, refuse)
            return
        refuse(batch, error)
