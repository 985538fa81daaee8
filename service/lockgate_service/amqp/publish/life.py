"""The publisher with everything around it, from its start to its end."""

import asyncio
from functools import partial

from lockgate.log import logger
from lockgate.signals import stopping
from lockgate_service.amqp.program import count, report
from lockgate_service.amqp.publish.publisher import Publisher
from lockgate_service.amqp.publish.settings import Settings


async def live(settings: Settings) -> None:
    """Returns after an orderly stop."""
    publisher = Publisher(settings)
    beside = [
        asyncio.create_task(count(publisher.counters.as_dict)),
        asyncio.create_task(report(settings.status_file, partial(status, publisher))),
    ]
    try:
        with stopping(publisher.stop):
            await publisher.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        logger.info("counted", **publisher.counters.as_dict())


def status(publisher: Publisher) -> dict[str, object]:
    return {"works": publisher.is_well, "leads": publisher.is_leading, **publisher.counters.as_dict()}
