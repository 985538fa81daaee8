"""Bodies that work as they are, for the documentation: every operation that takes a body has one."""

from collections.abc import Mapping
from typing import Any

# By operation id, then by what each shows.
EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "createTask": {
        "now": {"kind": "sleep", "payload": {"min": 0, "max": 3}},
        "later": {"kind": "sleep", "delay": 60, "priority": 5, "tags": ["example"], "metadata": {"trace": "4711"}},
        "once": {"kind": "sleep", "run_at": "2030-01-01T00:00:00Z", "dedupe_key": "new-year", "max_attempts": 5},
    },
    "createTasks": {
        "two": {
            "items": [{"kind": "sleep"}, {"kind": "sleep", "payload": {"max": 1}, "idempotency_key": "order-4711"}]
        },
    },
    "streamTasks": {"two": '{"kind": "sleep"}\n{"kind": "sleep", "payload": {"max": 1}}\n'},
    "changeTask": {"sooner": {"priority": 50, "run_at": None}, "tagged": {"tags": ["urgent"], "max_attempts": 5}},
    "changeTasks": {
        "look": {"action": "retry", "filter": {"status": ["failed"], "error": "timed out"}, "dry_run": True},
        "cancel": {"action": "cancel", "ids": [17, 18], "force": True},
    },
    "cancelTask": {"ask": {}, "kill": {"force": True}},
    "createQueue": {"gpu": {"name": "gpu", "slots": 1, "timeout": 3600}},
    "changeQueue": {"slots": {"slots": 4}, "limits": {"timeout": 60, "depth_max": 10000, "kinds": None}},
}
