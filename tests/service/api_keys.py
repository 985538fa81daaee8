"""Keys for tests, and how they are brought."""

from lockgate_service.auth import keys

from tests.database import Database

BEARER = "lockgate_" + "a" * 12 + "_" + "B" * 43
"""In the form of a key, and nobody's."""


def make_key(db: Database, name: str, scope: str = "admin", queue: str | None = None, owner: str | None = None) -> str:
    made, text = keys.make()
    db.query("select lockgate.add_key(%s, %s, %s, %s, %s, %s)", made.id, name, made.digest, scope, queue, owner)
    return text


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
