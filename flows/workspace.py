"""One run at a time in a workspace, and what a killed one left half written there."""

import fcntl
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import yaml
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from voluptuous import Invalid

from flows.dvclock import parsed
from flows.errors import FlowError

LOCK = Path(".stroma/lock")
LOCK_FILE = Path("dvc.lock")
RWLOCK = Path(".dvc/tmp/rwlock")


@contextmanager
def claimed(workspace: Path, run: str, wait: bool, say: Callable[[str], None], lock: Path = LOCK) -> Iterator[None]:
    """Hold the workspace for one run; `say` for whom it waits, or raise FlowError where it must not wait.

    The lock is a flock, which the kernel frees however the holder ends; the file's content only says who that is.
    lock: which of the workspace's locks; a retrain has one of its own, since it works in a worktree.
    """
    path = workspace / lock
    path.parent.mkdir(exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = f"{workspace} is taken by {_told(holder_of(workspace, lock))}"
            if not wait:
                raise FlowError(f"{holder}; run again when it has ended") from None
            say(f"{holder}; waiting for it to end")
            fcntl.flock(file, fcntl.LOCK_EX)
        _write(file, {"pid": os.getpid(), "host": platform.node(), "run": run, "since": _now()})
        try:
            yield
        finally:
            _write(file, None)


def holder_of(workspace: Path, lock: Path = LOCK) -> dict[str, Any] | None:
    """Who the lock file says holds the workspace (pid, host, run, since); None where it says nobody."""
    try:
        return json.loads((workspace / lock).read_text())
    except (FileNotFoundError, ValueError):
        return None


def _told(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "another run"
    return f"run {holder['run']} (pid {holder['pid']} on {holder['host']}, since {holder['since']})"


def _write(file: Any, holder: dict[str, Any] | None) -> None:
    file.truncate(0)
    if holder is not None:
        json.dump(holder, file)
    file.flush()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def mend(workspace: Path) -> list[str]:
    """Put right what a killed run left cut off; a sentence for each thing done. Call it while holding the workspace.

    Raises FlowError where a person has to decide.
    """
    return [*_mend_lock_file(workspace), *_mend_rwlock(workspace)]


def _mend_lock_file(workspace: Path) -> Iterator[str]:
    """DVC writes dvc.lock in place; a cut one makes every command fail. Git has the last whole one."""
    path = workspace / LOCK_FILE
    if not path.exists() or _is_lock_file(path.read_text(encoding="utf-8", errors="replace")):
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if "<<<<<<<" in text:
        raise FlowError(f"{path} holds a merge conflict; resolve it (`git checkout --ours {LOCK_FILE}`) and run again")
    kept = workspace / ".stroma/dvc.lock.cut"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, kept)
    committed = subprocess.run(
        ["git", "show", f"HEAD:./{LOCK_FILE}"], cwd=workspace, capture_output=True, text=True, check=False, timeout=60
    )
    if committed.returncode == 0 and _is_lock_file(committed.stdout):
        path.write_text(committed.stdout, encoding="utf-8")
        yield f"{path} was cut off in the middle of a write; took the last commit's (the cut one is in {kept})"
    else:
        path.unlink()
        yield f"{path} was cut off and git has none; removed it, the run cache restores what ran (it is in {kept})"


def _is_lock_file(text: str) -> bool:
    """The text is one that DVC reads, and ends where DVC ends it.

    Cut between two lines it may still be that; then DVC restores or runs the stages that are missing: no harm done.
    """
    try:
        COMPILED_LOCKFILE_SCHEMA(parsed(text) or {})
    except (yaml.YAMLError, Invalid):
        return False
    return text.endswith("\n")


def _mend_rwlock(workspace: Path) -> Iterator[str]:
    """DVC drops entries of dead processes itself, but not a cut file, nor an entry whose pid now is another process."""
    path = workspace / RWLOCK
    if not path.exists():
        return
    try:
        entries = json.loads(path.read_text())
        written = [*entries.get("write", {}).values()]
        pids = {one["pid"] for one in written} | {
            one["pid"] for many in entries.get("read", {}).values() for one in many
        }
    except (ValueError, AttributeError, TypeError, KeyError):
        path.unlink()
        yield f"{path} was cut off in the middle of a write; removed it, no other run holds this workspace"
        return
    if not pids:
        return
    since = path.stat().st_mtime
    if any(_runs_since_before(pid, since) for pid in pids):
        return  # somebody's own `dvc` command; DVC says whose
    path.unlink()
    yield f"{path} named processes that are gone ({', '.join(map(str, sorted(pids)))}); removed it"


def _runs_since_before(pid: int, moment: float) -> bool:
    """The process of an entry still runs. One that started after the file was last written only has its number."""
    try:
        process = psutil.Process(pid)
        # In a container without an init a dead process stays as a zombie that nobody reaps.
        return process.create_time() <= moment and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
