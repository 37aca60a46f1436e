"""The flow `retrain`: see whether anything changed, run the DAG apart from all work, let the gate decide, promote.

It holds no statistics: the rooms decide in reports/gate.json, the registry (git tags) says who the champion is.
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.states import Completed, Failed

from flows import assignment, registry
from flows.doors import door
from flows.errors import FlowError
from flows.git import branch_of, checkout_at, git, require_identity, tip_of
from flows.inputs import TRAILER, completed_with, inputs_of
from flows.liveness import sign
from flows.promote import Target, commit_all, publish
from flows.registry import TASKS, Version, artifact_of
from flows.reproduce import reproduce
from flows.settings import read_yaml, set_value, value_at
from flows.workspace import claimed
from flows.worktree import bring_outputs, worktree

Decision = Literal["promoted", "rejected", "unchanged", "failed"]
Say = Callable[[str], None]
SOURCES = ("idc", "breakhis")
LOCK = Path(".stroma/retrain.lock")
RETRAINS = Path(".stroma/retrains")
GATE = Path("reports/gate.json")
LAST_RUN = Path(".stroma/last_run.json")
TABLE = "splits/champion.csv"
"""The champions' assignment: their cases keep their part, so that both are measured on the same test cases."""


@dataclass(frozen=True)
class Outcome:
    """What a retrain came to, as .stroma/retrains/<run>/outcome.json holds it beside the gate's report.

    commit: of the promoted or the rejected state, on `branch`; of the earlier retrain where nothing changed.
    """

    run: str
    started: str
    seconds: float
    verdict: Decision
    reason: str
    commit: str | None = None
    branch: str | None = None
    versions: dict[str, str] | None = None

    def write(self, main: Path) -> None:
        """Leave it where the person on call looks."""
        folder = main / RETRAINS / self.run
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "outcome.json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")


def _run_name() -> str:
    return f"retrain {runtime.flow_run.parameters.get('branch') or ''}".strip()


@flow(name="retrain", flow_run_name=_run_name, persist_result=False, on_running=[sign])
def retrain(
    workspace: str = ".", branch: str | None = None, workers: int | None = None, *, force: bool = False
) -> Outcome:
    """Train on what is known now and promote what the gate lets through.

    workspace: the user's checkout, not touched but for a fast-forward of `branch` (the one checked out if None) after a
    promotion, where the tree is clean. workers: stages at once. force: go on though nothing changed.

    Returns the outcome; ends as failed, with a FlowError, where something went wrong. Then nothing was promoted.
    """
    logger, started, clock = get_run_logger(), datetime.now(UTC), time.monotonic()
    run = f"{started:%Y%m%dT%H%M%S}-{str(runtime.flow_run.id)[:8]}"
    blank = Outcome(run, started.isoformat(timespec="seconds"), 0.0, "failed", "")
    try:
        main = checkout_at(workspace)
        with _failure_filed(main, blank, clock), claimed(main, run, wait=False, say=logger.warning, lock=LOCK):
            outcome = _retrain(main, branch or branch_of(main), workers, blank, logger.info, force=force)
    except FlowError as error:
        return Failed(message=str(error), data=error)  # type: ignore[return-value]  # raised again, without a trace
    outcome = _close(main, outcome, clock)
    said = f"{outcome.verdict}: {outcome.reason}"
    logger.info(said)
    # Not the state's name: automations wait for the event of a state named Completed.
    return Completed(message=said, data=outcome)  # type: ignore[return-value]  # Prefect returns the outcome


@contextmanager
def _failure_filed(main: Path, blank: Outcome, clock: float) -> Iterator[None]:
    """However the block fails, an interruption included, say so where the others are told."""
    try:
        yield
    except BaseException as error:
        _close(main, replace(blank, reason=str(error) or type(error).__name__), clock)
        raise


def _close(main: Path, outcome: Outcome, clock: float) -> Outcome:
    """File the outcome and tell the server."""
    outcome = replace(outcome, seconds=round(time.monotonic() - clock, 3))
    outcome.write(main)
    payload = {key: value for key, value in asdict(outcome).items() if value is not None}
    emit_event(f"stroma.retrain.{outcome.verdict}", resource={"prefect.resource.id": "stroma.retrain"}, payload=payload)
    return outcome


