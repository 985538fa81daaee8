"""What `docker compose up` leaves there: an image with nothing to spare, containers that may do little, no defaults."""

import json
import re
from datetime import datetime
from typing import Any

import pytest

from tests.containers.compose import OURS, Compose, docker

SECRETS = {
    "service": {"service"},
    "runner": {"runner"},
    "db": {"admin", "owner"},
    "migrate": {"owner", "service", "runner", "viewer", "operator"},
}
"""The logins whose password each container has."""


def inside(compose: Compose, script: str) -> str:
    """What a shell in a container of the image says."""
    return docker("run", "--rm", "--network=none", "--entrypoint=sh", compose.image, "-c", script)


def every(compose: Compose) -> dict[str, dict[str, Any]]:
    """One container of each service."""
    services = ("secrets", "db", "migrate", "service", "runner")
    return {service: compose.containers(service, stopped=True)[0] for service in services}


def test_curl_makes_a_task_and_it_is_done(compose: Compose) -> None:
    address = compose("port", "service", "8000").strip()
    assert address.startswith("127.0.0.1:")
    made = json.loads(
        compose.run(
            [
                "curl",
                "-s",
                f"{address}/tasks",
                "-H",
                "content-type: application/json",
                "-d",
                '{"kind": "sleep", "payload": {"max": 0}}',
            ]
        )
    )
    assert made["status"] == "queued"
    assert {task["status"] for task in compose.until_ended("default")} <= {"succeeded", "cancelled"}
    assert compose.task(made["id"])["status"] == "succeeded"


def test_the_service_is_ready_soon_after_its_start(compose: Compose) -> None:
    (service,) = compose.containers("service")
    started = datetime.fromisoformat(service["State"]["StartedAt"])
    ready = max(datetime.fromisoformat(line["time"]) for line in compose.events("service") if line["event"] == "ready")
    print(f"ready after {(ready - started).total_seconds():.2f} s")  # noqa: T201 - of interest with -s
    assert 0 < (ready - started).total_seconds() < 100


def test_the_image_is_small_and_runs_as_nobody(compose: Compose) -> None:
    image = json.loads(docker("image", "inspect", compose.image))[0]
    base = json.loads(docker("image", "inspect", "python:3.13-slim"))[0]
    print(f"{image['Size'] / 1e6:.0f} MB, {(image['Size'] - base['Size']) / 1e6:.0f} MB of them ours")  # noqa: T201
    assert image["Size"] - base["Size"] < 100e6
    assert image["Config"]["User"] == "10001:10001"
    assert image["Config"]["Entrypoint"] == ["lockgate"]
    assert inside(compose, "id -u").strip() == "10001"
    assert not [
        line for line in image["Config"]["Env"] if re.search("PASS|SECRET|INDEX_URL|PROXY", line, re.IGNORECASE)
    ]


def test_nothing_of_the_build_is_in_the_image(compose: Compose) -> None:
    tools = "gcc cc c++ make uv hatchling git curl postgres psql"
    assert inside(compose, f"for tool in {tools}; do command -v $tool; done; true") == ""
    assert (
        inside(compose, "ls -d /build /opt/build /root/.cache /home/*/.cache 2>/dev/null; ls /opt; true")
        == "lockgate\n"
    )
    packages = inside(compose, "ls /opt/lockgate/lib/python3*/site-packages")
    assert {"lockgate", "lockgate_runner", "lockgate_service"} <= set(packages.split())
    assert not re.search("pixeltable|pytest|hatchling|^tests$", packages, re.MULTILINE)
    writable = "find / -xdev -writable -not -type l -not -path '/proc/*' -not -path '/tmp*' -not -path '/var/tmp*' "
    places = set(inside(compose, f"{writable} 2>/dev/null; true").split())
    assert {
        place for place in places if not place.startswith(("/run/lockgate", "/dev", "/run/lock", "/var/lock"))
    } == set()


def test_everything_is_compiled_before_it_starts(compose: Compose) -> None:
    site = "/opt/lockgate/lib/python3*/site-packages"
    left_out = inside(
        compose,
        f"for file in {site}/lockgate*/*.py {site}/litestar/*.py; do"
        " ls $(dirname $file)/__pycache__/$(basename $file .py).cpython-*.pyc >/dev/null || echo $file; done",
    )
    assert left_out == ""


@pytest.mark.parametrize("service", OURS)
def test_our_containers_may_do_little(compose: Compose, service: str) -> None:
    (container, *_) = compose.containers(service, stopped=True)
    host = container["HostConfig"]
    assert container["Config"]["User"] == "10001:10001"
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Init"]


