"""The DAG as DVC itself reads it: stages, what is upstream of each, and what the status says has changed."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import get_active_graph, plan_repro
from dvc.stage import Stage
from dvc.utils import parse_target

from flows.errors import FlowError

PROJECT_FILE = "dvc.yaml"
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Node:
    """One stage of the DAG."""

    name: str
    """As `dvc repro` in the workspace is told it."""
    upstream: tuple[str, ...]
    """The stages whose outputs it reads."""
    changes: tuple[str, ...] = ()
    """What the status lists for it; empty if nothing changed."""
    is_gpu: bool = False
    timeout_s: float | None = None


@dataclass(frozen=True)
class Plan:
    """What a run is about: stages by name, in the order in which plain `dvc repro` takes them."""

    nodes: Mapping[str, Node]
    lock_files: Mapping[str, str] = field(default_factory=dict)
    """Stage -> its dvc.lock below the workspace; .dvc files have none."""

    def downstream(self, name: str) -> set[str]:
        """Every stage that `name` leads to."""
        found = {name}
        for node in self.nodes.values():  # in an order where upstream comes first
            if found & set(node.upstream):
                found.add(node.name)
        return found - {name}


@contextmanager
def opened(workspace: Path) -> Iterator[Repo]:
    """The workspace's DVC repository, under DVC's lock, for which it waits. Raises FlowError for what DVC refuses."""
    try:
        with Repo(str(workspace), _wait_for_lock=True) as repo, lock_repo(repo):
            yield repo
    except DvcException as error:
        said = " ".join(str(error).split())
        raise FlowError(f"{workspace}: DVC says: {said}") from error


def read_plan(workspace: Path, targets: Sequence[str] = ()) -> Plan:
    """The targets and all that is upstream of them, with one status of these stages.

    workspace: resolved folder of dvc.yaml. targets: stage names, foreach groups, `FOLDER/dvc.yaml:NAME` or .dvc files,
    as `dvc repro` takes them; none: every stage of dvc.yaml. Raises FlowError where DVC cannot read or find something.
    """
    with opened(workspace) as repo:
        graph = get_active_graph(repo.index.graph)
        if targets:
            stages = [stage for target in targets for stage in _found(repo, workspace, target)]
        else:
            stages = [stage for stage in repo.index.stages if stage.path == str(workspace / PROJECT_FILE)]
        steps = plan_repro(graph, list(dict.fromkeys(stages)))
        nodes = {}
        for stage in steps:
            name = _name(stage, workspace)
            upstream = tuple(sorted(_name(other, workspace) for other in graph.successors(stage)))
            nodes[name] = Node(name, upstream, tuple(_changes(stage)), *_limits(name, stage.meta))
        locks = {_name(stage, workspace): lock for stage in steps if (lock := _lock_file(stage, workspace))}
    return Plan(nodes, locks)


def _found(repo: Repo, workspace: Path, target: str) -> list[Stage]:
    """The stages that a target names. DVC would look for the file below the current folder."""
    path, name = parse_target(target)
    return repo.stage.load_all(str(workspace / (path or PROJECT_FILE)), name)


def _name(stage: Stage, workspace: Path) -> str:
    """How `dvc repro` in the workspace is told this stage (`stage.addressing` is relative to the current folder)."""
    path = os.path.relpath(stage.path, workspace)
    name = getattr(stage, "name", None)
    if name is None:
        return path
    return name if path == PROJECT_FILE else f"{path}:{name}"


def _lock_file(stage: Stage, workspace: Path) -> str | None:
    path = Path(os.path.relpath(stage.path, workspace))
    return str(path.with_suffix(".lock")) if path.name == PROJECT_FILE else None


def _changes(stage: Stage) -> Iterator[str]:
    """What DVC's status says of a stage, a clause each: `changed deps: data/x.csv (modified)`."""
    for changes in stage.status(check_updates=True).values():
        for change in changes:
            if isinstance(change, str):
                yield change
            else:
                for kind, entries in change.items():
                    yield f"{kind}: {', '.join(f'{path} ({what})' for path, what in _flat(entries))}"


def _flat(entries: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Path or key, what happened. Params come as a mapping of their own: file -> key -> what happened."""
    for path, what in entries.items():
        if isinstance(what, Mapping):
            yield from what.items()
        else:
            yield path, what


def _limits(name: str, meta: Mapping[str, Any] | None) -> tuple[bool, float | None]:
    """`meta: {gpu: true, timeout: 2h}` of a stage in dvc.yaml."""
    gpu, timeout = (meta or {}).get("gpu", False), (meta or {}).get("timeout")
    if not isinstance(gpu, bool):
        raise FlowError(f"dvc.yaml: {name}: meta.gpu = {gpu!r} is neither true nor false")
    if timeout is None:
        return gpu, None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(timeout).strip())
    if not found or float(found[1]) == 0:
        raise FlowError(f"dvc.yaml: {name}: meta.timeout = {timeout!r} is no time; write 90s, 30m, 2h or 1d")
    return gpu, float(found[1]) * UNITS[found[2] or "s"]
