"""The system user the embedded server runs as: PostgreSQL refuses to run as root."""

import os
import pwd
from pathlib import Path
from typing import Any, NamedTuple


class OsUser(NamedTuple):
    """A user and its group, by number."""

    uid: int
    gid: int

    @classmethod
    def for_folder(cls, data: Path) -> "OsUser | None":
        """Return the user for a server on this data folder; None = as whoever runs us, since that is not root.

        For root: the owner of the folder if it is somebody else's already, else `postgres`, else `nobody`.
        """
        if os.geteuid() != 0:
            return None
        if data.exists() and data.stat().st_uid != 0:
            return cls(data.stat().st_uid, data.stat().st_gid)
        for name in ("postgres", "nobody"):
            try:
                entry = pwd.getpwnam(name)
            except KeyError:
                continue
            return cls(entry.pw_uid, entry.pw_gid)
        return cls(65534, 65534)


def start_as(os_user: OsUser | None) -> dict[str, Any]:
    """Return Popen arguments: this user, and none of the PG* variables that would change what a program does."""
    who = {"user": os_user.uid, "group": os_user.gid, "extra_groups": []} if os_user else {}
    env = {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}
    return {**who, "env": env}
