"""The search, on tiny images: what it tries, what it leaves, that it survives a kill, that several share it."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import BASELINE, Workspace

from stages.contracts.errors import StageError
from stages.contracts.modelfolder import ModelRecord, Skipped, read_record
from stages.contracts.sections import read_params
from stages.train.__main__ import work as train
from stages.train.tune.__main__ import work as tune

RECIPE = {**BASELINE, "values": "reports/tune/mine.json"}
GRID = {"sampler": "grid", "space": {"batch_size": [8, 16], "dropout": [0.0, 0.1, 0.2]}}
SWEEP = {"sampler": "grid", "space": {"freeze": {"low": 0.0, "high": 0.75, "points": 4}}}
TPE = {
    "sampler": "tpe",
    "trials": 8,
    "prune": True,
    "space": {"lr": {"low": 0.0001, "high": 0.1, "log": True}, "optimizer": ["adam", "sgd"]},
}


def search(*rounds: dict, **changes: Any) -> dict[str, Any]:
    base = {"protocol": "case", "start": "weights/random", "select": "val_auroc", "rounds": list(rounds)}
    return {"mine": {**base, **changes}}


def run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tune(read_params(), "mine")


def outputs(root: Path) -> dict[str, bytes]:
    """Bytes of all that a search leaves, by name."""
    folder = root / "reports/tune"
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def table() -> pd.DataFrame:
    return pd.read_csv("reports/tune/mine.csv")


def report() -> dict[str, Any]:
    return json.loads(Path("reports/tune/mine.json").read_text())


def test_a_grid_tries_each_point_once_and_the_next_round_begins_with_what_it_chose(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": RECIPE}, tune=search(SWEEP, GRID))
    run(workspace, monkeypatch)
    tried = table()
    assert list(tried.loc[tried["round"] == 1, "freeze"]) == [0.0, 0.25, 0.5, 0.75]
    grid = tried.loc[tried["round"] == 2, ["batch_size", "dropout"]]
    assert list(grid.itertuples(index=False, name=None)) == [(b, d) for b in (8, 16) for d in (0.0, 0.1, 0.2)]
    first, second = report()["rounds"]
    best = tried[tried["round"] == 1].sort_values(["value", "trial"], ascending=[False, True]).iloc[0]
    assert first["chosen"] == {"freeze": best["freeze"]}
    assert report()["recipes"]["mine"] == {**RECIPE, **first["chosen"], **second["chosen"]}
    assert {name for name in outputs(workspace.root) if name.endswith(".svg")} == {
        "mine/1-freeze.svg", "mine/2-batch_size-dropout.svg",
    }  # fmt: skip


def test_what_a_search_chose_is_what_is_trained(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": RECIPE}, tune=search({"sampler": "grid", "space": {"lr": [0.0123], "ema": [0.5]}}))
    monkeypatch.chdir(workspace.root)
    with pytest.raises(StageError, match=r"reports/tune/mine.json is missing"):
        train(read_params(), "mine")
    run(workspace, monkeypatch)
    train(read_params(), "mine")
    record = read_record(Path("models/mine"))
    assert isinstance(record, ModelRecord)
    assert (record.settings["lr"], record.settings["ema"], record.settings["select"]) == (0.0123, 0.5, "val_auroc")


def test_a_search_that_is_killed_goes_on_in_another_process_to_the_same_bytes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**RECIPE, "epochs": 12}}, tune=search(TPE, GRID))
    run(workspace, monkeypatch)
    whole = outputs(workspace.root)
    assert {"pruned", "complete"} <= set(table()["state"])
    for path in workspace.root.glob("reports/tune/mine.*"):
        path.unlink()

    studies = workspace.root / ".stroma/tune/mine"
    for kill in (1, 2):
        running = subprocess.Popen(
            workspace.command("mine", "train.tune"), cwd=workspace.root, env=workspace.environment({}),
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        # In the middle of a trial: some are done, the next has a checkpoint.
        said = [line for line, _ in zip(running.stdout, range(1 + 2 * kill), strict=False)]
        assert "trial" in said[-1]
        while not list(studies.glob("*/checkpoints/*/mine/*.safetensors")) and running.poll() is None:
            time.sleep(0.002)
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    assert not list(workspace.root.glob("reports/tune/mine.*"))

    run(workspace, monkeypatch)
    assert outputs(workspace.root) == whole
    assert not list(studies.glob("*/"))


def test_two_processes_of_different_workspaces_reach_the_total_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = [Workspace(tmp_path / name) for name in ("one", "two")]
    for workspace in both:
        workspace.root.mkdir()
        workspace.write_data({"idc": 48})
        workspace.write_params({"mine": {**RECIPE, "epochs": 20}}, tune=search({**TPE, "trials": 6}, GRID))
    running = [
        subprocess.Popen(
            workspace.command("mine", "train.tune"), cwd=workspace.root, stdout=subprocess.PIPE, text=True,
            env=workspace.environment({"STROMA_TUNE": str(tmp_path / "shared")}),
        )
        for workspace in both
    ]  # fmt: skip
    said = [process.communicate(timeout=120)[0].splitlines() for process in running]
    assert [process.returncode for process in running] == [0, 0]
    done = [[line.partition("round ")[2].partition(": ")[0] for line in lines if ", trial " in line] for lines in said]
    assert all(done)
    assert sorted(done[0] + done[1]) == [
        f"{number} of 2, trial {trial} of 6" for number in (1, 2) for trial in range(1, 7)
    ]
    assert outputs(both[0].root) == outputs(both[1].root)


def test_a_study_never_mixes_data(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same folder, the same search, other pixels: nothing is taken for done."""
    workspace.write_params({"mine": {**RECIPE, "epochs": 1}}, tune=search(GRID), tune_dir="studies")
    for count, expected in ((48, 1), (48, 1), (72, 2)):
        workspace.write_data({"idc": count})
        run(workspace, monkeypatch)
        assert len(list((workspace.root / "studies/mine").glob("1-*"))) == expected


