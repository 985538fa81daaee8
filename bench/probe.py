"""Runs a program of a checkout in this process and writes which of its files are entered. Started by `bench.entered`,
with the checkout's Python: it imports nothing of ours.

``python probe.py service ROOT`` serves, sends itself requests, and notes each frame that is entered meanwhile, on all
threads but its own. ``python probe.py runner ROOT PACKAGE`` runs a runner with psycopg's implementation in Python, and
notes the stack below which libpq is told to send a claim. What they found is a line of JSON on standard output.
"""

import ctypes.util
import http.client
import json
import os
import runpy
import socket
import statistics
import sys
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType

POST = ("POST", "/tasks", '{"kind": "noop", "payload": {"to": "somebody@example.org"}}')
GET = ("GET", "/tasks", None)
WARM_UP, RECORDED = 20, 21
AFTERWARDS = 0.05
"""Seconds after an answer in which the rest of its work ends, such as the notification."""

SENDS = {"send_query_params", "send_query_prepared", "send_query", "exec_params", "exec_prepared"}


class Files:
    """The files of the checkout that code objects come from."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[CodeType, str] = {}

    def of(self, code: CodeType) -> str:
        """The path of its file below the checkout; empty for one that is not ours."""
        if (known := self._known.get(code)) is None:
            path = Path(code.co_filename)
            ours = path.is_relative_to(self._root) and not path.is_relative_to(self._root / ".venv")
            known = self._known[code] = str(path.relative_to(self._root)) if ours else ""
        return known


class Entered:
    """The files of all frames that are entered while it records, in their order."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self.recording = False
        self.order: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: object) -> None:
        if self.recording and event == "call" and (file := self._files.of(frame.f_code)):
            self.order.append(file)


def service(root: Path) -> None:
    """Serves until both requests are recorded."""
    entered = Entered(Files(root))
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    requests = threading.Thread(target=ask, args=(port, entered), daemon=True)
    requests.start()  # before the profile is set, which is for threads that start later
    threading.setprofile(entered)
    sys.setprofile(entered)
    sys.argv = ["lockgate", "serve", "--port", str(port)]
    from lockgate.__main__ import main

    main(prog_name="lockgate")


def ask(port: int, entered: Entered) -> None:
    """Sends the requests on one connection, then writes what they entered and ends the process."""
    try:
        client = connect(port)
        found = {f"{method} {path}": record(client, entered, method, path, body) for method, path, body in (POST, GET)}
        print(json.dumps(found), flush=True)  # noqa: T201 - read by bench.entered
    finally:
        os._exit(0)


def connect(port: int) -> http.client.HTTPConnection:
    end = time.monotonic() + 60
    while True:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            client.request("GET", "/health/ready")
            if client.getresponse().read() is not None and time.monotonic() < end:
                return client
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def record(
    client: http.client.HTTPConnection, entered: Entered, method: str, path: str, body: str | None
) -> dict[str, object]:
    """Files that most of these requests enter, and the median of moves from one file to another."""
    headers = {"Content-Type": "application/json"} if body else {}
    seen: Counter[str] = Counter()
    moves = []
    for number in range(WARM_UP + RECORDED):
        entered.order = []
        entered.recording = True
        client.request(method, path, body, headers)
        answer = client.getresponse()
        answer.read()
        time.sleep(AFTERWARDS)
        entered.recording = False
        if answer.status not in (200, 202):
            raise RuntimeError(f"{method} {path}: {answer.status}")
        if number >= WARM_UP:
            order = entered.order
            seen.update(set(order))
            moves.append(sum(one != other for one, other in pairwise(order)))
    files = sorted(file for file, times in seen.items() if times > RECORDED // 2)
    return {"files": files, "moves": statistics.median(moves), "now and then": sorted(set(seen) - set(files))}


def runner(root: Path, package: str) -> None:
    """Executes until a claim is sent by name, that is, once the server has prepared it."""
    libraries = list(root.glob(".venv/lib/python*/site-packages/psycopg_binary.libs/libpq-*"))
    find = ctypes.util.find_library
    ctypes.util.find_library = lambda name: str(libraries[0]) if name == "pq" and libraries else find(name)
    os.environ["PSYCOPG_IMPL"] = "python"
    files = Files(root)

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_name in SENDS and (layers := below_db(frame, files)):
            print(json.dumps(layers), flush=True)  # noqa: T201 - read by bench.entered
            os._exit(0)

    sys.setprofile(note)
    sys.argv = [package]
    runpy.run_module(package, run_name="__main__", alter_sys=True)


def below_db(frame: FrameType | None, files: Files) -> list[str]:
    """Our frames from the function in ``db.py`` that finishes and claims, down to here; empty under any other."""
    stack: list[str] = []
    layers: list[str] = []
    while frame:
        if file := files.of(frame.f_code):
            stack.append(f"{file}: {frame.f_code.co_name}")
            if file.endswith("/db.py") and "finish_and_claim" in frame.f_code.co_name:
                layers = list(stack)
        frame = frame.f_back
    return layers[::-1]


if __name__ == "__main__":
    if sys.argv[1] == "service":
        service(Path(sys.argv[2]))
    else:
        runner(Path(sys.argv[2]), sys.argv[3])
