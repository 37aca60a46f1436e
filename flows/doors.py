"""Runs a door that is no stage of the DAG, `python -m stages.<room>.<door>`; nothing of it outlives the flow."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from flows.environment import of_stage
from flows.errors import FlowError
from flows.stage import SUPERVISOR, without_bars

LINES_KEPT = 12
DOOR_TIMEOUT_S = 6 * 3600
"""Of one door: re-scoring a champion on the full data on one core takes well under an hour."""


def run_door(workspace: Path, say: Callable[[str], None], module: str, *words: str) -> None:
    """Run `python -m stages.<module> WORDS` in `workspace`; `say` each line. Raises FlowError with its last lines."""
    command_line(
        workspace, say, [sys.executable, "-m", f"stages.{module}", *words], f"stages.{module} {' '.join(words)}"
    )


def command_line(workspace: Path, say: Callable[[str], None], command: list[str], name: str) -> None:
    """Run a command under the supervisor. name: how an error calls it."""
    held, leash = os.pipe()
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", SUPERVISOR, str(held), str(DOOR_TIMEOUT_S), *command],
            cwd=workspace,
            env=of_stage(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(held,),
            start_new_session=True,  # Ctrl-C is for the flow, which lets go of the pipe
        )
        os.close(held)
        last: deque[str] = deque(maxlen=LINES_KEPT)
        for raw in process.stdout or ():
            line = without_bars(raw)
            if line:
                say(line)
                last.append(line)
        if process.wait():
            errors = [line.split("error: ", 1)[1] for line in last if "error: " in line]
            raise FlowError(f"{name.strip()} failed: {' '.join(errors or last) or 'it says nothing'}")
    finally:
        os.close(leash)