def test_a_study_whose_journal_was_cut_in_the_middle_of_a_line_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**RECIPE, "epochs": 1}}, tune=search(GRID), tune_dir="studies")
    run(workspace, monkeypatch)
    whole = outputs(workspace.root)
    (journal,) = workspace.root.glob("studies/mine/1-*/journal.log")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[: len(lines) // 2]) + lines[len(lines) // 2][:9])
    run(workspace, monkeypatch)
    assert outputs(workspace.root) == whole


def test_a_trial_whose_loss_explodes_is_given_up_and_the_search_goes_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    wild = {**RECIPE, "optimizer": "sgd", "weight_decay": 1.0, "epochs": 40}
    workspace.write_params({"mine": wild}, tune=search({"sampler": "grid", "space": {"lr": [10.0, 0.001]}}))
    assert "2 trials (1 diverged); chosen: lr 0.001" in run(workspace, monkeypatch)
    assert list(table()["state"]) == ["diverged", "complete"]
    workspace.write_params({"mine": wild}, tune=search({"sampler": "grid", "space": {"lr": [10.0]}}))
    with pytest.raises(StageError, match=r"all 1 trials were given up \(the loss is nan"):
        run(workspace, monkeypatch)


def test_pruned_trials_are_reported(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    slow = {"sampler": "grid", "prune": True, "space": {"lr": [0.005, 0.004, 1e-9, 1e-8]}}
    workspace.write_params({"mine": {**RECIPE, "epochs": 5}}, tune=search(slow, select="val_loss"))
    assert "2 pruned" in run(workspace, monkeypatch)
    assert list(table()["state"]) == ["complete", "complete", "pruned", "pruned"]
    assert list(table()["epochs"]) == [5, 5, 2, 2]
    assert (report()["rounds"][0]["pruned"], report()["rounds"][0]["trials"]) == (2, 4)


def test_a_profile_makes_a_search_smaller_and_its_own_budget_goes_before(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    profiles = {"demo": {"train": {"init_missing": "random"}, "tune": {"trials": 2, "points": 2, "epochs": 1}}}
    budget = {"demo": {"points": 3, "image_size": 12}}
    workspace.write_params({"mine": RECIPE}, tune=search(SWEEP, TPE, budget=budget), profiles=profiles)
    run(workspace, monkeypatch)
    assert list(table()["freeze"].dropna()) == [0.0, 0.5, 0.75]
    assert list(table()["epochs"]) == [1] * 5
    assert [one["image_size"] for one in report()["rounds"]] == [12, 12]


def test_a_recipe_without_any_source_is_searched_by_nobody_and_trained_by_nobody(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"breakhis": 48})
    workspace.write_params({"mine": RECIPE}, tune=search(GRID))
    assert run(workspace, monkeypatch) == "not run: no training image of idc"
    assert report()["recipes"]["mine"] == RECIPE
    assert table().empty
    assert train(read_params(), "mine") == "not run: no training image of idc"
    assert isinstance(read_record(Path("models/mine")), Skipped)
