"""A workspace of its own for one retrain: a git worktree of the branch's committed tip, on the same DVC cache.

The user's working tree, with its uncommitted edits, is neither read nor touched. Not `dvc exp run --temp`: that carries
uncommitted edits along, and copies outputs.
"""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flows.errors import FlowError
from flows.git import attempt, git

WORKTREES = Path(".stroma/worktrees")
SHARED = {"runs": "runs", "failed": "failed", "checkpoints": "retrain/checkpoints"}
"""Folder of a worktree's .stroma -> folder of the user's: run records and reports of failed validations outlive the
worktree, and a training that was cut goes on from its checkpoint in the next one. Checkpoints are kept apart from those
of the user's own trainings, which may run at the same time."""
LEAST_FREE_BYTES = 1 << 30


@contextlib.contextmanager
def worktree(main: Path, commit: str, run: str) -> Iterator[Path]:
    """A checkout of `commit` in .stroma/worktrees/<run>, removed at the end; what dead runs left is removed first.

    The caller holds the retrain lock, so any other worktree there belongs to no one. Raises FlowError where the disk is
    too full. While it lasts, relative paths of params.yaml are meant from `main` (STROMA_ROOT).
    """
    clear(main)
    _require_space(main, commit)
    path = main / WORKTREES / run
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        git(main, "worktree", "add", "--quiet", "--detach", str(path), commit)
        _join_cache(main, path)
        _share(main, path)
        with _meant_from(main):
            yield path
    finally:
        remove(main, path)


def bring_outputs(tree: Path) -> None:
    """Link every output of the commit into the worktree, so that what is unchanged is not made again.

    From the cache, what it lacks from the default DVC remote, if there is one: another machine may have made it.
    """
    from flows.graph import opened

    with opened(tree) as repo:
        known = [out.fs_path for out in repo.index.outs if out.use_cache and out.hash_info]
        bring = repo.pull if repo.config["core"].get("remote") else repo.checkout
        if known:
            bring(known, force=True, allow_missing=True)


def clear(main: Path) -> list[str]:
    """Remove the worktrees of runs that are gone; their names."""
    left = sorted(path for path in (main / WORKTREES).glob("*") if path.is_dir())
    for path in left:
        remove(main, path)
    return [path.name for path in left]


def remove(main: Path, path: Path) -> None:
    """Delete a worktree and what git knows of it, however broken it is."""
    attempt(main, "worktree", "remove", "--force", "--force", str(path))
    shutil.rmtree(path, ignore_errors=True)
    attempt(main, "worktree", "prune")
    if path.exists():
        raise FlowError(f"the worktree {path} cannot be removed; delete it by hand, then run `git worktree prune`")


def cache_folder(main: Path) -> Path:
    """Where DVC keeps the content of outputs for the repository `main`."""
    return Path(_dvc_settings(main).get("cache", {}).get("dir") or main / ".dvc/cache")


def _dvc_settings(main: Path) -> dict[str, Any]:
    """What .dvc/config and .dvc/config.local say together, with relative paths made absolute."""
    from dvc.config import Config, merge

    config = Config(str(main / ".dvc"))
    settings: dict[str, Any] = {}
    for level in ("repo", "local"):
        merge(settings, config.load_one(level))
    return settings


def _join_cache(main: Path, path: Path) -> None:
    """Point the worktree's DVC at the cache and the remotes of `main`."""
    from dvc.config import Config

    settings = _dvc_settings(main)
    with Config(str(path / ".dvc")).edit("local") as local:
        local["core"] = {**settings["core"], "site_cache_dir": str(path / ".dvc/tmp/site")}  # goes with the worktree
        local["cache"] = {**settings["cache"], "dir": str(cache_folder(main)), "type": "reflink,hardlink,symlink,copy"}
        local["remote"] = {
            name: {key: str(value) if isinstance(value, Path | str) else value for key, value in one.items()}
            for name, one in settings["remote"].items()
        }


def _share(main: Path, path: Path) -> None:
    (path / ".stroma").mkdir()
    for name, target in SHARED.items():
        (main / ".stroma" / target).mkdir(parents=True, exist_ok=True)
        (path / ".stroma" / name).symlink_to(main / ".stroma" / target)


@contextlib.contextmanager
def _meant_from(main: Path) -> Iterator[None]:
    before = os.environ.get("STROMA_ROOT")
    os.environ["STROMA_ROOT"] = before or str(main)
    try:
        yield
    finally:
        os.environ.pop("STROMA_ROOT")
        if before is not None:
            os.environ["STROMA_ROOT"] = before


def _require_space(main: Path, commit: str) -> None:
    """Refuse a disk that could not take every output of `commit` once more, or a gibibyte if none is known."""
    needed = max(LEAST_FREE_BYTES, outputs_bytes(main, commit))
    for wanted in (main, cache_folder(main)):
        folder = next(parent for parent in (wanted, *wanted.parents) if parent.is_dir())
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise FlowError(
                f"{folder} has {free / 1e9:,.1f} GB free, a retrain may need {needed / 1e9:,.1f} GB: every output once"
                " more. Make room, for example with `dvc gc --all-tags --workspace`"
            )


def outputs_bytes(main: Path, commit: str) -> int:
    """Size of all outputs that dvc.lock of `commit` names; 0 where there is none."""
    done = attempt(main, "show", f"{commit}:dvc.lock")
    lock = yaml.safe_load(done.stdout) if done.returncode == 0 else None
    stages = (lock or {}).get("stages") or {}
    return sum(out.get("size") or 0 for stage in stages.values() for out in stage.get("outs", []))
