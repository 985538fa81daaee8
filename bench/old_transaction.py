"""``python -m bench.old_transaction``: claims at full speed beside an old open transaction."""

import statistics

import click
import psycopg

from bench.pgbench import Run, pgbench
from bench.report import Report, number
from bench.script import progress, run
from bench.testbed import Scale, Testbed
from bench.throughput import MOST_PER_SECOND


def measure(scale: Scale, minutes: float = 1) -> Report:
    """Measures claims a second at the end against the start, with one old transaction open."""
    seconds = int(scale(60 * minutes, 10))
    window = max(1, seconds // 6)
    report = Report(
        "5. An old transaction" + (f", {minutes:g} minutes" if minutes != 1 else ""),
        "python -m bench.old_transaction" + (f" --minutes {minutes:g}" if minutes != 1 else ""),
        f"pgbench finishes and claims at full speed on two connections for {seconds} s. Meanwhile one repeatable-read "
        "transaction, begun before, keeps vacuum from removing any dead row version or index entry; another run has no "
        f"such transaction. Claims per second in the first and in the last {window} s.",
    )
    with Testbed(scale) as testbed:
        report.environment = testbed.describe()
        table = report.table(
            "old transaction", "claims", "at first, claims/s", "at the end, claims/s", "end / start", "dead rows left"
        )
        for title in ("none", "open"):
            progress(f"old transaction: {title}")
            run_with, dead = churn(testbed, title == "open", seconds)
            start = statistics.mean(run_with.each_second[:window])
            end = statistics.mean(run_with.each_second[-window:])
            claims = int(run_with.rate * seconds)
            table.add(title, number(claims), number(start), number(end), number(end / start), number(dead))
        report.target("end / start with an old transaction open", number(end / start), "≥ 0.8", end / start >= 0.8)
    return report


def churn(testbed: Testbed, is_open: bool, seconds: int) -> tuple[Run, int]:
    """Returns the result of pgbench, and the dead rows at its end."""
    testbed.main.refill(min(MOST_PER_SECOND, 2000) * seconds)
    with psycopg.connect(testbed.main.urls["viewer"]) as reader:
        if is_open:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("select from lockgate.queue_overview")
        said = pgbench(testbed, testbed.main, 2, seconds=seconds)
        dead = testbed.main.value("select n_dead_tup from pg_stat_user_tables where relname = 'task'")
    return said, int(dead)


MINUTES = click.option(
    "--minutes", type=click.FloatRange(0.1), default=1, show_default=True, help="How long the transaction is open."
)

if __name__ == "__main__":
    run(measure, MINUTES)
