"""Runs one stage: `dvc repro --single-item` under a supervisor, output line by line, the verdict in DVC's own words."""

import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from threading import Lock

from flows.environment import of_stage
from flows.summary import StageOutcome, Verdict
from flows.supervisor import LET_GO, TIMED_OUT

SUPERVISOR = Path(__file__).with_name("supervisor.py")
LINES_KEPT = 12

FIRST_LINES: tuple[tuple[str, Verdict], ...] = (
    (r"(?:Stage )?'{}' didn't change, skipping", "unchanged"),
    (r"Stage '{}' is cached - skipping run, checking out outputs", "restored"),
    (r"Running stage '{}':", "ran"),
)
"""What DVC 3 says first of a stage -> the verdict; tests/flows pins these lines on the installed DVC."""

PULLED = r"Pulling data for .*"
"""Under --pull, of a stage that has nothing else to say."""

TRANSIENT = re.compile(
    r"Unable to acquire lock|is busy, it is being blocked by"  # another `dvc` command of somebody's
    r"|Temporary failure in name resolution|Name or service not known|Network is unreachable|Connection refused"
    r"|Connection (?:reset|aborted|timed out)|Read timed out|ConnectTimeout|ReadTimeout|Max retries exceeded"
    r"|ServerDisconnected|50[234] (?:Server Error|Bad Gateway|Service Unavailable|Gateway)",
    re.IGNORECASE,
)
"""Errors that may be gone a minute later: locks and networks. A failing command is none, nor is a validation."""

HINT = re.compile(
    r"To track the changes with git, run:|\s+git add |To enable auto staging, run:|\s+dvc config |Use `dvc push`"
)
"""What DVC recommends after every single stage."""

BAR = re.compile(r"\d+%\|.*\|")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_leashes: dict[Path, set[int]] = {}
"""Workspace -> the pipes that hold its running stages; present while a run may start some."""
_guard = Lock()


def hold(workspace: Path) -> None:
    """Let stages of this workspace run from now on."""
    with _guard:
        _leashes.setdefault(workspace, set())


def let_go(workspace: Path) -> None:
    """Stop every stage of this workspace that runs in this process, and let none start."""
    with _guard:
        for pipe in _leashes.pop(workspace, set()):
            os.close(pipe)


def repro(
    workspace: Path, stage: str, flags: list[str], timeout_s: float | None, say: Callable[[str], None]
) -> StageOutcome:
    """Bring one stage up to date with DVC; `say` each line of its output. Its size is not known here.

    flags: more words for `dvc repro`. The environment holds neither telemetry nor this checkout (flows.environment).
    """
    clock = time.monotonic()
    command = [sys.executable, "-P", "-m", "dvc", "--wait-for-lock", "repro", "--single-item", *flags, stage]
    held, leash = os.pipe()
    with _guard:
        if workspace not in _leashes:
            os.close(held)
            os.close(leash)
            return StageOutcome(stage, "failed", 0.0, None, "the run was stopped before it started")
        _leashes[workspace].add(leash)
        process = supervised(workspace, command, held, timeout_s or 0, of_stage())
    verdict, last = _listen(process, stage, say)
    status = process.wait()
    with _guard:
        if leash in _leashes.get(workspace, set()):
            _leashes[workspace].remove(leash)
            os.close(leash)
    seconds = round(time.monotonic() - clock, 3)
    if status == 0:
        return StageOutcome(stage, verdict or "ran", seconds, None)
    return StageOutcome(stage, "failed", seconds, None, "\n".join([*last, *_reason(status, timeout_s)]))


def supervised(
    workspace: Path, command: list[str], held: int, timeout_s: float, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    """Start `command` under a supervisor that stops it when the other end of the pipe `held` closes.

    held: is closed here. timeout_s: 0 for none. The output comes as one stream.
    """
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", SUPERVISOR, str(held), str(timeout_s), *command],
        cwd=workspace,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=(held,),
        start_new_session=True,  # Ctrl-C is for the flow, which lets go of the pipe
    )
    os.close(held)
    return process


def _listen(
    process: subprocess.Popen[bytes], stage: str, say: Callable[[str], None]
) -> tuple[Verdict | None, list[str]]:
    """Pass the output on; return what DVC's first line says, and the last lines."""
    verdict: Verdict | None = None
    last: deque[str] = deque(maxlen=LINES_KEPT)
    for raw in process.stdout or ():
        line = without_bars(raw)
        if not line or HINT.match(line):
            continue
        say(line)
        last.append(line)
        if verdict is None or verdict == "restored":
            verdict = first_verdict(stage, line) or verdict
    return verdict, list(last)


def first_verdict(stage: str, line: str) -> Verdict | None:
    """The verdict that a line of DVC announces, or None."""
    for pattern, verdict in FIRST_LINES:
        if re.fullmatch(pattern.format(re.escape(stage)), line):
            return verdict
    return "restored" if re.fullmatch(PULLED, line) else None


def without_bars(raw: bytes) -> str | None:
    """A line as it would be left on a terminal, without colours; None where a progress bar is all that it is."""
    text = ESCAPE.sub("", raw.decode(errors="replace").rstrip("\r\n")).rsplit("\r", 1)[-1].rstrip()
    return None if BAR.search(text) or (not text and b"\r" in raw.rstrip(b"\r\n")) else text


def _reason(status: int, timeout_s: float | None) -> list[str]:
    if status == TIMED_OUT:
        return [f"stopped: it ran longer than the {timeout_s:g} s that its meta.timeout in dvc.yaml allows"]
    return ["stopped: the run was cut short"] if status == LET_GO else []


def is_transient(outcome: StageOutcome) -> bool:
    """The stage failed by a lock or the network, so that trying again is worth it."""
    return outcome.verdict == "failed" and bool(TRANSIENT.search(outcome.error or ""))
