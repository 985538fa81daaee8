"""What the busiest operations work with, as one thing: Litestar gets several dependencies in a task group, which costs
a sixth of a request."""

from msgspec import Struct

from lockgate_service.auth.caller import Caller
from lockgate_service.pool import Pool
from lockgate_service.tasks.group_commit import Gatherer
from lockgate_service.tasks.loader import TaskReaders
from lockgate_service.tasks.waiting import Waiters


class Desk(Struct, frozen=True):
    """Of one request."""

    caller: Caller
    pool: Pool
    gatherer: Gatherer
    waiters: Waiters
    readers: TaskReaders
