"""``python -m tests.release VERSION [SCHEMA_FILE]``: leaves the dump of a release for the tests of later upgrades.

Made on the oldest PostgreSQL of this machine, since a dump can be restored by newer servers but not by older ones.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg

from lockgate.postgres.server import Server
from tests.server import MEMORY
from tests.versions import installations

RELEASES = Path(__file__).parent / "releases"

# Tasks in every status, an attempt, a second queue.
LIFE = """
insert into queue (name, slots, retention) values ('gpu', 1, null);
select submit('default', 'sleep', '{"max": 3}', priority => 5, tags => '{a,b}', metadata => '{"trace": "1"}');
select submit('default', 'sleep', '{"max": 3}', idempotency_key => 'first');
select submit('default', 'sleep', '{"max": 3}', delay => 3600, dedupe_key => 'hourly');
select submit('gpu', 'train', '{"epochs": 3}');
select submit('gpu', 'train', '{"epochs": 3}', max_attempts => 1);
select submit('default', 'sleep', '{"max": 3}', delay => 7200);
select submit('default', 'sleep', '{"max": 3}');
select register('old-runner', 'host', 7, '0.1.0', 1, null, '{sleep}');
select retake_slot(1, 1), retake_slot(1, 2), retake_slot(2, 1);
select finish(task, lease, 'old-runner', 2.5, '{"slept": 3}') from claim(1, 1, 'old-runner', 1);
select fail(task, lease, 'old-runner', 0.1, '{"type": "E", "message": "m"}') from claim(1, 1, 'old-runner', 1);
select claim(1, 2, 'old-runner', 1);
select fail(task, lease, 'old-runner', 0.1, '{"type": "E", "message": "m"}', null, true)
  from claim(2, 1, 'old-runner', 1);
select cancel(3);
"""


def main() -> None:
    release, schema = sys.argv[1], Path(sys.argv[2] if len(sys.argv) > 2 else "schema.sql").read_text()
    programs = installations()[0]
    with tempfile.TemporaryDirectory(prefix="lockgate-release-", dir=MEMORY) as home:
        Path(home).chmod(0o755)
        with Server(Path(home) / "data", binaries=programs) as server:
            with psycopg.connect(server.dsn(), autocommit=True) as owner:
                owner.execute(schema)
                owner.execute("set search_path = lockgate")
                for statement in LIFE.split(";\n"):
                    owner.execute(statement)
            dump = subprocess.run(
                [programs / "pg_dump", "--schema=lockgate", "--no-owner", "--inserts", server.dsn()],
                capture_output=True,
                text=True,
                timeout=60,
                check=True,
            ).stdout
    noise = ("--", "SET ", "\\", "SELECT pg_catalog.set_config")
    lines = [line for line in dump.splitlines() if line and not line.startswith(noise)]
    head = f"-- A database of release {release}, with tasks in every status, as pg_dump told it."
    (RELEASES / f"{release}.sql").write_text("\n".join([head, "set check_function_bodies = off;", *lines, ""]))


if __name__ == "__main__":
    main()
