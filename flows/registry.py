"""The model registry: git tags of GTO and nothing else. `champion-binary@v1.2.0` is a version, `champion-binary#prod#4`
says which one is the champion, `gto show` reads both. Which recipe a version is, dvc.yaml says at its commit."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from flows import assignment
from flows.doors import dvc
from flows.errors import FlowError
from flows.git import attempt, git

TASKS = ("binary", "subtype")
STAGE = "prod"
FIRST_VERSION = "v1.0.0"
CHAMPIONS = Path(".stroma/champions")
INDEX = "data/index/case.parquet"
"""A champion's index: only the protocol case parts every case once, and so can keep its cases where they are."""


@dataclass(frozen=True)
class Version:
    """One version of a champion. recipe: which of the commit's models it is."""

    name: str
    version: str
    commit: str
    recipe: str

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.recipe})"


def artifact_of(task: str) -> str:
    """The registry's name of the champion of `task`."""
    return f"champion-{task}"


def champion(repository: Path, name: str) -> Version | None:
    """What the registry calls the champion `name`; None where there is none yet."""
    shown = _show(repository, name, f"{name}#{STAGE}")
    return _version(repository, name, shown[0]) if shown else None


def versions(repository: Path, name: str) -> list[Version]:
    """All registered versions of `name`, the newest first."""
    from gto.versions import SemVer

    shown = _show(repository, name, name)
    ordered = sorted(shown, key=lambda one: SemVer(one["version"]), reverse=True)
    return [_version(repository, name, one) for one in ordered]


def _show(repository: Path, name: str, asked: str) -> list[dict[str, Any]]:
    from gto.api import show
    from gto.exceptions import ArtifactNotFound

    with _reading(repository, name):
        try:
            return show(str(repository), asked, registered_only=True)
        except ArtifactNotFound:
            return []


def previous(repository: Path, name: str) -> Version | None:
    """The champion before the present one; None where there was none."""
    from gto.tag import parse_name

    present = champion(repository, name)
    known = {one.commit: one for one in versions(repository, name)}
    tags = git(repository, "for-each-ref", f"refs/tags/{name}#{STAGE}#*", "--format=%(refname:strip=2) %(*objectname)")
    assigned = [line.split() for line in tags.splitlines()]
    for _, commit in sorted(assigned, key=lambda one: parse_name(one[0])["counter"], reverse=True):
        if present and commit != present.commit and commit in known:
            return known[commit]
    return None


def recipe_at(repository: Path, name: str, commit: str) -> str:
    """The recipe that the artifact `name` is at `commit`. Raises FlowError where dvc.yaml declares no such artifact."""
    done = attempt(repository, "show", f"{commit}:dvc.yaml")
    declared = (yaml.safe_load(done.stdout) or {}).get("artifacts", {}) if done.returncode == 0 else {}
    if name not in declared:
        raise FlowError(
            f"dvc.yaml of {commit[:8]} declares no artifact {name}; expected artifacts: {name}: path: models/..."
        )
    return PurePosixPath(declared[name]["path"]).name


def register(repository: Path, name: str, commit: str, reason: str) -> str:
    """Register `commit` as the next version of `name`, one minor number up; its version."""
    from gto.api import register as gto_register

    known = versions(repository, name)
    number: dict[str, Any] = {"bump_minor": True} if known else {"version": FIRST_VERSION}
    with _reading(repository, name):
        return gto_register(str(repository), name, commit, message=reason, **number).version


def assign(repository: Path, name: str, version: str, reason: str) -> str:
    """Make a registered version the champion; the tag that says so.

    By version alone: with a revision as well GTO registers it again and fails. With force: back to an older version is
    refused otherwise.
    """
    from gto.api import assign as gto_assign

    _wait_for_the_next_second(repository, name)
    with _reading(repository, name):
        return gto_assign(str(repository), name, STAGE, version=version, message=reason, force=True).tag


def lay_out(repository: Path, version: Version, target: Path, say: Callable[[str], None]) -> None:
    """Put a champion's files into the folder `target`: from DVC's cache, else from its remote, at its own commit.

    model/, operating.json, assignment.csv and version.json. Raises FlowError where one cannot be had.
    """
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    fetch(
        repository,
        version,
        {
            f"models/{version.recipe}": target / "model",
            f"reports/operating/{version.recipe}.json": target / "operating.json",
            INDEX: target / "index.parquet",
        },
        say,
    )
    assignment.write(assignment.of_index(target / "index.parquet"), target / "assignment.csv")
    (target / "index.parquet").unlink()
    about = {key: value for key, value in asdict(version).items() if key != "commit"}
    (target / "version.json").write_text(json.dumps(about, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def fetch(repository: Path, version: Version, wanted: dict[str, Path], say: Callable[[str], None]) -> None:
    """Copy outputs of the version's commit. wanted: path there -> where to. Raises FlowError where one is lost."""
    for path, target in wanted.items():
        try:
            dvc(repository, say, "get", "--rev", version.commit, "--out", str(target), str(repository), path)
        except FlowError as error:
            raise FlowError(
                f"{path} of {version} cannot be had from DVC's cache or remote ({error}); on the machine that has it"
                f" run `dvc push --all-tags`, or choose another version: stroma rollback {version.name}"
            ) from None


def _version(repository: Path, name: str, shown: dict[str, Any]) -> Version:
    commit = shown["commit_hexsha"]
    return Version(name, shown["version"], commit, recipe_at(repository, name, commit))


def _wait_for_the_next_second(repository: Path, name: str) -> None:
    """GTO orders tags by whole seconds: two in the same one have no order, and the champion would be a toss-up."""
    times = git(repository, "for-each-ref", f"refs/tags/{name}#*", "--format=%(taggerdate:unix)").split()
    last = max(map(int, times), default=0)
    if last - time.time() > 5:
        raise FlowError(
            f"the last tag of {name} is {last - time.time():,.0f} s in the future; set this machine's clock"
        )
    while int(time.time()) <= last:
        time.sleep(0.05)


@contextmanager
def _reading(repository: Path, name: str) -> Iterator[None]:
    from gto.exceptions import GTOException
    from scmrepo.exceptions import SCMError

    try:
        yield
    except (GTOException, SCMError, OSError) as error:  # OSError: a tag's lock that a killed git left, a full disk
        said = " ".join(str(error).split())
        raise FlowError(f"the registry of {name} in {repository}: {said}; look with `gto show {name}`") from None
