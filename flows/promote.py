"""Promotion: a commit, its files pushed, two tags. Tags come last, because they publish; a failure leaves none.

`retrain` promotes what the gate let through (`publish`); `stroma promote` and `stroma rollback` move the champion by
hand between versions that are registered. Nothing else decides who the champion is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from flows import registry
from flows.doors import dvc
from flows.errors import FlowError
from flows.git import attempt, git, remote_of, require_identity
from flows.registry import Version

Say = Callable[[str], None]


@dataclass(frozen=True)
class Target:
    """Where the commit of a promotion goes: to `branch`, or where that cannot be moved to a branch of the run."""

    branch: str
    run: str

    @property
    def other(self) -> str:
        """The branch that takes it where `branch` is in somebody's hands."""
        return f"retrain/{self.run}"


@dataclass(frozen=True)
class Published:
    """What a promotion made. branch: the one that holds the commit; the retrained one, or one beside it."""

    commit: str
    branch: str
    versions: tuple[Version, ...]


def publish(
    main: Path, worktree: Path, target: Target, reasons: dict[str, str], message: str, *, say: Say
) -> Published:
    """Commit the worktree's state, push its data, register and assign a version for each name of `reasons`.

    reasons: name in the registry -> why it is promoted. message: of the commit. Raises FlowError; then there is no new
    tag, and no branch has moved.
    """
    author = require_identity(main)
    base = git(worktree, "rev-parse", "HEAD")
    commit = commit_all(worktree, message)
    push_data(worktree, say)
    made: list[Version] = []
    with _new_tags(main, *reasons) as new_tags:
        for name, reason in sorted(reasons.items()):
            said = f"{reason}\n\nPromoted by {author} in run {target.run}"
            number = registry.register(main, name, commit, said)
            registry.assign(main, name, number, said)
            made.append(Version(name, number, commit, registry.recipe_at(main, name, commit)))
        _push(main, target, commit, new_tags(), say)
    holder = move_branch(main, target, base, commit, say)
    return Published(commit, holder, tuple(made))


def commit_all(worktree: Path, message: str) -> str:
    """Commit all that git keeps of the worktree, on no branch; the commit."""
    git(worktree, "add", "--all")
    git(worktree, "commit", "--quiet", "--allow-empty", "--no-verify", "--message", message)
    return git(worktree, "rev-parse", "HEAD")


def push_data(worktree: Path, say: Say) -> None:
    """`dvc push`, where a default remote is configured."""
    from dvc.config import Config

    if not Config(str(worktree / ".dvc"))["core"].get("remote"):
        say("no default DVC remote is configured: the promoted files are in this machine's DVC cache alone")
        return
    dvc(worktree, say, "push")


def move_branch(main: Path, target: Target, base: str, commit: str, say: Say) -> str:
    """Bring the branch from `base` to `commit` where that disturbs nobody, else the other one; which one it was.

    A working tree that has the branch checked out follows by fast-forward if it is clean and no run is on in it.
    """
    hindrance = _forward(main, target.branch, base, commit)
    if hindrance is None:
        say(f"{target.branch} is at {commit[:8]} now; `dvc checkout` brings its files")
        return target.branch
    git(main, "branch", "--force", target.other, commit)
    say(f"{target.branch} stays where it is: {hindrance}. When that is settled: git merge {target.other}")
    return target.other


def _forward(main: Path, branch: str, base: str, commit: str) -> str | None:
    """Move `branch` if nobody is disturbed; what stands in the way, or None where it is done."""
    from flows.workspace import claimed

    if attempt(main, "rev-parse", f"refs/heads/{branch}").stdout.strip() != base:
        return "it has new commits"
    tree = _checked_out(main, branch)
    if tree is None:
        git(main, "update-ref", f"refs/heads/{branch}", commit, base)
        return None
    try:
        with claimed(tree, "promotion", wait=False, say=lambda _: None):
            if dirty := git(tree, "status", "--porcelain", "--untracked-files=no"):
                return f"{tree} has uncommitted changes in {', '.join(line[3:] for line in dirty.splitlines()[:3])}"
            git(tree, "merge", "--ff-only", "--quiet", commit)  # refuses to overwrite files that git does not know
    except FlowError as error:
        return str(error)
    return None


def _checked_out(main: Path, branch: str) -> Path | None:
    """The working tree that has `branch` checked out."""
    for block in git(main, "worktree", "list", "--porcelain").split("\n\n"):
        fields = dict(line.partition(" ")[::2] for line in block.splitlines())
        if fields.get("branch") == f"refs/heads/{branch}":
            return Path(fields["worktree"])
    return None


