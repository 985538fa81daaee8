"""A compose project of the test's own: its commands, its containers, its service."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from lockgate.witness import Witness
from tests.contract import until

DOCKER = shutil.which("docker") or "docker"

LIMIT = 280.0
"""Seconds for any command; a first build fetches packages."""

OURS = ("service", "runner", "secrets", "migrate")
"""Services that run our image."""


def docker(*arguments: str, limit: float = LIMIT, check: bool = True) -> str:
    """What docker says. Raises AssertionError with its complaints."""
    done = subprocess.run([DOCKER, *arguments], capture_output=True, text=True, timeout=limit, check=False)
    assert done.returncode == 0 or not check, f"docker {' '.join(arguments)}: {done.stderr}{done.stdout}"
    return done.stdout


class Compose:
    """The project in a copy of the checkout. ``witness`` hears its runners; ``scratch`` is where they may write."""

    def __init__(self, checkout: Path, name: str, witness: Witness, scratch: Path) -> None:
        self.checkout = checkout
        self.name = name
        self.witness = witness
        self.scratch = scratch
        self.image = name
        self.files = ["compose.yaml", "tests/containers/override.yaml"]
        self.accepted: list[int] = []
        """The tasks that the service has said 202 to."""

    def environment(self) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOCKGATE_", "COMPOSE_")) and not name.startswith("DATABASE_URL")
        }
        return kept | {
            "COMPOSE_PROJECT_NAME": self.name,
            "COMPOSE_FILE": ":".join(self.files),
            "COMPOSE_PROGRESS": "plain",
            "IMAGE": self.image,
            "SERVICE_ADDRESS": "127.0.0.1:0",
            "BROKER_PAGE_ADDRESS": "127.0.0.1:0",
            "WITNESS": self.witness.address,
            "SCRATCH": str(self.scratch),
        }

    def run(self, command: Sequence[str], limit: float = LIMIT, said: str | None = None) -> str:
        """What a command in the checkout says."""
        done = subprocess.run(
            command, cwd=self.checkout, env=self.environment(), input=said,
            capture_output=True, text=True, timeout=limit, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}{done.stdout}"
        return done.stdout

    def __call__(self, *arguments: str, limit: float = LIMIT) -> str:
        """`docker compose ...`"""
        return self.run([DOCKER, "compose", *arguments], limit)

    def up(self, *arguments: str) -> None:
        """Waits until all are healthy."""
        self("up", "--wait", "--no-build", *arguments)

    def scale(self, runners: int) -> None:
        """Starts or removes runners, and waits until so many are alive: they say so before they are found healthy."""
        self("up", "--detach", "--no-build", "--no-deps", "--scale", f"runner={runners}", "service", "runner")
        until(lambda: len(self.alive()) == runners, f"{runners} runners", 120, every=0.2)

    # -- its containers -----------------------------------------------------------------------------------------------

    def containers(self, service: str, *, stopped: bool = False) -> list[dict[str, Any]]:
        """What `docker inspect` says about each container of a service."""
        numbers = self("ps", "--quiet", *(["--all"] if stopped else []), service).split()
        return [dict(each) for each in json.loads(docker("inspect", *numbers))] if numbers else []

    def logs(self, *services: str) -> list[str]:
        return self("logs", "--no-color", "--no-log-prefix", *services).splitlines()

    def events(self, service: str = "runner") -> list[dict[str, Any]]:
        """The structured lines of a service's log."""
        return [dict(json.loads(line)) for line in self.logs(service)]

    def psql(self, statement: str) -> str:
        """As the operator, as `make psql` does it."""
        login = ["exec", "-T", "db", "psql", "-U", "lockgate_app_operator", "-d", "lockgate"]
        return self(*login, "-XAt", "-v", "ON_ERROR_STOP=1", "-c", statement).strip()

    # -- its service --------------------------------------------------------------------------------------------------

    @property
    def http(self) -> httpx.Client:
        """Of the moment: a started container gets another port."""
        return httpx.Client(base_url=f"http://{self('port', 'service', '8000').strip()}", timeout=20)

    def queue(self, name: str, **settings: Any) -> str:
        """Makes a queue; its name."""
        with self.http as http:
            answer = http.post("/queues", json={"name": name, **settings})
        assert answer.status_code == 201, answer.text
        return name

    def submit(self, queue: str, count: int = 1, kind: str = "tick", **payload: Any) -> list[int]:
        with self.http as http:
            answers = [
                http.post("/tasks", json={"queue": queue, "kind": kind, "payload": payload}) for _ in range(count)
            ]
        assert {answer.status_code for answer in answers} == {202}
        tasks = [int(answer.json()["id"]) for answer in answers]
        self.accepted += tasks
        return tasks

    def task(self, number: int) -> dict[str, Any]:
        with self.http as http:
            return dict(http.get(f"/tasks/{number}").json())

    def tasks(self, queue: str) -> list[dict[str, Any]]:
        with self.http as http:
            return list(http.get("/tasks", params={"queue": queue, "limit": 200}).json()["items"])

    def cancel(self, queue: str) -> None:
        """Ends what is unfinished in a queue."""
        with self.http as http:
            for task in self.tasks(queue):
                if task["status"] not in ("succeeded", "failed", "cancelled"):
                    http.post(f"/tasks/{task['id']}/cancel", json={"force": True})
        self.until_ended(queue)

    def until_ended(self, queue: str, limit: float = 60) -> list[dict[str, Any]]:
        """Waits until every task of a queue has ended."""
        ends = {"succeeded", "failed", "cancelled"}

        def ended() -> list[dict[str, Any]] | None:
            try:
                tasks = self.tasks(queue)
            except (httpx.HTTPError, KeyError):
                return None
            return tasks if all(task["status"] in ends for task in tasks) else None

        return until(ended, f"the tasks of {queue} to end", limit, every=0.2)

    def alive(self) -> list[dict[str, Any]]:
        """The runners that hold a session; none while the service cannot say."""
        try:
            with self.http as http:
                return [runner for runner in http.get("/runners").raise_for_status().json()["items"] if runner["alive"]]
        except (httpx.HTTPError, AssertionError):
            return []

    def executing(self, queue: str) -> int:
        """How many the witness sees."""
        return len(self.witness.current(queue))

    def container_of(self, task: int) -> str:
        """The id of the container whose runner executes a task: the first part of a runner's name is its host's."""
        return str(until(lambda: self.task(task)["runner"], "a runner")).split("-")[0]

    def leases(self, queue: str) -> dict[int, list[int]]:
        """The leases under which each task was executed, as the witness heard of them."""
        found: dict[int, list[int]] = {}
        for execution in list(self.witness.executions):
            if execution.queue == queue:
                found.setdefault(execution.task, []).append(execution.lease)
        return found
