"""What the busiest operations work with, as one thing: Litestar gets several dependencies in a task group, which costs
a sixth of a request."""

from msgspec import Struct

from service.caller import Caller
from service.gather import Gatherer
from service.pool import Pool
from service.reading import TaskReaders
from service.waiting import Waiters


class Desk(Struct, frozen=True):
    """Of one request."""

    caller: Caller
    pool: Pool
    gatherer: Gatherer
    waiters: Waiters
    readers: TaskReaders
