"""The flow `reproduce`: every stage of dvc.yaml is a task with a verdict, and independent stages run side by side."""

import os
import queue
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed, Failed, State

from flows import dvclock, stage
from flows.artifacts import Board
from flows.environment import of_stage
from flows.errors import FlowError
from flows.graph import Node, Plan, read_plan
from flows.liveness import sign
from flows.schedule import Schedule
from flows.summary import StageOutcome, Summary, last_line, verdict_of
from flows.workspace import claimed, mend

CHECK_TIMEOUT_S = 120
Entries = dict[str, tuple[dvclock.Outputs | None, int | None]]
STOP_TIMEOUT_S = 15.0
"""How long a stopped stage is waited for; the supervisor's three signals take at most 7 s."""


@dataclass(frozen=True)
class Ended:
    """What a task hands back: the verdict, and the outputs that dvc.lock holds now."""

    outcome: StageOutcome
    outputs: dvclock.Outputs | None = None


@dataclass(frozen=True)
class Job:
    """One stage to be brought up to date by DVC."""

    workspace: Path
    plan: Plan
    flags: tuple[str, ...]
    flow_pid: int


def _worth_a_retry(_task: Any, _run: Any, state: State) -> bool:
    """Locks and networks only: a failing stage would fail again, and a validation must not be asked twice."""
    return isinstance(state.data, Ended) and stage.is_transient(state.data.outcome)


@task(
    name="stage",
    task_run_name="{name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=[10, 30],
    retry_jitter_factor=0.5,
    retry_condition_fn=_worth_a_retry,
)
def run_stage(name: str, job: Job) -> State:
    """Bring one stage up to date; the verdict is the name of the final state."""
    if os.getpid() != job.flow_pid:
        stage.hold(job.workspace)  # a Dask worker: it ends with the flow, and what it runs with it
    logger, limit = get_run_logger(), job.plan.nodes[name].timeout_s
    outcome = stage.repro(job.workspace, name, list(job.flags), limit, lambda line: logger.info("%s | %s", name, line))
    if outcome.verdict == "failed":
        return Failed(name="failed", message=last_line(outcome), data=Ended(outcome))
    outputs, size = dvclock.stage_entry(job.workspace, job.plan, name)
    outcome = replace(outcome, bytes=size)
    return Completed(name=outcome.verdict, message=f"{outcome.seconds:,.1f} s", data=Ended(outcome, outputs))


@task(name="settled", task_run_name="{name}", cache_policy=NO_CACHE, persist_result=False)
def note_stage(name: str, ended: Ended) -> State:
    """Show a stage for which DVC was not started: unchanged, or skipped after a failure."""
    if ended.outcome.verdict == "skipped":
        return Cancelled(name="skipped", message=ended.outcome.error, data=ended)
    return Completed(name=ended.outcome.verdict, data=ended)


def _run_name() -> str:
    return f"reproduce {' '.join(runtime.flow_run.parameters.get('targets') or ['everything'])}"


@flow(name="reproduce", flow_run_name=_run_name, persist_result=False, on_running=[sign])
def reproduce(
    workspace: Path | str = ".",
    targets: list[str] | None = None,
    workers: int | None = None,
    *,
    force: bool = False,
    pull: bool = False,
    dry: bool = False,
    fail_fast: bool = False,
    wait: bool = True,
) -> Summary:
    """Bring the targets, and all that is upstream of them, up to date: what changed, and nothing else.

    workspace: the folder of dvc.yaml; nothing outside it is touched, and the current folder does not matter. targets:
    as `dvc repro` takes them; none is all of dvc.yaml. workers: stages at once; cores // params' `threads` if None.
    force: run them all. pull: fetch missing data from the DVC remote. dry: only log what would run. fail_fast: start
    nothing more after a failure. wait: queue behind another run of the workspace instead of refusing.

    Returns the summary that `.stroma/last_run.json` holds. Ends as failed, with a FlowError, where a stage failed.
    """
    root = Path(workspace).resolve()
    try:
        if dry:
            return _preview(root, targets or [], force)
        with claimed(root, str(runtime.flow_run.id), wait, get_run_logger().warning):
            summary = _run(root, targets or [], workers, _flags(force, pull), fail_fast)
        if summary.verdict == "failed":
            raise FlowError(_failure(summary))
    except FlowError as error:
        return Failed(message=str(error), data=error)  # type: ignore[return-value]  # raised again by Prefect, untraced
    return summary


def _run(root: Path, targets: list[str], workers: int | None, flags: tuple[str, ...], fail_fast: bool) -> Summary:
    """One run in a workspace that is held: mend, check, plan, drive, and leave everything in order however it ends."""
    logger, started, clock = get_run_logger(), datetime.now(UTC), time.monotonic()
    for sentence in mend(root):
        logger.warning(sentence)
    _check_params(root)
    plan = read_plan(root, targets)
    schedule = Schedule(plan, workers or default_workers(root), "--force" in flags, fail_fast)
    logger.info("%d stages, %d at once", len(plan.nodes), schedule.workers)
    entries = dvclock.before_run(root, plan)
    board = Board(len(plan.nodes), logger)
    stage.hold(root)
    try:
        _drive(schedule, Job(root, plan, flags, os.getpid()), entries, board)
    finally:
        stage.let_go(root)
        dvclock.restore_order(root, plan)
        summary = Summary(
            run=str(runtime.flow_run.id),
            started=_iso(started),
            finished=_iso(datetime.now(UTC)),
            seconds=round(time.monotonic() - clock, 3),
            workers=schedule.workers,
            verdict=verdict_of(schedule.in_order()),
            stages=schedule.in_order(),
        )
        summary.write(root)
    for outcome in summary.failures():
        logger.error("%s failed:\n%s", outcome.stage, outcome.error)
    board.publish(summary, root)
    return summary


