"""The door of every stage: `python -m stages.<room> [name]`, and of a room's other doors, `stages.<room>.<door>`.

It reads params.yaml, holds the numeric libraries to the number of threads that params allow, speaks the first and the
last line, turns expected errors into one line and exit status 1, and leaves one record of the run in .stroma/runs/.
"""

import atexit
import errno
import gc
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from stages.contracts.errors import StageError
from stages.contracts.files import write_json
from stages.contracts.sections import Params, read_params, section

RUNS = Path(".stroma/runs")


def enter(stage: str, work: Callable[..., str], argument: str | None = None) -> None:
    """Run `work(params)`, or `work(params, value)` where the stage takes one `argument`, and exit with its status.

    stage: the room's name as in dvc.yaml, or `<room>.<door>`. work returns one sentence that says what was made.
    argument: what the one command-line word means ("recipe", "protocol", "batch"); None if the stage takes none.
    """
    words = sys.argv[1:]
    if len(words) != (argument is not None) or words[:1] in (["-h"], ["--help"]):
        print(f"usage: python -m stages.{stage} {argument.upper() if argument else ''}".rstrip(), file=sys.stderr)
        raise SystemExit(0 if words[:1] in (["-h"], ["--help"]) else 2)
    # The libraries make some hundred thousand objects that stay to the end: looking among them for garbage, again and
    # again while they are imported, would cost a fifth of the start-up.
    gc.set_threshold(100_000)
    name = "@".join([stage, *words])
    started, clock = datetime.now(UTC), time.monotonic()
    print(f"{name}: started", flush=True)
    status, said = _attempt(work, words)
    seconds = time.monotonic() - clock
    if status == 0:
        print(f"{name}: {said} ({seconds:,.1f} s)", flush=True)
    else:
        print("\n".join(f"{name}: error: {line}" for line in said.splitlines()), file=sys.stderr, flush=True)
    _record(name, started, seconds, status, said)
    _leave(status)


def _leave(status: int) -> NoReturn:
    """Exit as the interpreter does, but do not take it apart: with torch loaded that takes more than a second."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _attempt(work: Callable[..., str], words: list[str]) -> tuple[int, str]:
    """Exit status, and what to say of it. An error that is not expected passes through as the bug it is."""
    try:
        params = read_params()
        limit_threads(params)
        return 0, work(params, *words)
    except StageError as error:
        return 1, str(error)
    except KeyboardInterrupt:
        return 130, "interrupted; nothing half made was left, `dvc repro` goes on from here"
    except OSError as error:
        return 1, _os_fault(error)


def limit_threads(params: Params) -> None:
    """Hold OpenMP and BLAS to params' `threads`: their number changes float sums, so it must not be the machine's.

    Takes effect for libraries that are imported later, which is why rooms import torch inside their work.
    """
    threads = section(params, "threads", int)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = str(threads)


def _os_fault(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}; free some space and run again, nothing half written was left"
    return f"{error.strerror or error}{where}"


def _record(name: str, started: datetime, seconds: float, status: int, said: str) -> None:
    """Leave what is volatile by nature, and so has no place in a tracked output, where lineage will look for it."""
    peak_kib = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    record = {
        "stage": name,
        "started": started.isoformat(timespec="milliseconds"),
        "seconds": round(seconds, 3),
        "status": status,
        "said": said,
        "peak_memory_mib": round(peak_kib / 1024),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "host": platform.node(),
        "machine": platform.platform(),
        "python": platform.python_version(),
        "pid": os.getpid(),
    }
    try:
        # The word may be a path.
        write_json(record, RUNS / f"{started:%Y%m%dT%H%M%S.%f}-{name.replace('/', '-')}-{os.getpid()}.json")
    except OSError as error:
        print(f"{name}: the run record could not be written: {error}", file=sys.stderr)


def _git(*words: str) -> str | None:
    """What git says, or None where there is no git or no repository."""
    try:
        done = subprocess.run(["git", *words], capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
