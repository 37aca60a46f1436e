"""`stroma serve`: one machine runs the deployments of prefect.yaml itself, on their schedules, until it is stopped."""

from pathlib import Path

from flows.deployments import read_deployments
from flows.errors import FlowError
from flows.server import require_server


def serve(workspace: Path, notify: str | None = None) -> None:
    """Register the deployments and the automations, then run what is due. Blocks; Ctrl-C or SIGTERM ends it.

    notify: TYPE/NAME of a notification block that alerts are sent through; None leaves them as events. Raises FlowError
    where there is no server, or where workers would take the runs. Schedules stay active when it ends: after a reboot a
    run that was missed is caught up, and the limit of one cancels the rest of those that piled up.
    """
    require_server("serve")
    from prefect import serve as run

    from flows.automations import ship

    deployments = [one.runner() for one in read_deployments(workspace)]
    for one in deployments:
        _refuse_pool(f"{one.flow_name}/{one.name}")
    ship(notify)
    run(*deployments, pause_on_shutdown=False)


def _refuse_pool(name: str) -> None:
    """A deployment that was sent to a work pool stays in it when it is served, and the pool's workers take its runs."""
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    try:
        with get_client(sync_client=True) as client:
            pool = client.read_deployment_by_name(name).work_pool_name
    except ObjectNotFound:
        return
    if pool:
        raise FlowError(
            f"{name} is deployed to the work pool {pool}: run it with `prefect worker start --pool {pool}`, or take it "
            f"out with `prefect deployment delete {name}` and serve again"
        )