def _drive(schedule: Schedule, job: Job, entries: Entries, board: Board) -> None:
    """Submit each stage when its upstream is done, until none is left. An interruption stops those that run."""
    done: queue.SimpleQueue[PrefectFuture[Any]] = queue.SimpleQueue()
    futures: dict[str, PrefectFuture[Any]] = {}

    def take(future: PrefectFuture[Any]) -> None:
        ended = future.result(raise_on_failure=False)
        if not isinstance(ended, Ended):
            raise ended  # a bug of ours; it keeps its traceback
        outcome = ended.outcome
        before = entries.get(outcome.stage, (None, None))[0]
        skipped = schedule.end(outcome, outcome.verdict in ("ran", "restored") and ended.outputs != before)
        for other in skipped:
            futures[other.stage] = note_stage.submit(other.stage, Ended(other))

    try:
        while True:
            for node in schedule.start():
                futures[node.name] = _submit(node, schedule, job, entries, futures)
                futures[node.name].add_done_callback(done.put)
            if not schedule.running:
                break
            take(done.get())
            board.progress(len(schedule.outcomes))
            if board.is_away:
                schedule.skip(set(schedule.waiting), "the Prefect server went away")
    except BaseException:
        stage.let_go(job.workspace)
        for name in list(schedule.running):
            futures[name].wait(STOP_TIMEOUT_S)
            take(futures[name])
        schedule.skip(set(schedule.waiting), "the run was cut short")
        raise
    for future in futures.values():
        future.wait()


def _submit(
    node: Node,
    schedule: Schedule,
    job: Job,
    entries: Entries,
    futures: dict[str, PrefectFuture[Any]],
) -> PrefectFuture[Any]:
    """Start the task of a stage. Its upstream is done; naming it draws the edges of the graph in the UI."""
    upstream = [futures[name] for name in node.upstream]
    if not schedule.needs_dvc(node.name):
        unchanged = Ended(StageOutcome(node.name, "unchanged", 0.0, entries.get(node.name, (None, None))[1]))
        return note_stage.submit(node.name, unchanged, wait_for=upstream)
    # The tag holds the concurrency limit `gpu` of the server, where somebody created one, over all runs and machines.
    return (run_stage.with_options(tags=["gpu"]) if node.is_gpu else run_stage).submit(
        node.name, job, wait_for=upstream
    )


def _flags(force: bool, pull: bool) -> tuple[str, ...]:
    return (*(["--force"] if force else []), *(["--pull"] if pull else []))


def default_workers(root: Path) -> int:
    """Cores // `threads` of params.yaml (1 where it says none), at least 1."""
    path = root / "params.yaml"
    threads = (yaml.safe_load(path.read_text()) or {}).get("threads", 1) if path.exists() else 1
    return max(1, len(os.sched_getaffinity(0)) // threads)


def _check_params(root: Path) -> None:
    """All of params.yaml in a second, so that a typo does not wait for the ingest. Raises FlowError with the faults."""
    if not (root / "stages/__main__.py").exists():
        return
    done = subprocess.run(
        [sys.executable, "-m", "stages"],
        cwd=root,
        env=of_stage(),
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_TIMEOUT_S,
    )
    if done.returncode:
        raise FlowError("; ".join(line.removeprefix("error: ") for line in done.stderr.splitlines()))


def _preview(root: Path, targets: list[str], force: bool) -> Summary:
    """Log what would run and why; nothing is written."""
    logger, now = get_run_logger(), _iso(datetime.now(UTC))
    lines = preview(read_plan(root, targets), force)
    for line in lines:
        logger.info(line)
    return Summary(str(runtime.flow_run.id), now, now, 0.0, 0, "ok" if lines else "unchanged", ())


def preview(plan: Plan, force: bool) -> list[str]:
    """A line for each stage that would run, or may: the status says why, or what is upstream decides."""
    lines, touched = [], set[str]()
    for node in plan.nodes.values():
        if force or node.changes:
            lines.append(f"{node.name}: would run ({'; '.join(node.changes) or 'forced'})")
            touched.add(node.name)
        elif upstream := touched & set(node.upstream):
            lines.append(f"{node.name}: runs if outputs of {', '.join(sorted(upstream))} change")
            touched.add(node.name)
    return lines


def _failure(summary: Summary) -> str:
    """One line: how many stages failed, which, and the last that each said."""
    failed = summary.failures()
    skipped = sum(one.verdict == "skipped" for one in summary.stages)
    said = "; ".join(f"{one.stage}: {last_line(one)}" for one in failed)
    return f"{len(failed)} of {len(summary.stages)} stages failed ({skipped} skipped): {said}"


def _iso(moment: datetime) -> str:
    return moment.isoformat(timespec="milliseconds")