def assign_by_hand(workspace: Path, name: str, version: Version, reason: str, say: Say) -> None:
    """Make a registered version the champion, push the tag. Raises FlowError; then the champion is who it was.

    Its files are looked up first: a champion that no machine can load would be found out at the worst moment.
    """
    author = require_identity(workspace)
    with TemporaryDirectory() as folder:
        registry.fetch(workspace, version, {f"models/{version.recipe}": Path(folder) / "model"}, say)
    with _new_tags(workspace, name) as new_tags:
        registry.assign(workspace, name, version.version, f"{reason}\n\nAssigned by {author}")
        remote = remote_of(workspace)
        if remote:
            # The version's own tag too: it may have been registered on a machine that was offline.
            wanted = [*new_tags(), f"{name}@{version.version}"]
            git(workspace, "push", "--quiet", "--atomic", remote, *(f"refs/tags/{tag}" for tag in wanted))
    say(f"{version} is the champion now: {reason}")


def promote(workspace: Path, name: str, version: str | None, reason: str, say: Say) -> Version:
    """Make `version`, or the newest one, the champion."""
    known = _known(workspace, name)
    chosen = known[0] if version is None else _find(known, version)
    present = registry.champion(workspace, name)
    if present == chosen:
        raise FlowError(f"{chosen} is the champion already; its versions: {_listed(known)}")
    assign_by_hand(workspace, name, chosen, reason, say)
    return chosen


def rollback(workspace: Path, name: str, version: str | None, reason: str, say: Say) -> Version:
    """Make `version`, or the champion before the present one, the champion again."""
    known = _known(workspace, name)
    chosen = registry.previous(workspace, name) if version is None else _find(known, version)
    if chosen is None:
        raise FlowError(
            f"{name} has had one champion only: there is none to go back to; its versions: {_listed(known)}"
        )
    if registry.champion(workspace, name) == chosen:
        raise FlowError(f"{chosen} is the champion already; its versions: {_listed(known)}")
    assign_by_hand(workspace, name, chosen, reason, say)
    return chosen


def _known(workspace: Path, name: str) -> list[Version]:
    known = registry.versions(workspace, name)
    if not known:
        names = ", ".join(registry.artifact_of(task) for task in registry.TASKS)
        raise FlowError(f"the registry knows no version of {name}; expected one of {names} after a retrain promoted it")
    return known


def _find(known: list[Version], version: str) -> Version:
    for one in known:
        if one.version == version:
            return one
    raise FlowError(f"{known[0].name} has no version {version}; its versions: {_listed(known)}")


def _listed(known: list[Version]) -> str:
    return ", ".join(f"{one.version} ({one.recipe})" for one in known)


def _push(main: Path, target: Target, commit: str, tags: list[str], say: Say) -> None:
    """Push the commit and the tags, all or none. A remote branch that has moved on stays; the other one takes it."""
    branch, other = target.branch, target.other
    remote = remote_of(main, branch)
    if remote is None:
        say("no git remote is configured: branch and tags are in this repository alone")
        return
    refs = [f"refs/tags/{tag}" for tag in tags]
    done = attempt(main, "push", "--atomic", "--porcelain", remote, f"{commit}:refs/heads/{branch}", *refs)
    if done.returncode and f":refs/heads/{branch}\t[rejected]" in done.stdout:
        say(f"{branch} of {remote} has moved on; the commit goes to {other} there")
        done = attempt(main, "push", "--atomic", "--porcelain", remote, f"{commit}:refs/heads/{other}", *refs)
    if done.returncode:
        raise FlowError(f"git push to {remote} failed: {' '.join((done.stderr or done.stdout).split())}")


@contextmanager
def _new_tags(repository: Path, *names: str) -> Iterator[Callable[[], list[str]]]:
    """Yield what lists the tags of `names` that were made in the block; delete them if it does not end well."""
    before = set(_tags(repository, names))

    def made() -> list[str]:
        return [tag for tag in _tags(repository, names) if tag not in before]

    try:
        yield made
    except BaseException:
        for tag in made():
            git(repository, "tag", "--delete", tag)
        raise


def _tags(repository: Path, names: tuple[str, ...]) -> list[str]:
    patterns = [f"refs/tags/{name}{mark}*" for name in names for mark in ("@", "#")]
    return git(repository, "for-each-ref", "--format=%(refname:strip=2)", *patterns).split()
