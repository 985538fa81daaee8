"""``python -m bench.pinned``: full churn while somebody keeps an old transaction open."""

import statistics

import click
import psycopg

from bench.answer import Answer, number
from bench.ground import Ground, Scale
from bench.pgbench import Run, pgbench
from bench.script import run, say
from bench.throughput import MOST_PER_SECOND


def measure(scale: Scale, minutes: float = 1) -> Answer:
    """Claims a second at the end of a time of full churn against its start, with one old transaction open."""
    seconds = int(scale(60 * minutes, 10))
    window = max(1, seconds // 6)
    answer = Answer(
        "5. An old transaction" + (f", {minutes:g} minutes" if minutes != 1 else ""),
        "python -m bench.pinned" + (f" --minutes {minutes:g}" if minutes != 1 else ""),
        f"pgbench finishes and claims at full speed on two connections for {seconds} s. Meanwhile one repeatable-read "
        "transaction, begun before, keeps vacuum from removing any dead row version or index entry; another run has no "
        f"such transaction. Claims per second in the first and in the last {window} s.",
    )
    with Ground(scale) as ground:
        answer.ground = ground.said()
        table = answer.table(
            "old transaction", "claims", "at first, claims/s", "at the end, claims/s", "end / start", "dead rows left"
        )
        for title in ("none", "open"):
            say(f"old transaction: {title}")
            run_with, dead = churn(ground, title == "open", seconds)
            start = statistics.mean(run_with.each_second[:window])
            end = statistics.mean(run_with.each_second[-window:])
            claims = int(run_with.rate * seconds)
            table.add(title, number(claims), number(start), number(end), number(end / start), number(dead))
        answer.target("end / start with an old transaction open", number(end / start), "≥ 0.8", end / start >= 0.8)
    return answer


def churn(ground: Ground, pinned: bool, seconds: int) -> tuple[Run, int]:
    """What pgbench said, and how many dead rows there were at its end."""
    ground.main.refill(min(MOST_PER_SECOND, 2000) * seconds)
    with psycopg.connect(ground.main.urls["viewer"]) as reader:
        if pinned:
            reader.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            reader.execute("select from lockgate.queue_overview")
        said = pgbench(ground, ground.main, 2, seconds=seconds)
        dead = ground.main.value("select n_dead_tup from pg_stat_user_tables where relname = 'task'")
    return said, int(dead)


MINUTES = click.option(
    "--minutes", type=click.FloatRange(0.1), default=1, show_default=True, help="How long the transaction is open."
)

if __name__ == "__main__":
    run(measure, MINUTES)
