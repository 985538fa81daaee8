"""Which scope each operation needs: the one table."""

from collections.abc import Mapping

from lockgate_service.auth.caller import Scope

# By operation id. None: public, for everybody with or without a key.
NEEDED: Mapping[str, Scope | None] = {
    "listTasks": "read",
    "getTask": "read",
    "getTaskOutput": "read",
    "watchTask": "read",
    "getTaskBriefly": "read",
    "listQueues": "read",
    "getQueue": "read",
    "listSlots": "read",
    "listRunners": "read",
    "listKinds": "read",
    "getStats": "read",
    "getSeries": "read",
    "listFailures": "read",
    "streamEvents": "read",
    "getPage": "read",
    "getMetrics": "read",
    "createTask": "submit",
    "createTasks": "submit",
    "streamTasks": "submit",
    "createSleepTask": "submit",
    "cancelTask": "submit",
    "retryTask": "submit",
    "changeTask": "submit",
    "changeTasks": "admin",
    "deleteTask": "admin",
    "createQueue": "admin",
    "changeQueue": "admin",
    "pauseQueue": "admin",
    "resumeQueue": "admin",
    "purgeQueue": "admin",
    "deleteQueue": "admin",
    "drainRunner": "admin",
    "resumeRunner": "admin",
    "listProblems": None,
    "getProblem": None,
    "getLiveness": None,
    "getReadiness": None,
    "askForKey": None,
    "signIn": None,
    "signOut": None,
}
