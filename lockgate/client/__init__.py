"""A client of the HTTP API, sync and async. Needs `lockgate[client]`."""

try:
    import httpx as _httpx  # noqa: F401
except ImportError as error:
    raise ImportError("the clients need httpx: pip install 'lockgate[client]'") from error

from lockgate.client.async_client import AsyncClient
from lockgate.client.errors import RequestFailed, TaskCancelled, TaskFailed
from lockgate.client.messages import (
    Attempt,
    Failure,
    Failures,
    FieldError,
    NewTask,
    Output,
    Problem,
    Queue,
    Slot,
    Status,
    Submitted,
    Taken,
    Task,
    TaskError,
)
from lockgate.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Attempt",
    "Client",
    "Failure",
    "Failures",
    "FieldError",
    "NewTask",
    "Output",
    "Problem",
    "Queue",
    "RequestFailed",
    "Slot",
    "Status",
    "Submitted",
    "Taken",
    "Task",
    "TaskCancelled",
    "TaskError",
    "TaskFailed",
]
