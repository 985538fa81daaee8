"""The command `lockgate`."""

import os
from importlib import import_module

import click

from lockgate.errors import UserError, explained
from lockgate.options import misspelt

# Imported when asked for: `lockgate --help` needs none of them, and some bring a web server with them.
SECTIONS = {
    "To run it": {
        "up": ("lockgate.local.stack:up", "A database, the service and runners on this machine."),
        "demo": ("lockgate.local.demo:demo", "Watch tasks go through the slots, and count what ran at once."),
        "serve": ("lockgate_service.__main__:main", "The HTTP service."),
        "run": ("lockgate.local.supervisor:run", "A runner, replaced at once when it dies."),
        "intake": ("lockgate_service.amqp.commands:intake", "Tasks from a queue of RabbitMQ."),
        "publish": ("lockgate_service.amqp.commands:publish", "How tasks end, to an exchange of RabbitMQ."),
        "migrate": ("lockgate.migrate:migrate", "Bring a database to this version's schema."),
        "schema": ("lockgate.migrate:print_schema", "Print the schema as one file, for any other client."),
        "passwords": ("lockgate.passwords:passwords", "Make a password for each login, as files."),
        "healthcheck": ("lockgate.healthcheck:healthcheck", "Whether the program in a container does its work."),
    },
    "To use it": {
        "submit": ("lockgate.commands.tasks:submit", "Submit a task and print its number, or wait for its result."),
        "cancel": ("lockgate.commands.tasks:cancel", "Cancel tasks."),
        "retry": ("lockgate.commands.tasks:retry", "Queue failed or cancelled tasks again."),
        "list": ("lockgate.commands.tasks:list_", "List tasks, the newest first."),
        "status": ("lockgate.commands.status:status", "Watch the queues, their slots and runners, live."),
        "queues": ("lockgate.commands.queues:queues", "Show, make, change, pause, purge and delete queues."),
        "keys": ("lockgate.commands.keys:keys", "Show, make and revoke keys of the HTTP API."),
        "runners": ("lockgate.commands.runners:runners", "Show, drain and resume runners."),
        "psql": ("lockgate.commands.database:psql", "Open psql on the database."),
    },
}
COMMANDS = {name: found for section in SECTIONS.values() for name, found in section.items()}


class Commands(click.Group):
    """Commands that are imported when they are needed."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), summary) for name, (_, summary) in commands.items()])

    def invoke(self, ctx: click.Context) -> object:
        asks_help = {"-h", "--help"} & set(ctx.args)
        # `run` first: a supervisor lives for long, and need not have a web server in its memory.
        commands = (command for name in ("run", *COMMANDS) if (command := self.get_command(ctx, name)))
        if not asks_help and (complaint := misspelt(os.environ, commands)):
            raise UserError(complaint)
        try:
            with explained():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(130) from None  # as a shell says it


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="lockgate")
def main() -> None:
    """A task queue on Postgres that never executes more than N tasks at once, whatever dies.

    Where the help of an option names an environment variable, that sets it too; the option wins.

    \b
    lockgate demo       see it work, nothing to install beside it
    lockgate up         use it on this machine
    lockgate status     see what it does; every command beside a running `up` finds its database
    """


if __name__ == "__main__":
    main(prog_name="lockgate")
