"""`stroma doctor`: what is wrong with this machine, said before an hour is lost."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import yaml

from flows.environment import of_stage
from flows.errors import FlowError

PINNED = {"fastapi": "0.151", "sqlalchemy": "2.1"}
"""The first version that does not do: Prefect's server does not start, or creates no scheduled run and says nothing."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor. advice: what to do, empty where nothing is to be done."""

    level: Literal["ok", "warn", "FAIL"]
    what: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.level:<4}  {self.what}{f' -> {self.advice}' if self.advice else ''}"


def examine(workspace: Path) -> Iterator[Finding]:
    """Every finding on this machine and this workspace, as soon as it is known.

    A check that itself breaks is a finding too: the doctor is asked when something is broken already.
    """
    from flows.doctor_server import check_alerts, check_runs, check_schedule, check_server

    checks: list[Callable[[Path], Finding]] = [
        *(check_python, check_packages, check_params, check_dvc, check_disk, check_git, check_weights, check_gpu),
        *(check_leftovers, check_remotes, check_server, check_schedule, check_runs, check_alerts),
    ]
    for check in checks:
        try:
            yield check(workspace)
        except Exception as error:
            said = (str(error) or type(error).__name__).splitlines()[0]
            yield Finding("FAIL", f"{check.__name__.removeprefix('check_')} could not be looked at: {said}")


def check_python(_: Path) -> Finding:
    """The interpreter, and whose it is."""
    return Finding("ok", f"Python {platform.python_version()} in {sys.prefix}")


