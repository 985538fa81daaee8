"""The filter of a list, and where a page of it ends: the place, and a mark of the filter it belongs to."""

from collections.abc import Sequence
from hashlib import blake2b
from urllib.parse import urlencode

import msgspec
from msgspec import json

from lockgate_service.http.body import field_and_message
from lockgate_service.http.params import to_utc
from lockgate_service.http.problems import invalid
from lockgate_service.tasks.messages import TaskFilter


def task_filter(**given: object) -> TaskFilter:
    """Raises Refusal (400), also for a time without an offset."""
    try:
        only = msgspec.convert(given, TaskFilter)
    except msgspec.ValidationError as error:
        raise invalid(*field_and_message(str(error))) from None
    to_utc(only)
    return only


def cursor_at(below: int, only: TaskFilter) -> str:
    """Such as `4711-5ca1ab1e`. Nobody but us should read it."""
    return f"{below}-{_mark(only)}"


def place_of(cursor: str, only: TaskFilter) -> int:
    """Below which the page begins. Raises Refusal (400) for the cursor of a list with other filters."""
    below, _, mark = cursor.partition("-")
    if mark != _mark(only):
        raise invalid("cursor", "is of a list with other filters: begin without one")
    return int(below)


def next_link(parameters: Sequence[tuple[str, str]]) -> str:
    """The header Link. Relative, since only the client knows under which address we are."""
    return f'<?{urlencode(parameters)}>; rel="next"'


def _mark(only: TaskFilter) -> str:
    return blake2b(json.encode(only), digest_size=4).hexdigest()
