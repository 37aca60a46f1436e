"""The DAG is DVC's: targets, what is upstream, what changed, limits; from any current folder."""

from pathlib import Path

import pytest
import toy

from flows.dvclock import read_entries
from flows.errors import FlowError
from flows.graph import read_plan
from flows.reproduce import default_workers, preview

STAGES = {
    "a": toy.stage("a", ["in/a"], meta={"gpu": True, "timeout": "2h"}),
    "each": {
        "foreach": ["x", "y"],
        "do": {"cmd": "cat out/a > out/${item}", "deps": ["out/a"], "outs": ["out/${item}"], "meta": {"timeout": 90}},
    },
    "join": toy.stage("join", ["out/x", "out/y"], params=["rate"]),
    "alone": toy.stage("alone", ["in/a"]),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.make(tmp_path_factory.mktemp("graph") / "toy", STAGES, {"params.yaml": "rate: 1\nthreads: 1\n"})


def test_stages_come_in_the_order_of_dvc_repro_with_their_upstream(workspace: Path) -> None:
    plan = read_plan(workspace)
    copy = toy.twin(workspace, "order")
    toy.dvc(copy, "repro")
    assert list(plan.nodes) == list(read_entries(copy / "dvc.lock"))
    assert plan.nodes["join"].upstream == ("each@x", "each@y")
    assert plan.downstream("a") == {"each@x", "each@y", "join"}


@pytest.mark.parametrize(
    ("targets", "stages"),
    [
        (["each@x"], {"a", "each@x"}),
        (["each"], {"a", "each@x", "each@y"}),
        (["alone", "a"], {"a", "alone"}),
        (["dvc.yaml:alone"], {"alone"}),
    ],
)
def test_targets_bring_what_is_upstream_of_them(workspace: Path, targets: list[str], stages: set[str]) -> None:
    assert set(read_plan(workspace, targets).nodes) == stages


def test_an_unknown_target_is_one_line(workspace: Path) -> None:
    with pytest.raises(FlowError, match="evaluate@nothing") as caught:
        read_plan(workspace, ["evaluate@nothing"])
    assert "\n" not in str(caught.value)


def test_limits_stand_on_the_stage(workspace: Path) -> None:
    nodes = read_plan(workspace).nodes
    assert (nodes["a"].is_gpu, nodes["a"].timeout_s) == (True, 7200.0)
    assert (nodes["each@y"].is_gpu, nodes["each@y"].timeout_s) == (False, 90.0)
    assert nodes["join"].timeout_s is None


@pytest.mark.parametrize("meta", [{"timeout": "soon"}, {"timeout": "0h"}, {"gpu": "yes please"}])
def test_a_limit_that_means_nothing_names_its_stage(tmp_path: Path, meta: dict[str, object]) -> None:
    toy.make(tmp_path / "toy", {"odd": toy.stage("odd", ["in/a"], meta=meta)})
    with pytest.raises(FlowError, match="odd: meta"):
        read_plan(tmp_path / "toy")


def test_the_preview_says_what_would_run_and_why(workspace: Path) -> None:
    copy = toy.twin(workspace, "preview")
    toy.dvc(copy, "repro")
    assert preview(read_plan(copy), force=False) == []
    (copy / "params.yaml").write_text("rate: 2\nthreads: 1\n")
    (copy / "out/a").unlink()
    lines = preview(read_plan(copy), force=False)
    assert lines[0].startswith("a: would run (changed outs: ")
    assert "out/a (deleted)" in lines[0]
    assert any(line.startswith("join: would run (changed deps: rate (modified)") for line in lines)
    assert not any(line.startswith("alone") for line in lines)
    assert toy.ran(copy) == ["a", "alone", "join"]  # of the first run alone


def test_workers_are_cores_by_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: range(8))
    assert default_workers(tmp_path) == 8
    (tmp_path / "params.yaml").write_text("threads: 3\n")
    assert default_workers(tmp_path) == 2
    (tmp_path / "params.yaml").write_text("threads: 16\n")
    assert default_workers(tmp_path) == 1
