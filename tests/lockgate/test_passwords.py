"""Passwords as files: made once, kept, in URLs that work."""

import os
import stat
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from lockgate import schema
from tests.database import Database
from tests.lockgate.up import lockgate

SERVICE = "service=postgresql://shop_service@db.internal:5433/shop?sslmode=require"


def test_each_login_gets_a_password_of_its_own_and_a_url_with_it(tmp_path: Path) -> None:
    made = lockgate("passwords", tmp_path, SERVICE, "broker=amqp://intake@rabbitmq")
    assert made.stdout == "password made: service\npassword made: broker\n"
    password, url = ((tmp_path / "service" / name).read_text().strip() for name in ("password", "url"))
    assert len(password) >= 43
    assert url == f"postgresql://shop_service:{password}@db.internal:5433/shop?sslmode=require"
    other = (tmp_path / "broker" / "password").read_text().strip()
    assert other != password
    assert (tmp_path / "broker" / "url").read_text() == f"amqp://intake:{other}@rabbitmq\n"


def test_a_password_stays_and_its_url_follows_what_is_asked_for(tmp_path: Path) -> None:
    lockgate("passwords", tmp_path, SERVICE)
    password = (tmp_path / "service" / "password").read_text()
    again = lockgate("passwords", tmp_path, "service=postgresql://shop_service@elsewhere/shop")
    assert again.stdout == ""
    assert (tmp_path / "service" / "password").read_text() == password
    assert (
        tmp_path / "service" / "url"
    ).read_text() == f"postgresql://shop_service:{password.strip()}@elsewhere/shop\n"


def test_a_password_of_ones_own_is_quoted_in_the_url(tmp_path: Path) -> None:
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "password").write_text("p@ss/word:%\n")
    lockgate("passwords", tmp_path, SERVICE)
    assert unquote(urlsplit((tmp_path / "service" / "url").read_text()).password or "") == "p@ss/word:%"


def test_only_who_made_the_folder_may_enter_it(tmp_path: Path) -> None:
    lockgate("passwords", tmp_path / "new", SERVICE)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "new" / "service" / "password").stat().st_mode) == 0o444


@pytest.mark.parametrize(
    "login",
    ["service", "service=shop", "service=postgresql://db/shop", "service=postgresql://a:b@db/shop", "../a=a://b@c"],
)
def test_what_is_no_login_is_refused_and_makes_nothing(tmp_path: Path, login: str) -> None:
    refused = lockgate("passwords", tmp_path / "new", login)
    assert refused.returncode == 2
    assert "expected name=scheme://user@host/..., without a password" in refused.stderr
    assert not (tmp_path / "new").exists()


def test_migrate_gives_each_login_the_password_in_its_file(db: Database, tmp_path: Path) -> None:
    prefix = f"{db.name}_app"
    address = conninfo_to_dict(db.owner)
    logins = [
        f"{use}=postgresql://{prefix}_{use}@{address['host']}:{address['port']}/{db.name}" for use in schema.LOGINS
    ]
    lockgate("passwords", tmp_path, *logins)
    try:
        done = lockgate(
            "migrate", "--login-prefix", prefix,
            DATABASE_URL=db.admin, LOCKGATE_LOGIN_PASSWORD_FILE=f"{tmp_path}/{{login}}/password",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        for use in schema.LOGINS:
            with psycopg.connect((tmp_path / use / "url").read_text().strip()) as connection:
                assert connection.execute("select current_user").fetchone() == (f"{prefix}_{use}",)
    finally:
        for use in schema.LOGINS:
            db.query(f'drop role if exists "{prefix}_{use}"')


def test_migrate_says_what_is_wrong_with_a_password_file_before_it_does_anything(db: Database, tmp_path: Path) -> None:
    db.query("drop schema lockgate cascade")
    (tmp_path / "service").touch()
    for file, why in (("{login}", "service is empty"), ("none", "No such file")):
        refused = lockgate("migrate", "--login-password-file", tmp_path / file, DATABASE_URL=db.owner)
        assert refused.returncode == 2
        assert why in refused.stderr
    both = lockgate("migrate", "--login-password-file", "a", "--login-password", "b", DATABASE_URL=db.owner)
    assert "are two passwords; give one" in both.stderr
    assert db.value("select to_regnamespace('lockgate')") is None
    assert "LOCKGATE_LOGIN_PASSWORD_FILE" not in os.environ
