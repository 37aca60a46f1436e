"""Leads one stage: `python supervisor.py PIPE SECONDS COMMAND...`, so that nothing of it outlives the flow.

COMMAND runs in a process group of its own. When the pipe closes, because the flow ended, was cancelled, crashed or was
killed with -9, when SECONDS have passed (0: never), or when this process is told to stop, the whole group gets INT,
TERM and KILL, each a little after the other. What a command that ended by itself left running goes the same way.

Only the standard library, and little of it: this starts once a stage (`python -I -S`, some 15 ms).
"""

import ctypes
import os
import select
import signal
import sys
import time

TIMED_OUT, LET_GO = 124, 125
"""Exit statuses of a command that was stopped; DVC itself uses 0, 1 and 255."""

STEPS = ((signal.SIGINT, 3.0), (signal.SIGTERM, 2.0), (signal.SIGKILL, 2.0))
"""Signal, seconds that the group is given. Together they stay below the 10 s that a killed flow may leave anything."""

TOLD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PR_SET_CHILD_SUBREAPER = 36


class Group:
    """The process group of one command, and every orphan that it leaves."""

    def __init__(self, command: list[str]) -> None:
        self.leader = os.posix_spawn(command[0], command, os.environ, setpgroup=0)
        self.status: int | None = None

    def reap(self) -> None:
        """Note how the leader ended, if it has; take dead orphans off the process table, where they count as alive."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.leader:
                self.status = os.waitstatus_to_exitcode(status)

    def alive(self) -> bool:
        """Anything of the group still runs."""
        self.reap()
        try:
            os.killpg(self.leader, 0)
        except ProcessLookupError:
            return False
        return True

    def stop(self) -> None:
        """INT, TERM, KILL to the whole group, until nothing is left of it."""
        for number, seconds in STEPS:
            end = time.monotonic() + seconds
            if self.alive():
                os.killpg(self.leader, number)
            while self.alive() and time.monotonic() < end:
                time.sleep(0.05)


def lead(pipe: int, seconds: float, command: list[str]) -> int:
    """Run `command` to its end, or stop it for one of the reasons above; return the exit status."""
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    for number in (*TOLD, signal.SIGCHLD):
        signal.signal(number, lambda *_: None)  # a handler, not SIG_IGN, which the command would inherit
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    os.set_inheritable(pipe, False)
    group, end = Group(command), time.monotonic() + seconds
    reason = None
    while reason is None and group.status is None:
        left = max(0.0, end - time.monotonic()) if seconds else None
        ready, _, _ = select.select([pipe, woken], [], [], left)
        if pipe in ready or (woken in ready and set(os.read(woken, 4096)) & set(TOLD)):
            reason = LET_GO
        elif not ready:
            reason = TIMED_OUT
        group.reap()
    group.stop()
    return reason if reason is not None else abs(group.status or 0)


if __name__ == "__main__":
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    sys.exit(lead(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
