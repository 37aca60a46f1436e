"""What the server is told: names, states, artifacts; and what happens where it is absent or goes away."""

import importlib
import pkgutil
import re
import time
from pathlib import Path
from uuid import UUID

import pytest
import toy
from loopback_prefect import prefect_server, stop

import flows
from flows import artifacts
from flows.errors import FlowError
from flows.reproduce import reproduce

STAGES = {
    "score": {
        "cmd": "mkdir -p reports && cp in/a reports/metrics.json && cp in/table.csv reports/comparison.csv"
        " && cp in/rules.json reports/validation.json && cp in/report.md reports/comparison.md",
        "deps": ["in/a"],
        "outs": ["reports/comparison.csv", "reports/validation.json", "reports/comparison.md"],
        "metrics": [{"reports/metrics.json": {"cache": False}}],
    },
    "after": toy.stage("after", ["reports/comparison.csv"]),
}
FILES = {
    "in/a": '{"auroc": 0.5}',
    "in/table.csv": "recipe,auroc\nbaseline_cnn,0.5\n",
    "in/rules.json": '{"expectations": [{"rule": "no case in two parts", "success": true, "kwargs": {"max": 1}}]}',
    "in/report.md": "# Comparison\n",
}


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose DAG writes the reports, run once and committed, with a promoted model in a tag."""
    workspace = toy.make(tmp_path_factory.mktemp("reported") / "toy", STAGES, FILES)
    toy.dvc(workspace, "repro")
    toy.commit(workspace, "ran")
    return workspace


def shown(run: str | None) -> tuple[dict[str, object], dict[str, tuple[str, str]]]:
    """Artifacts of a flow run by key, and its tasks: name -> type and name of the final state."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, FlowRunFilter, FlowRunFilterId

    ids = [UUID(str(run))]
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=ids)))
        end = time.monotonic() + 30
        while True:  # the server files task runs from their events, a moment later
            tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
            states = {task.name: (task.state.type.value, task.state.name) for task in tasks if task.state}
            if len(states) >= 2 and all(kind in ("COMPLETED", "FAILED", "CANCELLED") for kind, _ in states.values()):
                return {str(one.key): one.data for one in found}, states
            assert time.monotonic() < end, states
            time.sleep(0.3)


@pytest.mark.slow
@pytest.mark.usefixtures("told")
def test_runs_tasks_and_artifacts_are_named_like_the_stages(reported: Path) -> None:
    from prefect.client.orchestration import get_client

    workspace = toy.twin(reported, "named")
    toy.git(workspace, "tag", "champion-binary#prod#1")
    (workspace / "in/a").write_text('{"auroc": 0.75}')
    summary = reproduce(workspace, ["after"])
    found, states = shown(summary.run)
    assert states == {"score": ("COMPLETED", "ran"), "after": ("COMPLETED", "unchanged")}
    assert set(found) == {"progress", "verdicts", "comparison", "validation", "metrics-diff", "report"}
    assert "baseline_cnn" in str(found["comparison"])
    assert "no case in two parts" in str(found["validation"])
    assert found["progress"] == 100.0
    assert "the last promoted run, `champion-binary#prod#1`" in str(found["metrics-diff"])
    assert "| reports/metrics.json | auroc | 0.5000 | 0.7500 | 0.2500 |" in str(found["metrics-diff"])
    assert str(workspace / "reports/comparison.html") in str(found["report"])
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(UUID(str(summary.run))).name == "reproduce after"


@pytest.mark.slow
@pytest.mark.usefixtures("told")
def test_failed_and_skipped_stages_have_final_states_of_that_name(tmp_path: Path) -> None:
    bad = {"cmd": "exit 1", "deps": ["in/a"], "outs": ["out/bad"]}
    workspace = toy.make(tmp_path / "toy", {"bad": bad, "after": toy.stage("after", ["out/bad"])})
    with pytest.raises(FlowError):
        reproduce(workspace)
    _, states = shown(toy.last_run(workspace)["run"])
    assert states == {"bad": ("FAILED", "failed"), "after": ("CANCELLED", "skipped")}


def test_the_report_is_linked_only_where_its_address_is_known(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    links: list[tuple[str, str]] = []
    monkeypatch.setattr(artifacts, "create_link_artifact", lambda link, **more: links.append((link, more["key"])))
    monkeypatch.setattr(artifacts, "create_markdown_artifact", lambda text, **more: links.append((text, more["key"])))
    board = object.__new__(artifacts.Board)
    board.is_away = False
    board._report(reported)
    monkeypatch.setenv(artifacts.REPORT_URL, "https://reports.example.org/comparison.html")
    board._report(reported)
    assert "The full report is the file" in links[0][0]
    assert links[1] == ("https://reports.example.org/comparison.html", "report")


def test_metrics_are_held_against_what_was_promoted_last(reported: Path) -> None:
    workspace = toy.twin(reported, "promoted")
    assert "HEAD (no model was promoted yet)" in artifacts.metrics_diff(workspace)
    toy.git(workspace, "tag", "champion-binary@v1.0.0")
    assert artifacts.last_promoted(workspace) == "champion-binary@v1.0.0"
    toy.git(workspace, "tag", "champion-binary#prod#1")
    assert artifacts.last_promoted(workspace) == "champion-binary#prod#1"


def test_an_absent_server_costs_one_line(reported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    process = toy.stroma(reported, "repro")
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert re.fullmatch(r"error: no Prefect server answers at http://127.0.0.1:9/api .*prefect server start.*\n", said)


@pytest.mark.slow
def test_a_server_that_goes_away_lets_stages_finish_and_the_run_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wait = "touch started && while [ ! -e go ]; do sleep 0.1; done"
    workspace = toy.make(tmp_path / "toy", {"a": toy.stage("a", ["in/a"], wait), "b": toy.stage("b", ["out/a"])})
    with prefect_server(tmp_path) as (url, server):
        monkeypatch.setenv("PREFECT_API_URL", url)
        monkeypatch.setenv("PREFECT_HOME", str(tmp_path))
        process = toy.stroma(workspace, "repro")
        while not (workspace / "started").exists():
            assert process.poll() is None
            time.sleep(0.1)
        time.sleep(1.5)  # progress is told once a second
        stop(server)
        clock = time.monotonic()
        (workspace / "go").touch()
        said = process.communicate(timeout=90)[0]
    assert time.monotonic() - clock < 60
    assert process.returncode == 1
    assert "Traceback" not in said
    assert said.splitlines()[-1].startswith(f"error: the Prefect server at {url} went away")
    assert [one["verdict"] for one in toy.last_run(workspace)["stages"]] == ["ran", "skipped"]
    assert (workspace / "out/a").exists()


def test_prefect_caches_and_keeps_nothing_because_dvc_does() -> None:
    from prefect import Flow, Task
    from prefect.cache_policies import NO_CACHE

    names = [f"flows.{one.name}" for one in pkgutil.iter_modules(flows.__path__) if one.name != "__main__"]
    parts = [value for name in names for value in vars(importlib.import_module(name)).values()]
    found = [part for part in parts if isinstance(part, Flow | Task)]
    assert found
    assert all(part.persist_result is False for part in found)
    assert all(part.cache_policy == NO_CACHE and part.cache_key_fn is None for part in found if isinstance(part, Task))
