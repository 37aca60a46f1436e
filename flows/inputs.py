"""What decides the result of a retrain, as one hash; and whether one on the very same has been completed before."""

import json
import platform
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from flows.git import git
from flows.settings import read_yaml

TRAILER = "Stroma-Inputs"
"""Stands in the message of each commit that a completed retrain made, so that other clones know it too."""
TREES = ("dvc.yaml", "stages", "splits", "sources", "requirements.lock")
NOT_INPUTS = ("drift", "tune_dir")
"""Sections of params.yaml that decide nothing here: neither a new batch to look at nor a folder is cause to train."""


def inputs_of(workspace: Path) -> str:
    """Hash of data, params, code and environment: the fingerprints, params.yaml without its comments, the rooms, the
    assignment tables, the pinned packages, Python and torch.

    workspace: a worktree of one's own; git's index of it is brought up to date.
    """
    git(workspace, "add", "--all")
    listed = git(workspace, "ls-files", "--stage", "--", *TREES)
    params = {key: value for key, value in read_yaml(workspace / "params.yaml").items() if key not in NOT_INPUTS}
    parts = [listed, json.dumps(params, sort_keys=True, default=str), platform.python_version(), version("torch")]
    return sha256("\0".join(parts).encode()).hexdigest()


def completed_with(repository: Path, inputs: str) -> str | None:
    """The commit that a completed retrain on these inputs made, promoted or rejected; None where there is none."""
    found = git(
        repository, "log", "--branches", "--tags", "--remotes", "-1", "--format=%H", f"--grep=^{TRAILER}: {inputs}$"
    )
    return found or None
