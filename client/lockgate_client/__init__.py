"""The client of Lockgate's HTTP API, sync and async."""

from lockgate_client.async_client import AsyncClient
from lockgate_client.errors import RequestFailed, TaskCancelled, TaskFailed
from lockgate_client.messages import (
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
from lockgate_client.sync_client import Client

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
