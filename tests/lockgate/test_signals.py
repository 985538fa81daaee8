"""A Ctrl-C that Python meets where it can raise nothing."""

import signal
import subprocess
import sys

SCRIPT = """
import os, signal
from lockgate.signals import Signals

class Destroyed:
    def __del__(self):
        {what}

with Signals() as signals:
    Destroyed()
    try:
        signals.check()
    except KeyboardInterrupt:
        print("interrupted")
    else:
        print("not interrupted")
"""


def told(what: str) -> tuple[str, str]:
    script = SCRIPT.format(what=what)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    return done.stdout, done.stderr


def test_an_interruption_in_a_destructor_is_not_lost_and_says_nothing() -> None:
    assert told(f"os.kill(os.getpid(), {int(signal.SIGTERM)})") == ("interrupted\n", "")


def test_other_errors_in_a_destructor_are_still_said() -> None:
    said, errors = told("1 / 0")
    assert said == "not interrupted\n"
    assert "ZeroDivisionError" in errors
