"""`lockgate migrate`: the schema, and logins for the programs."""

import click

from lockgate import schema
from lockgate.database_url import database_url


@click.command()
@database_url("Whose schema to update.", required=True, default="the content of the file DATABASE_URL_FILE")
@click.option(
    "--login-password",
    envvar="LOCKGATE_LOGIN_PASSWORD",
    show_envvar=True,
    help="Also make the logins <prefix>_service, _runner, _viewer and _operator, with this password.",
)
@click.option(
    "--login-prefix",
    envvar="LOCKGATE_LOGIN_PREFIX",
    show_envvar=True,
    default="lockgate_app",
    show_default=True,
    help="What the names of those logins begin with.",
)
def migrate(database_url: str, login_password: str | None, login_prefix: str) -> None:
    """Bring a database to this version's schema. Safe at any time: what is current already is not touched."""
    click.echo(f"schema: version {schema.apply(database_url)}")
    if login_password:
        names = schema.create_logins(database_url, login_password, login_prefix)
        click.echo(f"logins: {', '.join(names.values())}")
