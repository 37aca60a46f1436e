"""A flow that is interrupted, terminated or killed leaves neither stage nor DVC behind, and the next run is right."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
import toy

from flows.reproduce import reproduce

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("told")]

# Slow only as long as the file `slow` lies there, so that the next run is quick. `half` is what a killed stage leaves.
SLOW = "mkdir -p out && echo half > out/{name} && echo $$ > {name}.pid && if [ -e slow ]; then sleep 300; fi"
STAGES = {
    "first": toy.stage("first", ["in/a"]),
    **{name: toy.stage(name, ["out/first"], SLOW.format(name=name)) for name in ("left", "right")},
    "end": toy.stage("end", ["out/left", "out/right"]),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("killed") / "toy", STAGES)


@pytest.fixture(scope="module")
def right_lock(workspace: Path) -> bytes:
    plain = toy.twin(workspace, "plain")
    toy.dvc(plain, "repro")
    return (plain / "dvc.lock").read_bytes()


def running(workspace: Path, names: tuple[str, ...] = ("left", "right")) -> list[psutil.Process]:
    """The commands of the stages, their children, DVC and the supervisors above them, once they all run."""
    end = time.monotonic() + 60
    pids = [workspace / f"{name}.pid" for name in names]
    while not all(path.exists() and path.read_text().strip() for path in pids):
        assert time.monotonic() < end
        time.sleep(0.1)
    commands = [psutil.Process(int(path.read_text())) for path in pids]
    above = [parent for command in commands for parent in command.parents()[:2]]
    return [*commands, *above, *(child for command in commands for child in command.children())]


def gone_after(processes: list[psutil.Process], seconds: float) -> float:
    clock = time.monotonic()
    while any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes):
        assert time.monotonic() - clock < seconds, processes
        time.sleep(0.05)
    return time.monotonic() - clock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_flow_and_the_next_run_is_right(
    workspace: Path, right_lock: bytes, number: signal.Signals
) -> None:
    ours = toy.twin(workspace, f"after-{number.name}")
    (ours / "slow").touch()
    flow = toy.stroma(ours, "repro", "--workers", "2")
    left = running(ours)
    assert len(left) == 8
    flow.send_signal(number)
    gone_after(left, 10)
    said = flow.communicate(timeout=60)[0]
    assert flow.returncode in (130, -signal.SIGTERM, -signal.SIGKILL), said
    (ours / "slow").unlink()
    toy.ran(ours)
    summary = reproduce(ours)
    assert toy.ran(ours) == ["end", "left", "right"]
    assert {one.stage: one.verdict for one in summary.stages}["first"] == "unchanged"
    assert (ours / "out/end").read_text() == "a\na\n"
    assert (ours / "dvc.lock").read_bytes() == right_lock
    assert not (ours / ".stroma/lock_order.json").exists()


def test_an_interrupted_run_says_what_became_of_each_stage(workspace: Path) -> None:
    ours = toy.twin(workspace, "said")
    (ours / "slow").touch()
    flow = toy.stroma(ours, "repro", "--workers", "1")
    running(ours, ("left",))
    flow.send_signal(signal.SIGINT)
    said = flow.communicate(timeout=60)[0]
    assert "interrupted" in said
    assert "Traceback" not in said
    left = toy.last_run(ours)
    assert left["verdict"] == "failed"
    assert [one["verdict"] for one in left["stages"]] == ["ran", "failed", "skipped", "skipped"]
    assert left["stages"][1]["error"].endswith("stopped: the run was cut short")


def test_a_killed_dvc_fails_its_stage_alone(workspace: Path) -> None:
    """kill -9 of DVC alone would leave the stage's command as a second writer of the next run's output."""
    ours = toy.twin(workspace, "dvc")
    (ours / "slow").touch()
    flow = toy.stroma(ours, "repro", "--workers", "1")
    command, dvc, *_ = running(ours, ("left",))
    os.kill(dvc.pid, signal.SIGKILL)
    gone_after([command], 10)
    (ours / "slow").unlink()
    assert flow.wait(60) == 1
    assert [one["verdict"] for one in toy.last_run(ours)["stages"]] == ["ran", "failed", "ran", "skipped"]
