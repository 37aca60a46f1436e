"""Which of the server's runs live on this machine: signed at their start, marked crashed when their process is gone."""

import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psutil
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Crashed
from rich.console import Console

if TYPE_CHECKING:
    from prefect.client.schemas.objects import Flow, FlowRun, State

HOST, PID, BORN = "stroma.host", "stroma.pid", "stroma.born"
ACTIVE = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
PAGE = 200


@dataclass(frozen=True)
class StuckSlot:
    """A run limit that says it is taken while no run of its deployment is active: every new run would be refused."""

    limit: str
    deployment: str


def sign(flow: "Flow", flow_run: "FlowRun", state: "State") -> None:
    """The `on_running` hook of every flow: label the run with this host and process, and let it outlive its worker.

    The server knows of a run that it runs, not where; and a pid alone may by now be another process's.
    """
    _outlive_worker()
    process = psutil.Process()
    with get_client(sync_client=True) as client:
        client.update_flow_run_labels(
            flow_run.id, {HOST: platform.node(), PID: process.pid, BORN: f"{process.create_time():.2f}"}
        )


def _outlive_worker() -> None:
    """Lose the terminal's copy of the log, not the run, when the worker that reads it is gone.

    Prefect logs to the worker's pipe through rich, which ends the process when the pipe breaks: a run whose worker was
    killed died at its next line.
    """

    def be_quiet(console: Console) -> None:
        console.quiet = True

    Console.on_broken_pipe = be_quiet


def dead_runs() -> list["FlowRun"]:
    """Runs that the server takes for active, that were signed on this host, and whose process is gone."""
    with get_client(sync_client=True) as client:
        return [run for run in _active(client) if run.labels.get(HOST) == platform.node() and not _lives(run.labels)]


def bury(run: "FlowRun") -> None:
    """Mark a dead run as crashed, by the server's rules, so that it gives up its slot."""
    message = f"pid {run.labels[PID]} on {run.labels[HOST]} is gone; marked by `stroma doctor --mend`"
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, Crashed(message=message))


def latest(deployment: UUID, states: list[StateType], sort: FlowRunSort) -> "FlowRun | None":
    """The first run of a deployment in one of these states, in the order of `sort`."""
    with get_client(sync_client=True) as client:
        found = client.read_flow_runs(
            flow_run_filter=_in(states), deployment_filter=_of(deployment), sort=sort, limit=1
        )
    return found[0] if found else None


def stuck_slots() -> list[StuckSlot]:
    """Run limits of deployments that are taken by no active run; a server that lost its leases leaves them."""
    with get_client(sync_client=True) as client:
        return [
            StuckSlot(limit.name, name)
            for limit, deployment, name in _limits(client)
            if limit.active_slots and not any(_active(client, deployment))
        ]


def release(slot: StuckSlot) -> None:
    """Free a run limit."""
    with get_client(sync_client=True) as client:
        client.update_global_concurrency_limit(slot.limit, GlobalConcurrencyLimitUpdate(active_slots=0))


def _limits(client: SyncPrefectClient) -> Iterator[tuple[Any, UUID, str]]:
    for deployment in client.read_deployments(limit=PAGE):
        if deployment.global_concurrency_limit:
            yield deployment.global_concurrency_limit, deployment.id, deployment.name


def _active(client: SyncPrefectClient, deployment: UUID | None = None) -> list["FlowRun"]:
    of = _of(deployment) if deployment else None
    return client.read_flow_runs(flow_run_filter=_in(ACTIVE), deployment_filter=of, limit=PAGE)


def _in(states: list[StateType]) -> FlowRunFilter:
    return FlowRunFilter(state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)))


def _of(deployment: UUID) -> DeploymentFilter:
    return DeploymentFilter(id=DeploymentFilterId(any_=[deployment]))


def _lives(labels: dict[str, Any]) -> bool:
    try:
        process = psutil.Process(int(labels[PID]))
        # In a container without an init a dead process stays as a zombie that nobody reaps.
        return f"{process.create_time():.2f}" == labels[BORN] and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
