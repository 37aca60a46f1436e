"""Nothing outlives the flow: what the supervisor does when the pipe closes, the time is up, or the command ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from flows import supervisor

STUBBORN = (
    "import signal, time; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print('up', flush=True); time.sleep(60)"
)


def start(*command: str, seconds: float = 0) -> tuple[subprocess.Popen[str], int]:
    """A supervised command, and the end of the pipe that holds it."""
    held, leash = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", supervisor.__file__, str(held), str(seconds), *command],
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=(held,),
        start_new_session=True,
    )
    os.close(held)
    return process, leash


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def test_the_exit_status_of_the_command_is_passed_on() -> None:
    process, leash = start("/bin/sh", "-c", "exit 7")
    assert process.wait(10) == 7
    os.close(leash)


def test_output_passes_through() -> None:
    process, leash = start("/bin/sh", "-c", "echo hello")
    assert process.communicate(timeout=10)[0] == "hello\n"
    os.close(leash)


def test_a_closed_pipe_stops_the_whole_group() -> None:
    process, leash = start("/bin/sh", "-c", "sleep 61 & sleep 62 & echo up; wait")
    assert process.stdout is not None
    process.stdout.readline()
    left = family(process)
    assert len(left) == 3
    os.close(leash)
    assert process.wait(10) == supervisor.LET_GO
    assert not any(one.is_running() for one in left)


def test_a_command_that_ignores_int_and_term_is_killed_within_ten_seconds() -> None:
    process, leash = start(sys.executable, "-c", STUBBORN)
    assert process.stdout is not None
    process.stdout.readline()
    left, clock = family(process), time.monotonic()
    os.close(leash)
    assert process.wait(10) == supervisor.LET_GO
    assert time.monotonic() - clock < 10
    assert not any(one.is_running() for one in left)


def test_a_command_that_takes_too_long_is_stopped() -> None:
    process, leash = start("/bin/sh", "-c", "sleep 60", seconds=0.3)
    assert process.wait(10) == supervisor.TIMED_OUT
    os.close(leash)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_the_supervisor_itself_stops_the_command(number: signal.Signals) -> None:
    process, leash = start("/bin/sh", "-c", "echo up; sleep 60")
    assert process.stdout is not None
    process.stdout.readline()
    left = family(process)
    process.send_signal(number)
    assert process.wait(10) == supervisor.LET_GO
    assert not any(one.is_running() for one in left)
    os.close(leash)


def test_what_a_command_leaves_running_goes_with_it(tmp_path: Path) -> None:
    process, leash = start("/bin/sh", "-c", f"sleep 60 & echo $! > {tmp_path}/pid; exit 0")
    assert process.wait(10) == 0
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
    os.close(leash)
