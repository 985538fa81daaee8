"""``python -m tests.amqp``: messages through RabbitMQ while all that takes part in it is killed, and a judgement."""

import os
import sys

import click

from tests import proof, server
from tests.amqp.broker import Names, NotHere, broker
from tests.amqp.chaos import Plan, run


@click.command()
@click.option("--messages", default=20_000, show_default=True, help="Good ones.")
@click.option("--bad", default=200, show_default=True, help="Bad ones among them.")
@click.option("--kill-every", default=2.0, show_default=True, help="Seconds between two kills of the intake.")
@click.option("--rate", default=400.0, show_default=True, help="Messages a second.")
def main(messages: int, bad: int, kill_every: float, rate: float) -> None:
    """Publish messages while the intake is killed again and again, the publisher of ends too, and the broker and
    Postgres crash once each. Exit code 1 if one was lost, doubled, unheard, or heard too early."""
    try:
        with broker() as rabbit, server.of_its_own() as own:
            names = Names(f"chaos.{os.getpid()}")
            plan = Plan(messages, bad, bad // 2, kill_every, rate, restart_broker=rabbit.container is not None)
            report = run(own, rabbit, names, plan, lambda line: click.echo(f"… {line}", err=True))
    except NotHere as why:
        raise click.ClickException(str(why)) from None
    for line in report.lines():
        click.echo(line)
    kills = report.intake_kills + report.publisher_kills + plan.restart_broker + plan.restart_database
    proof.say(faults=kills, tasks=report.tasks, breaches=len(report.breaches))
    sys.exit(1 if report.breaches else 0)


if __name__ == "__main__":
    main()
