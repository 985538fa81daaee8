"""The reaper: one small process beside a runner that ends what a dead executor leaves behind.

However an executor ends (its kernel timer, the death of the runner, a crash), the processes its handler started live
on in its process group. A living runner kills them; the reaper does so when the runner is frozen or dead. It reads the
pids of executors from its standard input, a line each, watches them, and kills the group of each one that ends. It ends
when its input has ended (the runner is gone) and the last executor is dead.

Started by path with ``python -I -S``, so that it is up in a few milliseconds and needs nothing that can be missing.
"""

import contextlib
import os
import select
import signal


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    poll = select.poll()
    poll.register(0, select.POLLIN)
    executors: dict[int, int] = {}
    listening, rest = True, b""
    while listening or executors:
        for descriptor, _ in poll.poll():
            if descriptor == 0:
                data = os.read(0, 4096)
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    watch(int(line), executors, poll)
                if not data:
                    poll.unregister(0)
                    listening = False
            else:
                kill_group(executors.pop(descriptor))
                poll.unregister(descriptor)
                os.close(descriptor)


def watch(pid: int, executors: dict[int, int], poll: "select.poll") -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        kill_group(pid)
        return
    executors[descriptor] = pid
    poll.register(descriptor, select.POLLIN)


def kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
    os._exit(0)  # at once: the runner's lifeline, which a successor waits for, is open for as long as we are
