"""Toy DAGs of shell stages in repositories of their own; each stage notes in `ran.log` that it ran."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from flows.environment import of_stage

DVC_CONFIG = "[core]\n    analytics = false\n    check_update = false\n[cache]\n    type = copy\n"


def stage(name: str, reads: list[str], command: str = "", **more: object) -> dict[str, object]:
    """A stage NAME that joins the files it reads into out/NAME, after `command`."""
    joined = f"cat {' '.join(reads)} > out/{name}"
    steps = [f"echo {name} >> ran.log", *([command] if command else []), "mkdir -p out", joined]
    return {"cmd": " && ".join(steps), "deps": reads, "outs": [f"out/{name}"], **more}


def make(folder: Path, stages: dict[str, object], files: dict[str, str] | None = None, **sections: object) -> Path:
    """A committed git and DVC repository with these stages and `in/a` to read."""
    (folder / "in").mkdir(parents=True)
    for name, text in {"in/a": "a\n", ".gitignore": ".stroma/\nran.log\n", **(files or {})}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "dvc.yaml").write_text(yaml.safe_dump({**sections, "stages": stages}, sort_keys=False))
    git(folder, "init", "-q")
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text(DVC_CONFIG)
    (folder / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    commit(folder, "toy")
    return folder


def twin(folder: Path, name: str) -> Path:
    """A copy of a workspace beside it, with its own cache."""
    return Path(shutil.copytree(folder, folder.with_name(name), symlinks=True))


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def commit(folder: Path, message: str) -> None:
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", message, "--allow-empty")


def dvc(folder: Path, *words: str, status: int = 0) -> str:
    """What plain `dvc` printed in the workspace; fails the test if it did not end as expected."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "dvc", *words], cwd=folder, env=of_stage(), capture_output=True, text=True
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def stroma(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command line in a process of its own, as a user starts it: with Ctrl-C heard, however these tests run."""
    return subprocess.Popen(
        ["env", "--default-signal=INT", sys.executable, "-P", "-m", "flows", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def ran(folder: Path) -> list[str]:
    """The stages that ran since the last call, sorted."""
    log = folder / "ran.log"
    names = sorted(log.read_text().split()) if log.exists() else []
    log.unlink(missing_ok=True)
    return names


def last_run(folder: Path) -> dict[str, Any]:
    """What `.stroma/last_run.json` holds."""
    return json.loads((folder / ".stroma/last_run.json").read_text())
