"""prefect.yaml: the deployments written once, read by `stroma serve` and sent to a server by `stroma deploy`."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from flows.errors import FlowError
from flows.server import require_server

if TYPE_CHECKING:
    from prefect.deployments.runner import RunnerDeployment

FILE = "prefect.yaml"


@dataclass(frozen=True)
class Deployment:
    """One entry of prefect.yaml, as far as the machine that serves it needs it."""

    name: str
    entrypoint: str
    description: str
    schedules: tuple[Mapping[str, Any], ...]
    concurrency_limit: Mapping[str, Any] | None
    parameters: Mapping[str, Any]
    work_pool: str

    def runner(self) -> "RunnerDeployment":
        """The same deployment for Prefect's runner, which runs it in the folder where the runner was started."""
        from prefect.client.schemas.objects import ConcurrencyLimitConfig
        from prefect.flows import load_flow_from_entrypoint
        from prefect.schedules import Cron
        from prefect.types.entrypoint import EntrypointType

        flow = load_flow_from_entrypoint(self.entrypoint)
        return flow.to_deployment(
            self.name,
            schedules=[Cron(one["cron"], timezone=one["timezone"], slug=one["slug"]) for one in self.schedules],
            concurrency_limit=ConcurrencyLimitConfig(**self.concurrency_limit) if self.concurrency_limit else None,
            parameters=dict(self.parameters),
            description=self.description,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


def read_deployments(workspace: Path) -> list[Deployment]:
    """The deployments of the workspace's prefect.yaml.

    Raises FlowError where the file is absent, is no YAML, or lacks a key; each schedule names cron, timezone and slug.
    """
    path = workspace / FILE
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))["deployments"]
        for schedule in (one for entry in entries for one in entry.get("schedules") or ()):
            schedule["cron"], schedule["timezone"], schedule["slug"]
        return [
            Deployment(
                name=entry["name"],
                entrypoint=entry["entrypoint"],
                description=entry.get("description", ""),
                schedules=tuple(entry.get("schedules") or ()),
                concurrency_limit=entry.get("concurrency_limit"),
                parameters=entry.get("parameters") or {},
                work_pool=entry["work_pool"]["name"],
            )
            for entry in entries
        ]
    except FileNotFoundError:
        raise FlowError(f"{path} is missing; `git checkout {FILE}` brings it back") from None
    except yaml.YAMLError as error:
        raise FlowError(f"{path} is not YAML: {error}") from None
    except (KeyError, TypeError) as error:
        raise FlowError(f"{path} lacks {error} in one of its deployments or schedules") from None


def deploy(workspace: Path, notify: str | None = None) -> list[str]:
    """Send the deployments, their work pools and the automations to the server; returns the names of the pools.

    notify: TYPE/NAME of a notification block that alerts are sent through; None leaves them as events. Raises FlowError
    where there is no server, or where Prefect refuses a deployment.
    """
    require_server("deploy")
    from flows.automations import ship

    pools = sorted({one.work_pool for one in read_deployments(workspace)})
    for pool in pools:
        _prefect(workspace, "work-pool", "create", pool, "--type", "process", "--overwrite")
    _prefect(workspace, "--no-prompt", "deploy", "--all")
    ship(notify)
    return pools


def _prefect(workspace: Path, *words: str) -> None:
    """Run Prefect's command line, whose deploying is no part of its Python interface. Raises FlowError if it fails."""
    done = subprocess.run(
        [sys.executable, "-m", "prefect", *words],
        cwd=workspace,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise FlowError(f"`prefect {' '.join(words)}` failed: {said[-1] if said else 'it said nothing'}")
