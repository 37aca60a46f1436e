"""Schedules, run limits and deaths, seen on a real server: what a harness that ends with its process cannot show."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from real_server import RealServer, eventually, lay_out, real_server

from flows import automations

pytestmark = pytest.mark.slow

DEAD_AFTER_S = 32  # one heartbeat, 30 s, is the least that Prefect sends


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    with real_server(tmp_path_factory.mktemp("prefect")) as started:
        yield started


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("schedules") / "workspace"
    lay_out(folder)
    return folder


def hold(workspace: Path) -> None:
    (workspace / "hold").touch()


def let_go(workspace: Path) -> None:
    (workspace / "hold").unlink(missing_ok=True)


def endings(workspace: Path, flow: str = "retrain") -> list[str]:
    """The pids of the flow processes that came to their end."""
    path = workspace / f"{flow}.ended"
    return path.read_text().split() if path.exists() else []


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_schedule_fires_a_second_run_is_refused_and_a_killed_runner_does_not_end_the_run(
    server: RealServer, workspace: Path
) -> None:
    hold(workspace)
    with server.running(workspace, "flows", "serve") as runner:
        eventually(lambda: server.runs("retrain", "Scheduled"), 60)  # deployed, and a run is planned
        (fired,) = eventually(lambda: server.runs("retrain", "Running"), 120)  # the next full minute
        assert fired["auto_scheduled"]

        second = server.start_run("retrain/retrain")
        eventually(lambda: server.state_of(second) == "Cancelled", 90)
        assert server.state_of(fired["id"]) == "Running"

        kill(runner.pid)
        runner.wait()
        let_go(workspace)
        eventually(lambda: server.state_of(fired["id"]) == "Completed", 120)
        assert len(endings(workspace)) == 1


def test_the_doctor_marks_a_run_whose_process_is_gone_and_frees_its_slot(server: RealServer, workspace: Path) -> None:
    hold(workspace)
    with server.running(workspace, "flows", "serve") as runner:
        dead = start(server, "drift")
        kill_both(server, workspace, runner, dead, "drift")
    assert server.state_of(dead) == "Running"  # nobody told the server

    command = [sys.executable, "-m", "flows", "doctor", "--mend"]
    said = subprocess.run(command, cwd=workspace, env=server.environment, capture_output=True, text=True).stdout
    assert "as crashed: its process is gone" in said, said
    assert server.state_of(dead) == "Crashed"

    let_go(workspace)
    with server.running(workspace, "flows", "serve"):
        following = start(server, "drift")
        eventually(lambda: server.state_of(following) == "Completed", 180)


def test_a_run_killed_with_its_runner_is_marked_by_its_silence_and_the_next_one_admitted(
    server: RealServer, workspace: Path
) -> None:
    watch(server, dead_after=timedelta(seconds=DEAD_AFTER_S))
    hold(workspace)
    with server.running(workspace, "flows", "serve") as runner:
        dead = start(server, "retrain")
        kill_both(server, workspace, runner, dead, "retrain")
    died = time.monotonic()

    with server.running(workspace, "flows", "serve"):

        def admitted() -> bool:
            tried = start(server, "retrain")
            eventually(lambda: server.state_of(tried) in ("Running", "Cancelled", "Crashed"), 120)
            return any(run["id"] != dead for run in server.runs("retrain", "Running"))

        eventually(admitted, DEAD_AFTER_S + 240, every=3)
        assert time.monotonic() - died > 5  # it was refused at first
        assert server.state_of(dead) == "Crashed"
        let_go(workspace)


def test_a_worker_runs_what_was_deployed_in_the_workspace_that_it_was_started_in(
    server: RealServer, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    lay_out(workspace)
    command, serving = ([sys.executable, "-m", "flows", word] for word in ("deploy", "serve"))
    deployed = subprocess.run(command, cwd=workspace, env=server.environment, capture_output=True, text=True)
    assert "prefect worker start --pool stroma" in deployed.stdout, deployed.stdout + deployed.stderr

    refused = subprocess.run(serving, cwd=workspace, env=server.environment, capture_output=True, text=True, timeout=60)
    assert "is deployed to the work pool stroma" in refused.stderr
    hold(workspace)
    with server.running(workspace, "prefect", "worker", "start", "--pool", "stroma") as worker:
        run = start(server, "drift")
        eventually(lambda: server.state_of(run) == "Running", 180)
        kill(worker.pid)
        worker.wait()
        let_go(workspace)
        eventually(lambda: server.state_of(run) == "Completed", 120)
    assert len(endings(workspace, "drift")) == 1


def start(server: RealServer, flow: str) -> str:
    return server.start_run(f"{flow}/{flow}")


def kill_both(server: RealServer, workspace: Path, runner: subprocess.Popen[bytes], run: str, flow: str) -> None:
    pid = workspace / f"{flow}.pid"
    pid.unlink(missing_ok=True)
    eventually(lambda: server.state_of(run) == "Running" and pid.exists(), 180)
    kill(runner.pid)
    kill(int(pid.read_text()))
    runner.wait()


def watch(server: RealServer, **times: timedelta) -> None:
    """Ship the automations once more, with short times."""
    for automation in automations.shipped(**times):
        automation.name += " (short)"
        server.ask("automations/", **automation.model_dump(mode="json"))
