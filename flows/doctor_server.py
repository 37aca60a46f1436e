"""The doctor's questions to the Prefect server, and what `--mend` puts right there and in the workspace."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import httpx

from flows.doctor import Finding
from flows.errors import FlowError
from flows.server import PATIENCE_S, server_url, unreachable

if TYPE_CHECKING:
    from prefect.client.schemas.responses import DeploymentResponse

RECENT = timedelta(days=7)
NOT_ASKED = "not asked without a server"


def check_server(_: Path) -> Finding:
    """The API answers, is of the version that runs here, and outlives a restart without harm to runs."""
    import prefect

    url = server_url()
    if url is None:
        advice = "enough for `stroma repro`; for schedules `prefect server start`, then set PREFECT_API_URL"
        return Finding("warn", "Prefect: no server configured, each run starts an ephemeral one", advice)
    if fault := unreachable(url):
        return Finding(
            "FAIL", f"Prefect: no server at {url} ({fault})", "`prefect server start`, or correct PREFECT_API_URL"
        )
    theirs = httpx.get(f"{url}/admin/version", timeout=PATIENCE_S).json()
    if theirs != prefect.__version__:
        advice = "install requirements.lock on the server's machine as well, and restart it"
        return Finding("warn", f"Prefect: the server at {url} is {theirs}, this is {prefect.__version__}", advice)
    leases = httpx.get(f"{url}/admin/settings", timeout=PATIENCE_S).json()["server"]["concurrency"]["lease_storage"]
    if leases.endswith(".memory"):
        advice = "start it where prefect.toml lies: its restart would end the runs that are on"
        return Finding("warn", f"Prefect: the server at {url} keeps leases in memory", advice)
    return Finding("ok", f"Prefect: {theirs} at {url}")


def check_schedule(_: Path) -> Finding:
    """The retraining is scheduled, somebody is there to run it, and it came to an end lately."""
    if not _answers():
        return Finding("ok", f"schedule: {NOT_ASKED}")
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("retrain/retrain")
    except ObjectNotFound:
        return Finding("warn", "schedule: retrain is not deployed", "`stroma serve` on one machine, or `stroma deploy`")
    return _judged(deployment)


def _judged(deployment: "DeploymentResponse") -> Finding:
    from prefect.client.schemas.objects import DeploymentStatus, StateType
    from prefect.client.schemas.sorting import FlowRunSort

    from flows.automations import OVERDUE_AFTER
    from flows.liveness import latest

    endings = [StateType.COMPLETED, StateType.FAILED, StateType.CRASHED]
    ended = latest(deployment.id, endings, FlowRunSort.END_TIME_DESC)
    coming = latest(deployment.id, [StateType.SCHEDULED], FlowRunSort.EXPECTED_START_TIME_ASC)
    age = _since(ended.end_time) if ended and ended.end_time else None
    what = f"schedule: retrain {f'last ended {ended.state_name} {_told(age)} ago' if ended and age else 'never ended'}"
    what += f", next {coming.expected_start_time:%a %d %b %H:%M} UTC" if coming else ", none scheduled"
    level: Literal["ok", "warn", "FAIL"]
    level, advice = "ok", ""
    if deployment.paused or not any(one.active for one in deployment.schedules):
        level, advice = "warn", "it is paused: `prefect deployment resume retrain/retrain`"
    elif deployment.status != DeploymentStatus.READY:
        level, advice = "FAIL", "nobody is there to run it: `prefect worker start --pool stroma`, or `stroma serve`"
    elif ended and ended.state_type != StateType.COMPLETED:
        level, advice = "warn", f"docs/operations.md; its log: `prefect flow-run logs {ended.id}`"
    elif age and age > OVERDUE_AFTER:
        level, advice = "warn", "docs/operations.md, `no retrain finished`"
    return Finding(level, what, advice)


def check_alerts(_: Path) -> Finding:
    """What the shipped automations said lately."""
    if not _answers():
        return Finding("ok", f"alerts: {NOT_ASKED}")
    from flows.automations import FAILED, OVERDUE

    since = (datetime.now(UTC) - RECENT).isoformat()
    wanted = {"event": {"name": ["prefect.automation.triggered"]}, "occurred": {"since": since}}
    answer = httpx.post(f"{server_url()}/events/filter", json={"filter": wanted}, timeout=PATIENCE_S)
    names = [one["resource"].get("prefect.resource.name") for one in answer.raise_for_status().json()["events"]]
    counts = {name: names.count(name) for name in (FAILED, OVERDUE) if name in names}
    if counts:
        said = ", ".join(f"{name.removeprefix('stroma: ')} ({count})" for name, count in counts.items())
        return Finding(
            "warn", f"alerts of {RECENT.days} days: {said}", "the UI's event feed shows each; docs/operations.md"
        )
    return Finding("ok", f"alerts: none in {RECENT.days} days")


def check_runs(_: Path) -> Finding:
    """Runs of this host whose process is gone, and limits that nobody holds."""
    if not _answers():
        return Finding("ok", f"runs: {NOT_ASKED}")
    from flows.liveness import dead_runs, stuck_slots

    left = [f"{run.name} is taken for {run.state_name}, its process is gone" for run in dead_runs()]
    left += [f"the run limit of {slot.deployment} is taken by no run" for slot in stuck_slots()]
    if left:
        return Finding("FAIL", f"runs: {'; '.join(left)}", "`stroma doctor --mend`")
    return Finding("ok", "runs: none that is dead, no limit that is stuck")


def mend(workspace: Path) -> Iterator[str]:
    """Put right what dead runs left; a sentence for each thing done. What a living run holds is left alone."""
    from flows import workspace as held
    from flows.retrain import LOCK
    from flows.worktree import clear

    try:
        with held.claimed(workspace, "doctor", wait=False, say=print):
            yield from held.mend(workspace)
        with held.claimed(workspace, "doctor", wait=False, say=print, lock=LOCK):
            for name in clear(workspace):
                yield f"removed the worktree {name}, which a killed retrain left"
    except FlowError as error:
        yield f"left the workspace alone: {error}"
    if not _answers():
        return
    from flows.liveness import bury, dead_runs, release, stuck_slots

    for run in dead_runs():
        bury(run)
        yield f"marked {run.name} as crashed: its process is gone"
    for slot in stuck_slots():
        release(slot)
        yield f"freed the run limit of {slot.deployment}, which no run held"


def _answers() -> bool:
    url = server_url()
    return url is not None and unreachable(url) is None


def _told(age: timedelta) -> str:
    hours = age / timedelta(hours=1)
    return f"{hours / 24:,.1f} days" if hours >= 48 else f"{hours:,.1f} hours"


def _since(moment: datetime) -> timedelta:
    # Prefect's moments are of a type that cannot be subtracted from a datetime.
    return timedelta(seconds=datetime.now(UTC).timestamp() - moment.timestamp())
