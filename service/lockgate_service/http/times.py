"""Times in requests."""

from datetime import UTC, datetime

from msgspec import Struct

from lockgate_service.http.problems import invalid

TIMES = ("run_at", "created_after", "created_before", "finished_after", "finished_before")


def to_utc(given: Struct, within: str = "") -> None:
    """Puts its times into UTC, since Postgres takes no offset beyond 16 hours. Raises Refusal (400) that names the
    field, below `within`, for one that has no four digits of year then."""
    for name in TIMES:
        if isinstance(time := getattr(given, name, None), datetime):
            try:
                setattr(given, name, time.astimezone(UTC))
            except OverflowError:
                raise invalid(f"{within}{name}", "is not within the years 1 to 9999 in UTC") from None
