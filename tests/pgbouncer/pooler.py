"""A real PgBouncer in transaction mode in front of a test's server: the binary if there is one, else a container."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from lockgate.postgres.server import free_port
from tests.contract import until

IMAGE = "lockgate-test-pgbouncer"
BUILD_LIMIT = 300.0

# Two sessions for everybody, so that each statement meets another than the one before.
CONFIGURATION = """
[databases]
* = host={host} port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
server_round_robin = 1
"""


class NotHere(Exception):
    """There is no PgBouncer to be had; the message says why."""


def command(folder: Path) -> list[str]:
    """What starts it with the configuration in this folder. Raises NotHere."""
    if (binary := shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) and not required():
        return [binary, str(folder / "pgbouncer.ini")]
    docker = shutil.which("docker")
    if docker is None:
        raise NotHere("there is neither a pgbouncer nor a docker command")
    try:
        built = subprocess.run(
            [docker, "build", "--quiet", "--tag", IMAGE, str(Path(__file__).parent)],
            capture_output=True, text=True, timeout=BUILD_LIMIT, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise NotHere(f"an image with PgBouncer was not built within {BUILD_LIMIT:.0f} s") from None
    if built.returncode != 0:
        raise NotHere(f"no pgbouncer command, and an image of it cannot be built: {built.stderr.strip()[-300:]}")
    mount = f"{folder}:{folder}:ro"
    return [docker, "run", "--rm", "--init", "--network=host", "--volume", mount, IMAGE, str(folder / "pgbouncer.ini")]


def required() -> bool:
    return os.environ.get("REQUIRE_DOCKER") == "1"


class Pooler:
    """A running one."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self._process = process

    def before(self, dsn: str) -> str:
        """The same login and database, through the pooler."""
        return make_conninfo(dsn, host="127.0.0.1", port=self.port, sslmode="disable")

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None


@contextmanager
def pooler(folder: Path, server: str, logins: dict[str, str]) -> Iterator[Pooler]:
    """In front of the server of that DSN, for these logins and their passwords. Raises NotHere.

    To see that it answers, it is asked for the DSN's own database: it keeps sessions, and no others would be welcome.
    """
    address = conninfo_to_dict(server)
    listen = free_port()
    folder.chmod(0o755)
    (folder / "users").write_text("".join(f'"{login}" "{password}"\n' for login, password in logins.items()))
    text = CONFIGURATION.format(host=address["host"], port=address.get("port", 5432), listen=listen, folder=folder)
    (folder / "pgbouncer.ini").write_text(text)
    # As root it refuses to run.
    user = "nobody" if os.geteuid() == 0 else None
    started = command(folder)
    if "docker" in started[0]:
        user = None
    output = (folder / "log").open("wb")
    process = subprocess.Popen(started, stdout=output, stderr=output, user=user)
    made = Pooler(listen, process)
    login, password = next(iter(logins.items()))
    dsn = make_conninfo(made.before(server), user=login, password=password)

    def answers() -> bool:
        assert not made.ended, (folder / "log").read_text()
        try:
            with psycopg.connect(dsn, connect_timeout=2) as connection:
                return connection.execute(sql.SQL("select 1")).fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    try:
        until(answers, f"PgBouncer to answer: {(folder / 'log').read_text()}", 30, every=0.1)
        yield made
    finally:
        process.terminate()
        process.wait(20)
        output.close()
