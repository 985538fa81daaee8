"""A database, a witness, and runners on hosts of their own."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from lockgate.local.witness import Witness
from lockgate.postgres.server import Server
from tests.contract import Contract
from tests.database import template
from tests.faults.network.network import Host, Network
from tests.runner.process import RunnerProcess

AUDIT = """
create table lockgate.audit (task bigint not null, status text not null);
create function lockgate.audit() returns trigger language plpgsql security definer as
$$ begin insert into lockgate.audit values (new.id, new.status); return null; end $$;
create trigger audit after update on lockgate.task for each row
  when (new.status in ('succeeded', 'failed', 'cancelled') and old.status is distinct from new.status)
  execute function lockgate.audit();
"""


IDLE = "without-work"

LIMIT = 90.0
"""Seconds for anything to happen at all; what it may take is for the tests to say."""


class Scene:
    """What a story of a broken network plays in."""

    def __init__(self, q: Contract, witness: Witness, network: Network) -> None:
        self.q = q
        self.witness = witness
        self.network = network
        self.runners: list[RunnerProcess] = []

    def start(self, host: Host, *, module: str = "lockgate_runner", **settings: Any) -> RunnerProcess:
        """Starts a runner there, with all settings that matter here as they come."""
        url = make_conninfo(self.q.db.runner, host=self.network.server)
        settings |= {"handlers": "tests.faults.network.handlers"}
        runner = RunnerProcess(url, self.witness.address, module=module, prefix=host.command, **settings)
        self.runners.append(runner)
        return runner

    def stand_by(self, queues: Iterable[str], executors: int) -> RunnerProcess:
        """Starts a runner on a sound host that is ready to work for these queues.

        It idles in the slots of a queue without work, which it lets go for others. So its executors are started
        already: how long that takes says more about the machine than about the network.
        """
        self.q.queue(IDLE, slots=executors)
        runner = self.start(self.network.host(), queues=" ".join([*queues, IDLE]), concurrency=executors)
        runner.says("slot taken", LIMIT, count=executors)
        runner.says("executor started", LIMIT, count=executors)
        return runner

    def sessions(self, host: Host) -> int:
        """How many sessions from that host the server believes in."""
        count: int = self.q.db.value("select count(*) from pg_stat_activity where client_addr = %s::inet", host.address)
        return count

    def ended_twice(self) -> list[int]:
        return [row[0] for row in self.q.db.query("select task from lockgate.audit group by task having count(*) > 1")]

    def clear(self) -> None:
        """Ends all runners and removes their hosts."""
        for runner in self.runners:
            runner.close()
        self.runners.clear()
        for host in list(self.network.hosts):
            host.remove()


@contextmanager
def scene() -> Iterator[Scene]:
    """A new one, and nothing left of it at the end.

    Raises:
        NoNetwork: there can be none here.
    """
    folder = Path(tempfile.mkdtemp(prefix="lockgate-network-", dir="/tmp"))
    folder.chmod(0o755)  # as root, the server runs as somebody who has to get there
    try:
        with Network() as network:
            settings = {"listen_addresses": f"127.0.0.1,{network.server}", "fsync": "off"}
            with Server(folder / "data", settings=settings) as server:
                let_in(server, folder, network)
                with (
                    template(server.dsn(database="postgres")) as made,
                    made.clone() as db,
                    Witness(network.witness) as witness,
                ):
                    db.query(AUDIT)
                    it = Scene(Contract(db), witness, network)
                    try:
                        yield it
                    finally:
                        it.clear()
    finally:
        shutil.rmtree(folder)


def let_in(server: Server, folder: Path, network: Network) -> None:
    """Lets the network's hosts connect, with a password like everybody."""
    with (folder / "data" / "cluster" / "pg_hba.conf").open("a") as file:
        file.write(f"host all all {network.block}.0/24 scram-sha-256\n")
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("select pg_reload_conf()")
