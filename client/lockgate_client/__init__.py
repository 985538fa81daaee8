"""The client of Lockgate's HTTP API, sync and async."""

from lockgate_client.clients import AsyncClient, Client
from lockgate_client.messages import (
    Attempt,
    Failure,
    Failures,
    FieldError,
    NewTask,
    Output,
    Problem,
    Queue,
    RequestFailed,
    Slot,
    Status,
    Submitted,
    Taken,
    Task,
    TaskCancelled,
    TaskError,
    TaskFailed,
)

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