def check_packages(workspace: Path) -> Finding:
    """What is installed is what requirements.lock pins; two of the pins decide whether schedules work at all."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name
    from packaging.version import Version

    for name, first_bad in PINNED.items():
        if Version(metadata.version(name)) >= Version(first_bad):
            advice = "`make` installs the pinned one; with this one no scheduled run is ever created"
            return Finding("FAIL", f"{name} {metadata.version(name)} is not below {first_bad}", advice)
    lines = (workspace / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.rstrip(" \\")) for line in lines if "==" in line and not line.startswith((" ", "#"))]
    installed = {canonicalize_name(one.name): one.version for one in metadata.distributions()}
    wrong = [
        f"{pin.name} {installed.get(pin.name, 'is missing')}"
        for pin in pins
        if (pin.marker is None or pin.marker.evaluate()) and not pin.specifier.contains(installed.get(pin.name, "0"))
    ]
    if wrong:
        shown = ", ".join(wrong[:4]) + (", ..." if wrong[4:] else "")
        return Finding(
            "warn", f"{len(wrong)} of {len(pins)} packages are not as pinned: {shown}", "`make` installs them"
        )
    return Finding("ok", f"{len(pins)} packages as requirements.lock pins them")


def check_params(workspace: Path) -> Finding:
    """The quick check of all of params.yaml."""
    done = subprocess.run(
        [sys.executable, "-m", "stages"],
        cwd=workspace,
        env=of_stage(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == 0:
        return Finding("ok", done.stdout.strip())
    faults = done.stderr.strip().splitlines()
    more = f" (and {len(faults) - 1} more)" if faults[1:] else ""
    return Finding("FAIL", faults[0].removeprefix("error: ") + more, "`make check` lists them all")


def check_dvc(workspace: Path) -> Finding:
    """The repository opens, and how outputs get from the cache into the workspace."""
    from dvc.fs import generic
    from dvc.repo import Repo

    with Repo(str(workspace)) as repo:
        cache = repo.cache.local
        Path(cache.path).mkdir(parents=True, exist_ok=True)
        links = generic.test_links(cache.cache_types, cache.fs, cache.path, repo.fs, repo.root_dir)
        stages = len(repo.index.stages)
    what = f"DVC: {stages} stages, cache {cache.path}, outputs by {links[0] if links else 'nothing'}"
    if not links:
        return Finding("FAIL", what, "the cache cannot be written to, or lies on a disk that takes no file from here")
    if links[0] == "copy":
        advice = "every output takes its space twice; put the cache on the workspace's disk (`dvc cache dir`)"
        return Finding("warn", what, advice)
    return Finding("ok", what)


def check_disk(workspace: Path) -> Finding:
    """A retrain may need every output once more."""
    from flows.worktree import LEAST_FREE_BYTES, cache_folder, outputs_bytes

    needed = max(LEAST_FREE_BYTES, outputs_bytes(workspace, "HEAD"))
    folders = [
        next(one for one in (path, *path.parents) if one.is_dir()) for path in (workspace, cache_folder(workspace))
    ]
    free = min(shutil.disk_usage(folder).free for folder in folders)
    what = f"disk: {free / 1e9:,.1f} GB free, a retrain may need {needed / 1e9:,.1f} GB"
    if free < needed:
        return Finding("FAIL", what, "`dvc gc --workspace --all-tags` drops what no promoted model needs")
    return Finding("ok", what)


def check_git(workspace: Path) -> Finding:
    """A promotion commits and tags."""
    from flows.git import branch_of, git, require_identity

    who, branch = require_identity(workspace), branch_of(workspace)
    edits = len(git(workspace, "status", "--porcelain", "--untracked-files=no").splitlines())
    if edits:
        advice = "a retrain takes the last commit, without them; the branch then cannot be moved on by itself"
        return Finding("warn", f"git: {who} on {branch}, {edits} files with uncommitted edits", advice)
    return Finding("ok", f"git: {who} on {branch}, clean")


def check_weights(workspace: Path) -> Finding:
    """Start weights for recipes with `init: imagenet`."""
    params = yaml.safe_load((workspace / "params.yaml").read_text(encoding="utf-8"))
    named = params.get("weights_dir") or os.environ.get("STROMA_WEIGHTS")
    missing = params["profiles"][params["profile"]]["train"]["init_missing"]
    if named is None:
        level: Literal["ok", "warn"] = "warn" if missing == "error" else "ok"
        advice = (
            "name one in weights_dir or STROMA_WEIGHTS, unless timm's hub can be reached" if level == "warn" else ""
        )
        return Finding(level, f"weights: no folder named; without the hub: init_missing {missing}", advice)
    if not Path(named).is_dir():
        return Finding("FAIL", f"weights: {named} is no folder", "correct weights_dir of params.yaml or STROMA_WEIGHTS")
    return Finding("ok", f"weights: {len(list(Path(named).glob('*.imagenet.safetensors')))} files in {named}")


def check_gpu(_: Path) -> Finding:
    """The GPUs that the driver shows."""
    if shutil.which("nvidia-smi") is None:
        return Finding("ok", f"GPU: none seen (no nvidia-smi); trains on {len(os.sched_getaffinity(0))} CPU cores")
    done = subprocess.run(
        ["nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if done.returncode:
        return Finding(
            "warn", f"GPU: nvidia-smi fails ({done.stdout.strip()})", "the driver is broken: training would be slow"
        )
    return Finding("ok", f"GPU: {'; '.join(done.stdout.strip().splitlines())} free")


def check_leftovers(workspace: Path) -> Finding:
    """Locks that are held, and what a killed run left."""
    from flows.workspace import claimed, holder_of
    from flows.worktree import WORKTREES

    holder = holder_of(workspace)
    told = f"run {holder['run']}, pid {holder['pid']}, since {holder['since']}" if holder else ""
    try:
        with claimed(workspace, "doctor", wait=False, say=print):
            left = [told] if told else []  # a run that ends by itself takes its name off the lock
    except FlowError:
        return Finding("ok", f"workspace: in use by {told}")
    left += [f"worktree {path.name}" for path in sorted((workspace / WORKTREES).glob("*"))]
    if left:
        return Finding("warn", f"workspace: left by a killed run: {'; '.join(left)}", "`stroma doctor --mend`")
    return Finding("ok", "workspace: free, nothing left behind")


def check_remotes(workspace: Path) -> Finding:
    """Where promoted models go, beyond this disk."""
    from dvc.repo import Repo

    from flows.git import remote_of

    with Repo(str(workspace)) as repo:
        data = repo.config["core"].get("remote")
    code = remote_of(workspace)
    lacking = [name for name, there in (("DVC", data), ("git", code)) if not there]
    if lacking:
        advice = "`dvc remote add -d NAME URL`, `git remote add origin URL`: a promoted model is on this disk alone"
        return Finding("warn", f"remotes: no {' and no '.join(lacking)} remote", advice)
    return Finding("ok", f"remotes: DVC {data}, git {code}")
