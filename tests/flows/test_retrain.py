"""Retraining, from the refresh to the registry, in a repository of the real shape."""

import json
import multiprocessing
import shutil
import time
from pathlib import Path

import pytest
from toy_repository import Toy, events

from flows import worktree as worktrees
from flows.errors import FlowError
from flows.retrain import LOCK, TABLE
from flows.workspace import claimed, holder_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("told")]


@pytest.fixture(scope="module")
def promoted(tmp_path_factory: pytest.TempPathFactory, prefect_url: str) -> Toy:
    """A toy whose first retrain has been through."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    toy = Toy.make(tmp_path_factory.mktemp("promoted"))
    with temporary_settings({PREFECT_API_URL: prefect_url}):
        assert toy.retrain().verdict == "promoted"
    return toy


@pytest.fixture
def toy(promoted: Toy, tmp_path: Path) -> Toy:
    return promoted.copy(tmp_path)


def test_the_first_retrain_makes_a_first_champion(promoted: Toy) -> None:
    assert str(promoted.champion()) == "champion-binary v1.0.0 (small)"
    assert promoted.champion("champion-subtype") is None
    assert promoted.git("status", "--porcelain") == ""
    assert promoted.git("rev-parse", "main") == promoted.champion().commit
    assert promoted.worktrees() == []
    committed = promoted.git("show", "--name-only", "--format=", "main").split()
    assert {"dvc.lock", "reports/gate.json", "reports/metrics/small.json", "sources/idc.json"} <= set(committed)
    promoted.run("dvc", "checkout", "--quiet")
    assert "Running stage 'train" not in promoted.run("dvc", "repro")
    assert promoted.git("status", "--porcelain") == "", "dvc.lock is that of plain DVC"


def test_a_second_retrain_says_unchanged_in_seconds_and_trains_nothing(toy: Toy) -> None:
    before = toy.state()
    outcome = toy.retrain()
    assert outcome.verdict == "unchanged"
    assert "data, params, code and environment are those of" in outcome.reason
    assert outcome.seconds < 5
    assert [path.name for path in (toy.path / ".stroma/retrains" / outcome.run).iterdir()] == ["outcome.json"]
    assert toy.state() == before
    assert toy.champion().version == "v1.0.0"


def test_a_clone_knows_of_a_retrain_that_another_machine_completed(toy: Toy, tmp_path: Path) -> None:
    clone = Toy(tmp_path / "clone")
    toy.git("clone", "--quiet", str(toy.path), str(clone.path))
    clone.git("config", "user.name", "Grace")
    clone.git("config", "user.email", "grace@localhost")
    assert clone.retrain().verdict == "unchanged"


def test_a_change_of_text_that_decides_nothing_is_no_change(toy: Toy) -> None:
    (toy.path / "params.yaml").write_text((toy.path / "params.yaml").read_text() + "# a remark\n")
    (toy.path / "README.md").write_text("read me")
    toy.commit("Words")
    toy.set("drift.incoming.idc", "../elsewhere")
    assert toy.retrain().verdict == "unchanged"


def test_more_data_is_seen_trained_on_and_promoted_with_the_cases_where_they_were(toy: Toy) -> None:
    toy.set("recipes.small.quality", 0.9)
    toy.give("Xabcdefghi")  # X sorts first: without the frozen table it would move the others
    (toy.path / "notes.txt").write_text("mine")
    outcome = toy.retrain()
    assert outcome.verdict == "promoted"
    assert str(toy.champion()) == "champion-binary v1.1.0 (small)"
    assert toy.params()["index"]["frozen"] == TABLE
    kept = (toy.path / TABLE).read_text().splitlines()
    assert len(kept) == 1 + 9
    assert "idc-a,train" in kept
    assert "# an assignment table" in (toy.path / "params.yaml").read_text()
    assert (toy.path / "notes.txt").read_text() == "mine"
    assert toy.retrain().verdict == "unchanged"


def test_a_worse_challenger_is_rejected_and_can_be_looked_at(toy: Toy) -> None:
    toy.set("recipes.small.quality", 0.7)
    before = toy.state()
    outcome = toy.retrain()
    assert outcome.verdict == "rejected"
    assert outcome.reason == "champion-binary: reject: 0.7 against 0.8"
    assert toy.champion().version == "v1.0.0"
    assert toy.state() == before
    assert outcome.branch == f"retrain/rejected/{outcome.run}"
    assert '"quality": 0.7' in toy.git("show", f"{outcome.branch}:reports/metrics/small.json")
    toy.run("dvc", "get", "--rev", outcome.branch, "--out", "../got", ".", "models/small")
    folder = toy.path / ".stroma/retrains" / outcome.run
    assert json.loads((folder / "outcome.json").read_text())["verdict"] == "rejected"
    assert json.loads((folder / "gate.json").read_text())["tasks"]["binary"]["decision"] == "reject"
    assert json.loads((folder / "last_run.json").read_text())["verdict"] == "ok"
    assert toy.retrain().verdict == "unchanged", "the same challenger is not turned away every week"


def test_each_task_has_a_champion_of_its_own(toy: Toy) -> None:
    file = toy.path / "params.yaml"
    file.write_text(file.read_text().replace("recipes: [small]", "recipes: [small, typed]"))
    toy.set("recipes.typed.quality", 0.7)
    outcome = toy.retrain()
    assert outcome.versions == {"champion-subtype": "v1.0.0"}
    assert "champion-binary: reject" in toy.git("log", "-1", "--format=%B")
    assert str(toy.champion("champion-subtype")) == "champion-subtype v1.0.0 (typed)"
    assert toy.champion().version == "v1.0.0"


def test_the_promoted_recipe_is_what_the_artifact_of_its_commit_names(toy: Toy) -> None:
    text = (toy.path / "params.yaml").read_text()
    text = text.replace("retrain: {recipes: [small]}", "retrain: {recipes: [big]}")
    text = text.replace("recipes:\n", "recipes:\n  big: {task: binary, quality: 0.95}\n", 1)
    (toy.path / "params.yaml").write_text(text)
    toy.commit("A bigger one")
    toy.retrain()
    assert str(toy.champion()) == "champion-binary v1.1.0 (big)"
    assert "path: models/big" in (toy.path / "dvc.yaml").read_text()


def test_uncommitted_work_is_neither_trained_on_nor_touched(toy: Toy) -> None:
    toy.set("recipes.small.quality", 0.9)
    file = toy.path / "params.yaml"
    file.write_text(file.read_text().replace("quality: 0.9", "quality: 0.1"))
    (toy.path / "draft.txt").write_text("mine")
    before = toy.state()
    outcome = toy.retrain()
    assert (outcome.verdict, outcome.branch) == ("promoted", f"retrain/{outcome.run}")
    assert toy.state() == before
    assert toy.champion().version == "v1.1.0"
    assert toy.retrain().verdict == "unchanged"


def test_a_stage_that_fails_fails_the_retrain_and_leaves_nothing(toy: Toy) -> None:
    toy.set("recipes.small.quality", "null")
    before, refs = toy.state(), toy.git("for-each-ref")
    with pytest.raises(FlowError, match="train@small"):
        toy.retrain()
    assert (toy.state(), toy.git("for-each-ref")) == (before, refs)
    assert toy.worktrees() == []
    outcome = json.loads(sorted((toy.path / ".stroma/retrains").glob("*/outcome.json"))[-1].read_text())
    assert "train@small" in outcome["reason"]


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("recipes.small.quality", 7, "gate failed: small has the impossible quality 7"),
        ("profiles.local.idc", "../gone.txt", "refresh idc failed: .*does not exist"),
    ],
)
def test_a_door_that_fails_is_one_line(toy: Toy, key: str, value: object, said: str) -> None:
    toy.set(key, value)
    before, refs = toy.state(), toy.git("for-each-ref")
    with pytest.raises(FlowError, match=said) as caught:
        toy.retrain()
    assert "\n" not in str(caught.value)
    assert (toy.state(), toy.git("for-each-ref")) == (before, refs)
    assert toy.worktrees() == []


def test_the_server_is_told_how_each_retrain_ended(toy: Toy) -> None:
    assert toy.retrain(force=True).verdict == "rejected", "force goes on though nothing changed"
    assert toy.retrain().verdict == "unchanged"
    toy.set("profiles.local.idc", "../gone.txt")
    with pytest.raises(FlowError):
        toy.retrain()
    told = events("stroma.retrain.*")
    assert set(told) == {f"stroma.retrain.{verdict}" for verdict in ("promoted", "rejected", "unchanged", "failed")}


def hold(path: Path, seconds: float) -> None:
    with claimed(path, "the other", wait=False, say=print, lock=LOCK):
        time.sleep(seconds)


def test_a_second_retrain_is_refused_while_one_runs(toy: Toy) -> None:
    other = multiprocessing.get_context("spawn").Process(target=hold, args=(toy.path, 60))
    other.start()
    try:
        while holder_of(toy.path, LOCK) is None:
            time.sleep(0.05)
        with pytest.raises(FlowError, match="taken by run the other"):
            toy.retrain()
    finally:
        other.kill()
        other.join()
    assert toy.retrain().verdict == "unchanged", "a killed one holds nothing"


def test_what_a_killed_retrain_left_is_removed(toy: Toy) -> None:
    with worktrees.worktree(toy.path, "HEAD", "dead") as tree:
        shutil.copytree(tree, toy.path / ".stroma/kept", symlinks=True)
    shutil.move(toy.path / ".stroma/kept", toy.path / ".stroma/worktrees/dead")
    toy.git("worktree", "add", "--quiet", "--detach", ".stroma/worktrees/older", "HEAD")
    assert toy.retrain().verdict == "unchanged"
    assert toy.worktrees() == []
    assert toy.git("worktree", "list").count("\n") == 0


def test_another_folder_is_refused_in_one_line_and_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match=r"holds no dvc\.yaml"):
        Toy(tmp_path / "typo").retrain()
    assert not (tmp_path / "typo").exists()


def test_a_full_disk_is_told_before_anything_is_made(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worktrees, "LEAST_FREE_BYTES", 1 << 60)
    with pytest.raises(FlowError, match="GB free, a retrain may need"):
        toy.retrain()
    assert toy.worktrees() == []


def test_the_worktree_shares_cache_remotes_and_run_records_and_means_the_users_paths(toy: Toy) -> None:
    toy.run("dvc", "remote", "add", "--quiet", "--default", "here", "../storage")
    toy.run("dvc", "remote", "modify", "--quiet", "--local", "here", "jobs", "2")
    toy.commit("A remote with a relative path")
    with worktrees.worktree(toy.path, toy.git("rev-parse", "HEAD"), "run") as tree:
        inside = Toy(tree)
        inside.run("dvc", "checkout", "--quiet", "models/small")
        assert (tree / "models/small/model.safetensors").read_text() == "0.8\n"
        inside.run("dvc", "push", "--quiet", "models/small")
        (tree / ".stroma/runs/one.json").write_text("{}")
        assert inside.git("status", "--porcelain") == ""
    assert list((toy.path.parent / "storage").rglob("*.dir"))
    assert (toy.path / ".stroma/runs/one.json").exists()
    shutil.rmtree(toy.path / ".dvc/cache")
    with worktrees.worktree(toy.path, toy.git("rev-parse", "HEAD"), "run") as tree:
        worktrees.bring_outputs(tree)
        assert (tree / "models/small/model.safetensors").read_text() == "0.8\n", "what the cache lacks, the remote has"
        assert not (tree / "models/typed").exists()
