"""The intake with everything around it, from its start to its end."""

import asyncio
from functools import partial

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate import metrics
from lockgate.log import logger
from lockgate.signals import stopping
from lockgate_service.amqp.intake.intake import Intake
from lockgate_service.amqp.intake.metrics import Families
from lockgate_service.amqp.intake.settings import Settings
from lockgate_service.amqp.program import count, report
from lockgate_service.pool import Pool
from lockgate_service.tasks import db
from lockgate_service.tasks.notify import Notifier

POOL_SIZE = 3


async def live(settings: Settings) -> None:
    """Returns after an orderly stop."""
    url = make_conninfo("", **{"application_name": "lockgate-intake"} | conninfo_to_dict(settings.database_url))
    pool = Pool(url, POOL_SIZE)
    notifier = Notifier(partial(db.notify, pool))
    intake = Intake(settings, pool, notifier)
    await pool.open()
    if settings.metrics:
        metrics.serve(settings.metrics, Families(intake.counters, lambda: intake.is_consuming))
    beside = [
        asyncio.create_task(each)
        for each in (
            notifier.run(),
            count(intake.counters.as_dict),
            report(settings.status_file, partial(status, intake)),
        )
    ]
    try:
        with stopping(intake.stop):
            await intake.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.wait(beside)
        await pool.close()
        logger.info("counted", **intake.counters.as_dict())


def status(intake: Intake) -> dict[str, object]:
    return {"works": intake.is_consuming, **intake.counters.as_dict()}
