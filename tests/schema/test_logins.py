"""What the documentation says that each login is refused: tried, one statement after another."""

import pytest
from psycopg import errors

from tests.database import Database, Role
from tests.docs.markdown import table

LOGINS: tuple[Role, ...] = ("service", "runner", "viewer")


def refused() -> list[tuple[Role, str]]:
    """Login and statement of each row. A name that does not exist would be refused as that, not for want of a right."""
    rows = table("docs/security.md", "### What a login is refused")
    return [(login, row[2]) for row in rows for login in LOGINS if row[0] in (login, "all three")]


@pytest.mark.parametrize(("login", "statement"), refused())
def test_a_login_is_refused_what_is_not_its_work(db: Database, login: Role, statement: str) -> None:
    db.connect("owner")  # somebody else's session, to be ended
    with pytest.raises(errors.InsufficientPrivilege):
        db.connect(login).execute(statement.encode())
