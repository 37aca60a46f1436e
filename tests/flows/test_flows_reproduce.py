"""The flow against plain `dvc repro` on twin copies: the same stages, the same bytes; and what it says of failures."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import toy
import yaml

from flows import stage
from flows.errors import FlowError
from flows.reproduce import reproduce
from flows.summary import Summary

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("told")]

WIDE = {
    "root": toy.stage("root", ["in/a"]),
    "wide": {
        "foreach": {"p": 0.9, "q": 0.6, "r": 0.3, "s": 0.0},  # the first in order ends last
        "do": {
            "cmd": "echo wide@${key} >> ran.log && sleep ${item} && cat out/root > out/${key}",
            "deps": ["out/root"],
            "outs": ["out/${key}"],
        },
    },
    "join": toy.stage("join", [f"out/{key}" for key in "pqrs"]),
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("wide") / "toy", WIDE)


@pytest.fixture(scope="module")
def serial_lock(wide: Path) -> bytes:
    plain = toy.twin(wide, "plain")
    toy.dvc(plain, "repro")
    return (plain / "dvc.lock").read_bytes()


def verdicts(summary: Summary) -> dict[str, str]:
    return {one.stage: one.verdict for one in summary.stages}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_leaves_the_lock_of_plain_dvc(wide: Path, serial_lock: bytes, workers: int) -> None:
    workspace = toy.twin(wide, f"workers{workers}")
    summary = reproduce(workspace, workers=workers)
    assert set(verdicts(summary).values()) == {"ran"}
    assert summary.workers == workers
    assert (workspace / "dvc.lock").read_bytes() == serial_lock
    assert toy.dvc(workspace, "status").strip().endswith("up to date.")


def test_every_verdict_is_dvcs_own(wide: Path) -> None:
    workspace = toy.twin(wide, "verdicts")
    first = reproduce(workspace, workers=4)
    assert (first.verdict, set(verdicts(first).values())) == ("ok", {"ran"})
    assert all(one.bytes and one.seconds > 0 for one in first.stages)
    again = reproduce(workspace)
    assert (again.verdict, set(verdicts(again).values())) == ("unchanged", {"unchanged"})
    assert [one.bytes for one in again.stages] == [one.bytes for one in first.stages]
    (workspace / "out/p").unlink()
    restored = reproduce(workspace)
    assert verdicts(restored) == {**verdicts(again), "wide@p": "restored", "join": "unchanged"}
    (workspace / "in/a").write_text("b\n")
    toy.ran(workspace)
    assert verdicts(reproduce(workspace, ["wide@q"])) == {"root": "ran", "wide@q": "ran"}
    assert toy.ran(workspace) == ["root", "wide@q"]


def test_the_last_run_is_left_in_the_workspace(wide: Path) -> None:
    workspace = toy.twin(wide, "lastrun")
    summary = reproduce(workspace, ["root"], workers=2)
    left = json.loads((workspace / ".stroma/last_run.json").read_text())
    assert set(left) == {"run", "started", "finished", "seconds", "workers", "verdict", "stages"}
    assert (left["run"], left["verdict"], left["workers"]) == (summary.run, "ok", 2)
    assert left["stages"] == [
        {"stage": "root", "verdict": "ran", "seconds": summary.stages[0].seconds, "bytes": 2, "error": None}
    ]


def edit(name: str, text: str) -> Callable[[Path], None]:
    return lambda workspace: (workspace / name).write_text(text) and None


def rewrite(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def apply(workspace: Path) -> None:
        document = yaml.safe_load((workspace / "dvc.yaml").read_text())
        change(document["stages"])
        (workspace / "dvc.yaml").write_text(yaml.safe_dump(document, sort_keys=False))

    return apply


SCENARIO_DAG = {
    "clean": {
        "cmd": "echo clean >> ran.log && sh code/clean.sh",
        "deps": ["code/clean.sh", "in/a"],
        "outs": ["out/clean"],
    },
    "left": toy.stage("left", ["out/clean"], params=["rate"]),
    "right": toy.stage("right", ["out/clean"]),
    "end": toy.stage("end", ["out/left", "out/right"]),
}
SCENARIOS: dict[str, Callable[[Path], None]] = {
    "nothing": lambda workspace: None,
    "code": edit("code/clean.sh", "mkdir -p out; sort -u in/a > out/clean; echo more >> out/clean\n"),
    "code, to the same bytes": edit("code/clean.sh", "mkdir -p out; sort -u in/a > out/clean; true\n"),
    "input, to the same bytes": edit("in/a", "a\na\n"),
    "param": edit("params.yaml", "rate: 2\n"),
    "deleted output": lambda workspace: (workspace / "out/left").unlink(),
    "edited output": edit("out/right", "by hand\n"),
    "edited output at the end": edit("out/end", "by hand\n"),
    "added output": rewrite(
        lambda stages: stages["right"].update(
            outs=["out/right", "out/clean2"], cmd="echo right >> ran.log; cat out/clean | tee out/clean2 > out/right"
        )
    ),
    "stage added": rewrite(lambda stages: stages.update(new=toy.stage("new", ["out/left"]))),
    "stage removed": rewrite(lambda stages: stages.pop("end")),
    "lock entry lost": rewrite(lambda stages: stages["left"].update(cmd=stages["left"]["cmd"] + " ")),
}


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = {"params.yaml": "rate: 1\n", "code/clean.sh": "mkdir -p out; sort -u in/a > out/clean\n"}
    workspace = toy.make(tmp_path_factory.mktemp("scenario") / "toy", SCENARIO_DAG, files)
    toy.dvc(workspace, "repro")
    toy.ran(workspace)
    return workspace


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_stages_run_as_with_plain_dvc(scenario: Path, name: str) -> None:
    slug = name.replace(" ", "-").replace(",", "")
    plain, ours = toy.twin(scenario, f"{slug}-plain"), toy.twin(scenario, f"{slug}-ours")
    SCENARIOS[name](plain)
    SCENARIOS[name](ours)
    toy.dvc(plain, "repro")
    summary = reproduce(ours, workers=2)
    expected = toy.ran(plain)
    assert toy.ran(ours) == expected
    assert [one.stage for one in summary.stages if one.verdict == "ran"] == [
        one.stage for one in summary.stages if one.stage in expected
    ]
    assert (ours / "dvc.lock").read_bytes() == (plain / "dvc.lock").read_bytes()
    assert {path.name: path.read_bytes() for path in (ours / "out").iterdir()} == {
        path.name: path.read_bytes() for path in (plain / "out").iterdir()
    }


def test_forced_runs_run_the_stages_of_their_targets(scenario: Path) -> None:
    workspace = toy.twin(scenario, "forced")
    before = (workspace / "dvc.lock").read_bytes()
    reproduce(workspace, ["left"], force=True)
    assert toy.ran(workspace) == ["clean", "left"]
    assert (workspace / "dvc.lock").read_bytes() == before


def test_twelve_stages_side_by_side_never_fail(tmp_path: Path) -> None:
    stages = {
        "one": {
            "foreach": [f"{number:02}" for number in range(12)],
            "do": {"cmd": "cat in/a > ${item}.txt", "deps": ["in/a"], "outs": ["${item}.txt"]},
        }
    }
    workspace = toy.make(tmp_path / "toy", stages)
    for _ in range(3):
        summary = reproduce(workspace, workers=12, force=True)
        assert list(verdicts(summary).values()) == ["ran"] * 12


TROUBLE = {
    "bad": {"cmd": "echo fine so far; echo the disk is purple >&2; exit 3", "deps": ["in/a"], "outs": ["out/bad"]},
    "after": toy.stage("after", ["out/bad"]),
    "good": toy.stage("good", ["in/a"], "sleep 0.5"),
    "later": toy.stage("later", ["out/good"]),
}


def failed(workspace: Path, **options: object) -> tuple[FlowError, dict[str, str]]:
    with pytest.raises(FlowError) as caught:
        reproduce(workspace, **options)  # type: ignore[arg-type]
    left = json.loads((workspace / ".stroma/last_run.json").read_text())
    assert left["verdict"] == "failed"
    return caught.value, {one["stage"]: one["verdict"] for one in left["stages"]}


def test_a_failure_is_named_with_its_last_line_and_independent_branches_finish(tmp_path: Path) -> None:
    workspace = toy.make(tmp_path / "toy", TROUBLE)
    error, left = failed(workspace, workers=1)
    assert left == {"bad": "failed", "after": "skipped", "good": "ran", "later": "ran"}
    assert str(error) == "1 of 4 stages failed (1 skipped): bad: the disk is purple"
    stages = json.loads((workspace / ".stroma/last_run.json").read_text())["stages"]
    bad = next(one for one in stages if one["stage"] == "bad")
    assert "the disk is purple" in bad["error"]
    assert "exited with 3" in bad["error"]
    assert bad["seconds"] < 8  # an ordinary failure is not tried again


def test_fail_fast_starts_nothing_more(tmp_path: Path) -> None:
    workspace = toy.make(tmp_path / "toy", TROUBLE)
    _, left = failed(workspace, workers=1, fail_fast=True)
    assert left == {"bad": "failed", "after": "skipped", "good": "skipped", "later": "skipped"}
    assert toy.ran(workspace) == []


def test_a_stage_that_takes_too_long_is_stopped_with_all_its_children(tmp_path: Path) -> None:
    command = "sleep 300 & echo $! > pid; sleep 300"
    slow = {"slow": {"cmd": command, "deps": ["in/a"], "outs": ["out/slow"], "meta": {"timeout": "2s"}}}
    workspace = toy.make(tmp_path / "toy", slow)
    clock = time.monotonic()
    error, left = failed(workspace)
    assert time.monotonic() - clock < 20
    assert left == {"slow": "failed"}
    assert "longer than the 2 s" in str(error)
    assert subprocess.run(["kill", "-0", (workspace / "pid").read_text().strip()], capture_output=True).returncode


def test_locks_and_networks_are_worth_a_retry_and_nothing_else() -> None:
    def outcome(error: str) -> stage.StageOutcome:
        return stage.StageOutcome("x", "failed", 1.0, None, error)

    assert stage.is_transient(outcome("ERROR: Unable to acquire lock. Most likely another DVC process is running"))
    assert stage.is_transient(outcome("ERROR: '/w/out' is busy, it is being blocked by:\n  (PID 3): dvc status"))
    assert stage.is_transient(
        outcome("download@idc: error: <urlopen error [Errno -3] Temporary failure in name resolution>")
    )
    assert not stage.is_transient(
        outcome("validate: error: [critical] 3 rows break it\nERROR: failed to run: exited with 1")
    )
    assert not stage.is_transient(outcome("Killed"))


def test_a_workspace_elsewhere_imports_its_own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As retrain runs it in a git worktree: neither the current folder nor PYTHONPATH leads into another checkout."""
    checkout = Path(stage.__file__).parents[1]
    code = {"stages/__init__.py": "", "stages/who.py": "import sys; print(__file__, sys.prefix)"}
    stages = {"who": {"cmd": "python -m stages.who > who.txt", "deps": ["stages/who.py"], "outs": ["who.txt"]}}
    workspace = toy.make(tmp_path / "toy", stages, code)
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("PYTHONPATH", f"{checkout}")
    reproduce(workspace)
    assert (workspace / "who.txt").read_text().split() == [str(workspace / "stages/who.py"), sys.prefix]


def test_a_fault_in_params_is_told_before_anything_runs(tmp_path: Path) -> None:
    code = {"stages/__init__.py": "", "stages/__main__.py": "raise SystemExit('error: params.yaml: epocs')"}
    workspace = toy.make(tmp_path / "toy", {"a": toy.stage("a", ["in/a"])}, code)
    with pytest.raises(FlowError, match=r"^params.yaml: epocs$"):
        reproduce(workspace)
    assert toy.ran(workspace) == []


def test_a_dry_run_changes_nothing(scenario: Path) -> None:
    workspace = toy.twin(scenario, "dry")
    (workspace / "params.yaml").write_text("rate: 3\n")
    assert reproduce(workspace, dry=True).verdict == "ok"
    assert toy.ran(workspace) == []
    assert not (workspace / ".stroma/last_run.json").exists()
