"""The command `lockgate`."""

import os
from importlib import import_module

import click

from lockgate import environment

# Imported when asked for: `lockgate --help` needs none of them, and some bring a web server with them.
COMMANDS = {
    "up": ("lockgate.up:up", "Everything on this machine: a database, the service and runners."),
    "demo": ("lockgate.demo:demo", "Watch tasks go through the slots, and count what ran at once."),
    "serve": ("service.__main__:main", "The HTTP service."),
    "run": ("lockgate.run:run", "A runner, replaced at once when it dies."),
    "migrate": ("lockgate.migrate:migrate", "Bring a database to this version's schema."),
}


class Refusal(click.ClickException):
    """One line on stderr, without usage text or traceback."""

    def show(self, _: object = None) -> None:
        click.echo(f"lockgate: {self.message}", err=True)


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
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> object:
        asks_help = {"-h", "--help"} & set(ctx.args)
        if not asks_help and (complaint := environment.complaint(os.environ)):
            raise Refusal(complaint)
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            from lockgate.one_line import one_line

            if said := one_line(error):
                raise Refusal(said) from error
            raise


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="lockgate")
def main() -> None:
    """A task queue on Postgres that never executes more than N tasks at once, whatever dies.

    Every option can also be given as the environment variable that its help names; the option wins.

    \b
    lockgate demo       see it work, nothing to install beside it
    lockgate up         use it on this machine
    """


if __name__ == "__main__":
    main(prog_name="lockgate")
