"""A leash: the child process at its end goes when its parent does, even when the parent is killed with SIGKILL."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def leash(farewell: signal.Signals) -> Callable[[], None] | None:
    """Return a `preexec_fn` for Popen: the kernel sends `farewell` to the child when the *thread* that started it ends.

    None where there is no such thing (anything but Linux). Popen calls it after the change of user, which matters:
    the kernel forgets the request when a process changes its user.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl  # loaded here: little is safe between fork and exec
    parent = os.getpid()

    def put_on() -> None:
        prctl(PR_SET_PDEATHSIG, int(farewell), 0, 0, 0)
        if os.getppid() != parent:  # it died before the request was made
            os._exit(1)

    return put_on