def _retrain(main: Path, branch: str, workers: int | None, blank: Outcome, say: Say, *, force: bool) -> Outcome:
    """The steps of a retrain, in order, while no other one runs."""
    require_identity(main)
    with worktree(main, tip_of(main, branch), blank.run) as tree, _kept(main, tree, blank.run):
        for source in SOURCES:
            door(f"refresh {source}", tree, "download.refresh", source)
        inputs = [inputs_of(tree)]
        before = completed_with(main, inputs[0])
        if before and not force:
            reason = f"data, params, code and environment are those of {before[:8]}"
            return replace(blank, verdict="unchanged", reason=reason, commit=before)
        chosen, reasons = challenge(main, tree, workers, say)
        if not chosen:
            said = "; ".join(f"{name}: {why}" for name, why in reasons.items())
            commit = commit_all(tree, _message(f"Reject the challengers of {blank.run}", reasons, blank.run, inputs))
            kept = f"retrain/rejected/{blank.run}"
            git(main, "branch", kept, commit)
            return replace(blank, verdict="rejected", reason=said, commit=commit, branch=kept)
        for name, recipe in chosen.items():
            set_value(tree / "dvc.yaml", f"artifacts.{name}.path", f"models/{recipe}")
        inputs.append(inputs_of(tree))
        title = f"Promote {', '.join(f'{recipe} to {name}' for name, recipe in chosen.items())}"
        promoted = {name: reasons[name] for name in chosen}
        made = publish(
            main, tree, Target(branch, blank.run), promoted, _message(title, reasons, blank.run, inputs), say=say
        )
        said = "; ".join(f"{version}: {reasons[version.name]}" for version in made.versions)
        numbers = {version.name: version.version for version in made.versions}
        return replace(blank, verdict="promoted", reason=said, commit=made.commit, branch=made.branch, versions=numbers)


def challenge(main: Path, tree: Path, workers: int | None, say: Say) -> tuple[dict[str, str], dict[str, str]]:
    """Train the challengers on the champions' cases and let the gate decide; what `gate` gives."""
    champions = lay_out_champions(main, tree, say)
    freeze(main, tree, champions, say)
    bring_outputs(tree)
    reproduce(tree, workers=workers)
    for name in champions:
        door(f"champion {name}", tree, "evaluate.champion", name)
    return gate(tree)


def _message(title: str, reasons: dict[str, str], run: str, inputs: list[str]) -> str:
    said = "\n".join(f"{name}: {reason}" for name, reason in reasons.items())
    trailers = "\n".join([f"Stroma-Run: {run}", *(f"{TRAILER}: {one}" for one in dict.fromkeys(inputs))])
    return f"{title}\n\n{said}\n\n{trailers}\n"


@contextmanager
def _kept(main: Path, tree: Path, run: str) -> Iterator[None]:
    """Whatever becomes of the run, keep the gate's report and the stages' verdicts of the worktree that goes."""
    (tree / GATE).unlink(missing_ok=True)  # the last promotion's, which would look like this run's
    try:
        yield
    finally:
        folder = main / RETRAINS / run
        folder.mkdir(parents=True, exist_ok=True)
        for name in (GATE, LAST_RUN):
            if (tree / name).is_file():
                shutil.copyfile(tree / name, folder / name.name)


def gate(tree: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Let the room decide, show its rules; the recipe to promote for each name, and the reason for every name."""
    door("gate", tree, "compare.gate")
    tasks = json.loads((tree / GATE).read_text(encoding="utf-8"))["tasks"]
    create_table_artifact(key="gate", table=gate_rows(tasks), description=gate_summary(tasks))
    chosen = {artifact_of(name): one["promote"] for name, one in tasks.items() if one["promote"]}
    return chosen, {artifact_of(name): f"{one['decision']}: {one['reason']}" for name, one in tasks.items()}


def gate_rows(tasks: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each rule of each challenger, with its numbers."""
    numbers = ("challenger", "champion", "difference", "low", "high", "margin", "cases")
    columns = ("rule", "source", "decision", *numbers, "reason")  # reports/gate.json sorts its keys
    return [
        {"task": name, "recipe": challenger["recipe"], **{key: rule.get(key) for key in columns}}
        for name, one in tasks.items()
        for challenger in one["challengers"]
        for rule in challenger["rules"]
    ]


def gate_summary(tasks: dict[str, Any]) -> str:
    """A line for each task: what was decided and why."""
    return "\n".join(f"- **{name}**: {one['decision']}. {one['reason']}" for name, one in tasks.items())


def lay_out_champions(main: Path, tree: Path, say: Say) -> dict[str, Version]:
    """Task -> its champion, whose files are laid out in the worktree; a task without one is left out."""
    found: dict[str, Version] = {}
    for name in TASKS:
        present = registry.champion(main, artifact_of(name))
        if present is None:
            say(f"{artifact_of(name)}: no champion yet")
            continue
        registry.lay_out(main, present, tree / registry.CHAMPIONS / name, say)
        say(f"{artifact_of(name)}: the champion is {present}")
        found[name] = present
    return found


def freeze(main: Path, tree: Path, champions: dict[str, Version], say: Say) -> None:
    """Write the champions' assignment into the worktree and name it in its params, so that their cases keep their part.

    A table that params name already goes on; where two champions part a case differently, the later one is right.
    """
    if not champions:
        return
    params = tree / "params.yaml"
    named = value_at(read_yaml(params), "index.frozen", params)
    parts = assignment.read(tree / named) if named else {}
    for name in sorted(champions, key=lambda one: int(git(main, "log", "-1", "--format=%ct", champions[one].commit))):
        parts |= assignment.read(tree / registry.CHAMPIONS / name / "assignment.csv")
    assignment.write(parts, tree / TABLE)
    if named != TABLE:
        set_value(params, "index.frozen", TABLE)
    say(f"{len(parts)} cases keep the part that they had with the champion")
