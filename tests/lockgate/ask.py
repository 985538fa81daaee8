"""The commands that ask a database, as somebody with the rights of the service."""

from click.testing import CliRunner, Result

from lockgate.__main__ import main
from tests.database import Database


def ask(db: Database | str, *words: object, text: str | bytes = "", **settings: str) -> Result:
    """What `lockgate ...` says and how it ends, in this process. `text`: its standard input."""
    url = db if isinstance(db, str) else db.service
    told = {"LOCKGATE_DATA": None, "DATABASE_URL_FILE": None, "DATABASE_URL": url, **settings}
    return CliRunner().invoke(main, [str(word) for word in words], input=text, env=told, prog_name="lockgate")


def line(result: Result, code: int = 1) -> str:
    """The one line that it refuses with."""
    assert result.exit_code == code, (result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("lockgate: ").rstrip("\n")


class Away:
    """While in this context nobody can connect to the database, and nobody is connected."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.query("select 1")  # on the one connection that stays
        self._allow(False)
        self._db.end_sessions()

    def __exit__(self, *_: object) -> None:
        self._allow(True)

    def _allow(self, whether: bool) -> None:
        with self._db.elsewhere() as connection:
            connection.execute(f'alter database "{self._db.name}" allow_connections {whether}')