@pytest.mark.parametrize("service", ["db", "service", "runner"])
def test_what_runs_has_limits_and_comes_back(compose: Compose, service: str) -> None:
    container = every(compose)[service]
    host = container["HostConfig"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert {"max-size", "max-file"} <= host["LogConfig"]["Config"].keys()
    assert container["Config"]["Healthcheck"]["Test"]
    assert container["State"]["Health"]["Status"] in ("healthy", "starting")


def test_the_database_runs_without_root_and_without_any_capability(compose: Compose) -> None:
    host = every(compose)["db"]["HostConfig"]
    assert (host["CapDrop"], host["CapAdd"], host["ReadonlyRootfs"]) == (["ALL"], None, True)
    status = compose("exec", "-T", "db", "cat", "/proc/1/status")
    assert re.search(r"^Uid:\s+[1-9]", status, re.MULTILINE)
    assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE)


def test_nothing_that_scales_has_a_name_or_a_port_of_its_own(compose: Compose) -> None:
    runners = compose.containers("runner")
    assert len({each["Name"] for each in runners}) == len(runners) == 4
    published = {service: each["HostConfig"]["PortBindings"] for service, each in every(compose).items()}
    assert {service for service, ports in published.items() if ports} == {"service"}
    assert {binding["HostIp"] for binding in published["service"]["8000/tcp"]} == {"127.0.0.1"}


def test_no_password_is_in_an_environment_or_a_command(compose: Compose) -> None:
    passwords = [
        compose("exec", "-T", "db", "cat", f"/run/lockgate/{login}/password").strip() for login in SECRETS["db"]
    ]
    service, runner = (
        compose("exec", "-T", which, "cat", f"/run/lockgate/{which}/password").strip()
        for which in ("service", "runner")
    )
    assert len({*passwords, service, runner}) == 4
    for container in every(compose).values():
        said = json.dumps([container["Config"], container["Args"]])
        assert not [password for password in (*passwords, service, runner) if password in said]


@pytest.mark.parametrize("service", SECRETS)
def test_a_container_has_the_passwords_it_needs_and_no_others(compose: Compose, service: str) -> None:
    mounts = every(compose)[service]["Mounts"]
    secrets = [mount for mount in mounts if mount["Destination"].startswith("/run/lockgate/")]
    assert {mount["Destination"].removeprefix("/run/lockgate/") for mount in secrets} == SECRETS[service]
    assert not any(mount["RW"] for mount in secrets)


def test_a_login_does_not_get_in_with_the_password_of_another(compose: Compose) -> None:
    """From where the service is: over the network, as it does."""
    attempts = """
import sys, psycopg
from pathlib import Path
url = Path("/run/lockgate/service/url").read_text().strip()
print(psycopg.connect(url).execute("select current_user").fetchone()[0])
for other in sys.argv[1:]:
    try:
        psycopg.connect(url.replace("lockgate_app_service", other))
    except psycopg.OperationalError as error:
        print("refused" if "password authentication failed" in str(error) else error)
"""
    others = ("lockgate_app_runner", "lockgate_app_operator", "lockgate_owner", "postgres")
    said = compose("exec", "-T", "service", "python", "-c", attempts, *others)
    assert said.split() == ["lockgate_app_service", *["refused"] * len(others)]


def test_the_owner_of_the_schema_is_no_superuser(compose: Compose) -> None:
    owner = "select rolname, rolsuper, rolcreatedb from pg_roles join pg_namespace on nspowner = pg_roles.oid"
    assert compose.psql(f"{owner} where nspname = 'lockgate'") == "lockgate_owner|f|f"


def test_make_psql_lands_where_the_views_are(compose: Compose) -> None:
    command = compose.run(["make", "--dry-run", "psql"]).split()
    said = compose.run(
        [*command[:3], "-T", *command[3:], "-XAt"],
        said="select slots from queue_overview where queue = 'default' \\watch i=0.1 c=2\n",
    )
    assert re.findall(r"^\d+$", said, re.MULTILINE) == ["2", "2"]


def test_a_second_start_keeps_the_passwords(compose: Compose) -> None:
    read = ("exec", "-T", "service", "cat", "/run/lockgate/service/url")
    before = compose(*read)
    compose("up", "--detach", "--no-build", "--no-recreate", "secrets", "migrate")
    assert compose(*read) == before
    assert len([line for line in compose.logs("secrets") if "password made" in line]) == 7


def test_the_broker_takes_the_password_that_was_made_for_it(compose: Compose) -> None:
    """Under the profile amqp, as `make all` starts it."""
    if "rabbitmq:4-management" not in docker("image", "ls", "--format", "{{.Repository}}:{{.Tag}}"):
        docker("pull", "--quiet", "rabbitmq:4-management")
    compose("--profile", "amqp", "up", "--wait", "--no-build", "--no-deps", "rabbitmq")
    check = "rabbitmqctl -q authenticate_user lockgate"
    said = compose(
        "--profile", "amqp", "exec", "-T", "rabbitmq", "sh", "-c", f'{check} "$(cat /run/lockgate/broker/password)"'
    )
    assert "Success" in said
    refused = compose("--profile", "amqp", "exec", "-T", "rabbitmq", "sh", "-c", f"{check} guest || echo refused")
    assert "refused" in refused
    compose("--profile", "amqp", "rm", "--stop", "--force", "--volumes", "rabbitmq")
