"""Runs a door that is no stage of the DAG, `python -m stages.<room>.<door>`; nothing of it outlives the flow."""

import os
import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.states import Completed, Failed, State

from flows.environment import of_stage
from flows.errors import FlowError
from flows.stage import LINES_KEPT, supervised, without_bars

TIMEOUT_S = 6 * 3600
"""Of one door: scoring a champion on the full data on one core takes well under an hour; a first push may take long."""


def door(name: str, workspace: Path, module: str, *words: str, code: Path | None = None) -> None:
    """Run a door of a room in `workspace` as the task `name`. code: where `stages` lies, if not there.

    Raises FlowError with the door's last lines where it fails.
    """
    state = _door(name, workspace, module, words, code, return_state=True)
    if not state.is_completed():
        raise FlowError(state.message)


@task(name="door", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def _door(name: str, workspace: Path, module: str, words: tuple[str, ...], code: Path | None) -> State:
    logger = get_run_logger()
    command = [sys.executable, "-m", f"stages.{module}", *words]
    environment = {"PYTHONPATH": str(code)} if code else {}
    try:
        _supervised(workspace, command, environment, lambda line: logger.info("%s | %s", name, line), name)
    except FlowError as error:
        return Failed(message=str(error))  # a state and not the exception, whose trace would fill the log
    return Completed()


def dvc(workspace: Path, say: Callable[[str], None], *words: str) -> None:
    """Run a command of DVC in `workspace`; `say` each line. Raises FlowError with its last lines."""
    name = f"dvc {words[0]}"
    _supervised(workspace, [sys.executable, "-P", "-m", "dvc", *words], {}, lambda line: say(f"{name} | {line}"), name)


def _supervised(
    workspace: Path, command: list[str], environment: dict[str, str], say: Callable[[str], None], name: str
) -> None:
    """Run a command under the supervisor. name: how an error calls it."""
    held, leash = os.pipe()
    try:
        process = supervised(workspace, command, held, TIMEOUT_S, of_stage() | environment)
        last: deque[str] = deque(maxlen=LINES_KEPT)
        for raw in process.stdout or ():
            line = without_bars(raw)
            if line:
                say(line)
                last.append(line)
        if process.wait():
            errors = [line.split("error: ", 1)[1] for line in last if "error: " in line]
            raise FlowError(f"{name} failed: {' '.join(errors or last) or 'it says nothing'}")
    finally:
        os.close(leash)
