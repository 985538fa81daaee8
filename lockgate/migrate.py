"""`lockgate migrate` and `lockgate schema`: the schema, and logins for the programs."""

from pathlib import Path

import click

from lockgate import schema
from lockgate.options import database_url, option


@click.command()
@database_url("Whose schema to update.")
@option(
    "LOCKGATE_LOGIN_PASSWORD",
    "--login-password",
    help="Also make the logins <prefix>_service, _runner, _viewer and _operator, with this password.",
)
@option(
    "LOCKGATE_LOGIN_PASSWORD_FILE",
    "--login-password-file",
    metavar="FILE",
    help="The same, with the password in this file; {login} in its name stands for service, runner, viewer, operator.",
)
@option(
    "LOCKGATE_LOGIN_PREFIX", "--login-prefix", default="lockgate_app", help="What the names of those logins begin with."
)
def migrate(database_url: str, login_password: str | None, login_password_file: str | None, login_prefix: str) -> None:
    """Bring a database to this version's schema. Safe at any time: what is current already is not touched."""
    if login_password and login_password_file:
        raise click.UsageError("--login-password and --login-password-file are two passwords; give one")
    passwords = {f"{login_prefix}_{use}": login_password or "" for use in schema.LOGINS}
    if login_password_file:
        passwords = {f"{login_prefix}_{use}": _read(login_password_file, use) for use in schema.LOGINS}
    click.echo(f"schema: version {schema.apply(database_url)}")
    if all(passwords.values()):
        names = schema.create_logins(database_url, passwords.__getitem__, login_prefix)
        click.echo(f"logins: {', '.join(names.values())}")


@click.command("schema")
def print_schema() -> None:
    """Print the schema as one file without psql commands. Execute it in one transaction, in an empty database."""
    click.echo(schema.load().stamped, nl=False)


def _read(file: str, use: str) -> str:
    path = Path(file.replace("{login}", use))
    try:
        password = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"--login-password-file: {error}") from None
    if not password:
        raise click.UsageError(f"--login-password-file: {path} is empty")
    return password
