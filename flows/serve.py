"""`stroma serve`: one machine runs the deployments of prefect.yaml itself, on their schedules, until it is stopped."""

from pathlib import Path

from flows.deployments import read_deployments
from flows.server import require_server


def serve(workspace: Path, notify: str | None = None) -> None:
    """Register the deployments and the automations, then run what is due. Blocks; Ctrl-C or SIGTERM ends it.

    notify: TYPE/NAME of a notification block that alerts are sent through; None leaves them as events. Raises FlowError
    where there is no server. Schedules stay active when it ends: after a reboot a run that was missed is caught up, and
    the limit of one cancels the rest of those that piled up.
    """
    require_server("serve")
    from prefect import serve as run

    from flows.automations import ship

    deployments = [one.runner() for one in read_deployments(workspace)]
    ship(notify)
    run(*deployments, pause_on_shutdown=False)
