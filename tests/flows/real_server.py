"""A real Prefect server on loopback, and a workspace whose flows are small but run as the real ones do."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml
from conftest import ROOT
from loopback_prefect import prefect_server

LEASE_S = 30  # the least that Prefect takes
FLOW = '''
"""A retraining that lasts while the file `hold` is there."""
import os, time
from pathlib import Path

from prefect import flow, get_run_logger

from flows.liveness import sign

def work(name):
    Path(f"{name}.pid").write_text(str(os.getpid()))
    while Path("hold").exists():
        get_run_logger().info("holding")
        time.sleep(0.5)
    with Path(f"{name}.ended").open("a") as file:
        print(os.getpid(), file=file)

@flow(name="retrain", on_running=[sign])
def retrain():
    work("retrain")

@flow(name="drift", on_running=[sign])
def drift():
    work("drift")
'''


def eventually(what: Callable[[], Any], seconds: float, every: float = 0.3) -> Any:
    """What `what` returns, once it is true; fails the test if that takes more than `seconds`."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)
    return found


class RealServer:
    """A server under test, asked over its API."""

    def __init__(self, url: str, environment: dict[str, str]) -> None:
        self.url, self.environment = url, environment

    def ask(self, path: str, **body: Any) -> Any:
        """What the API answers. SQLite under load is now and then busy (503): Prefect's own client asks again, too."""
        answers = (httpx.post(f"{self.url}/{path}", json=body, timeout=30) for _ in range(10))
        answer = next(one for one in answers if one.status_code != 503 or time.sleep(1))
        return answer.raise_for_status().json()

    def runs(self, flow: str, *states: str) -> list[dict[str, Any]]:
        """Runs of a flow, of all or in one of these states, by name; the newest first, of those planned the latest."""
        of = {"name": {"any_": [flow]}}
        among = {"state": {"name": {"any_": states}}} if states else None
        return self.ask("flow_runs/filter", flows=of, flow_runs=among, sort="START_TIME_DESC", limit=200)

    def start_run(self, deployment: str) -> str:
        """Ask for a run of `flow/name`, as soon as it is deployed; its id."""
        path = f"{self.url}/deployments/name/{deployment}"
        found = eventually(lambda: (answer := httpx.get(path, timeout=30)).is_success and answer.json(), 180)
        return self.ask(f"deployments/{found['id']}/create_flow_run", state={"type": "SCHEDULED"})["id"]

    def state_of(self, run: str) -> str:
        return httpx.get(f"{self.url}/flow_runs/{run}", timeout=30).raise_for_status().json()["state_name"]

    @contextmanager
    def running(self, workspace: Path, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """A program of Python's in the workspace, in a session of its own, ended with the block."""
        with (workspace / "output.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                cwd=workspace,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def real_server(home: Path) -> Iterator[RealServer]:
    """A server with short times, and the environment of what talks to it."""
    times = {
        "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": str(LEASE_S),
        "PREFECT_SERVER_SERVICES_REPOSSESSOR_LOOP_SECONDS": "2",
        "PREFECT_SERVER_EVENTS_PROACTIVE_GRANULARITY": "PT1S",
    }
    with prefect_server(home, **times) as (url, _):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": url,
            "PREFECT_RUNNER_POLL_FREQUENCY": "1",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
        }
        yield RealServer(url, environment)


def lay_out(workspace: Path) -> None:
    """A workspace: the settings of the real one, its deployments, and flows that wait for a file."""
    workspace.mkdir()
    (workspace / "toyflows.py").write_text(FLOW)
    (workspace / "prefect.toml").write_text((ROOT / "prefect.toml").read_text())
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    entries = {entry["name"]: entry for entry in deployments["deployments"]}
    for name in ("retrain", "drift"):
        entries[name]["entrypoint"] = f"toyflows.{name}"
    entries["retrain"]["schedules"][0]["cron"] = "* * * * *"
    deployments["deployments"] = [entries["retrain"], entries["drift"]]
    (workspace / "prefect.yaml").write_text(yaml.safe_dump(deployments))
