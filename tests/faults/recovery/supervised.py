"""A `lockgate run` under test: a supervisor, its runner, and mostly a spare."""

from datetime import datetime
from pathlib import Path

from tests.contract import until
from tests.runner.process import RunnerProcess, children, command_line


class Supervised(RunnerProcess):
    """Its pid is the supervisor's; its lines are those of all its runners."""

    def runner(self) -> int:
        """The process id of its runner. The spare is always younger: it gets its turn before another is started."""
        return until(lambda: min(self._programs(), key=started, default=None), "a runner")

    def _programs(self) -> list[int]:
        return [pid for pid in children(self.pid) if "-m lockgate_runner" in command_line(pid)]

    def spare(self) -> int:
        """Waits until there is a spare that has loaded everything; its process id."""
        until(lambda: self._last() == "spare ready", f"a spare {self.noise}")
        return max(self._programs(), key=started)

    def _last(self) -> str:
        """What was heard last, a runner's beginning or a spare's."""
        return next((e for line in reversed(self.lines) if (e := line["event"]) in ("connected", "spare ready")), "")

    def told(self, since: float) -> list[tuple[str, float]]:
        """What its runners have logged since that time.time(), and how many seconds later."""
        lines = [(str(line["event"]), datetime.fromisoformat(line["time"]).timestamp()) for line in list(self.lines)]
        return [(event, at - since) for event, at in lines if at >= since]


def started(pid: int) -> int:
    """When a process was started, in ticks since the boot; a great number when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except OSError:
        return 2**62
