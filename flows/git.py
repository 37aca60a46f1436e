"""Git, asked on the command line: one call, its answer, and its complaint as an error meant to be read."""

import os
import subprocess
from pathlib import Path

from flows.errors import FlowError

TIMEOUT_S = 600
"""Of one call: enough to push a commit over a poor line; big files are DVC's."""


def checkout_at(workspace: Path | str) -> Path:
    """The workspace, absolute. Raises FlowError where it is not the root of a repository of ours."""
    folder = Path(workspace).resolve()
    if not (folder / "dvc.yaml").is_file() or not (folder / ".git").exists():
        raise FlowError(f"{folder} holds no dvc.yaml and .git; run from the root of the checkout, or name it")
    return folder


def git(folder: Path, *words: str) -> str:
    """What git says in `folder`, without the last newline. Raises FlowError with git's own last line."""
    done = attempt(folder, *words)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise FlowError(f"git {' '.join(words[:2])} failed in {folder}: {said[-1] if said else 'it says nothing'}")
    return done.stdout.removesuffix("\n")


def attempt(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run git in `folder` and give its exit status and output. It never asks for a password: nobody is there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
    environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(
            ["git", *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise FlowError(
            f"git {' '.join(words[:2])} took more than {TIMEOUT_S} s in {folder}: is the remote away?"
        ) from None
    except OSError as error:
        raise FlowError(f"git cannot be run in {folder}: {error}") from None


def require_identity(folder: Path) -> str:
    """`Name <address>` that commits and tags will carry. Raises FlowError if git knows none."""
    done = attempt(folder, "var", "GIT_COMMITTER_IDENT")
    if done.returncode:
        raise FlowError(
            "git does not know who commits here; tell it: `git config user.name NAME`, `git config user.email ADDRESS`"
        )
    return done.stdout.rsplit(">", 1)[0] + ">"


def branch_of(folder: Path) -> str:
    """The branch that is checked out. Raises FlowError where there is none, or no commit yet."""
    done = attempt(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    if done.returncode:
        raise FlowError(f"{folder} has no branch checked out; check one out, or name one with --branch")
    return done.stdout.strip()


def tip_of(folder: Path, branch: str) -> str:
    """The commit that `branch` is at. Raises FlowError if there is no such branch."""
    done = attempt(folder, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}^{{commit}}")
    if done.returncode:
        raise FlowError(f"there is no branch {branch} with a commit in {folder}")
    return done.stdout.strip()


def remote_of(folder: Path, branch: str | None = None) -> str | None:
    """The remote that is pushed to: that of `branch`, else origin, else the only one; None where there is none."""
    own = attempt(folder, "config", f"branch.{branch}.remote").stdout.strip() if branch else ""
    known = git(folder, "remote").split()
    if own in known:
        return own
    if "origin" in known:
        return "origin"
    return known[0] if len(known) == 1 else None
