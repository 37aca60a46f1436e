"""The stage as a whole, on tiny images: what it writes, that it repeats itself, that it survives a kill."""

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from conftest import BASELINE, ROOT, Workspace

from stages.contracts.errors import StageError
from stages.contracts.modelfolder import ModelRecord, Skipped, load_model, prepare, read_record
from stages.contracts.sections import read_params
from stages.train import fit
from stages.train.__main__ import work

MIXED = {**BASELINE, "sources": ["idc", "breakhis"], "sampler": "weighted", "class_weights": True}


def run(workspace: Workspace, recipe: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("STROMA_WEIGHTS", raising=False)
    return work(read_params(), recipe)


def test_a_training_that_is_killed_goes_on_in_another_process_to_the_same_bytes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    # Optimizer, schedule, draws and dropout all have a state to lose.
    workspace.write_params({"mine": {**BASELINE, "optimizer": "adamw", "schedule": "onecycle", "epochs": 40}})
    run(workspace, "mine", monkeypatch)
    whole = workspace.outputs("mine")

    running = subprocess.Popen(
        workspace.command("mine"), cwd=workspace.root, env=workspace.environment({"PYTHONHASHSEED": "2"})
    )
    checkpoints = workspace.root / ".stroma" / "checkpoints" / "mine"
    while not list(checkpoints.glob("*.safetensors")) and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert list(checkpoints.glob("*.safetensors"))

    run(workspace, "mine", monkeypatch)
    assert workspace.outputs("mine") == whole
    assert not checkpoints.exists()


def test_a_run_cut_inside_an_epoch_ends_in_the_same_bytes(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48, "breakhis": 48})
    workspace.write_params({"mine": MIXED})
    run(workspace, "mine", monkeypatch)
    whole = workspace.outputs("mine")

    steps: list[int] = []
    save = fit.Session.save

    def cut(session: fit.Session) -> None:
        save(session)
        steps.append(session.state.step)
        if len(steps) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(fit.Session, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, "mine", monkeypatch)
    assert steps == [1, 2, 3]
    monkeypatch.setattr(fit.Session, "save", save)
    run(workspace, "mine", monkeypatch)
    assert workspace.outputs("mine") == whole


def test_it_learns_and_its_record_says_all(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 96, "breakhis": 96})
    workspace.write_params({"mine": MIXED})
    said = run(workspace, "mine", monkeypatch)
    record = read_record(Path("models/mine"))
    assert isinstance(record, ModelRecord)
    assert record.best["val_auroc"] > 0.9
    assert f"best epoch {record.best_epoch}" in said
    assert (record.train_images, record.val_images) == (128, 32)
    assert record.sources == ["idc", "breakhis"]
    assert record.settings["augment"] == {"eightfold": True, "flip": False, "rotate": 0.0, "zoom": 0.0, "stain": 0.0}
    assert (record.class_names, record.data, record.parameters) == (["benign", "malignant"], "demo", 110_018)
    assert str(workspace.root) not in json.dumps(record.model_dump())
    curves = pd.read_csv("reports/curves/mine.csv")
    assert list(curves.columns) == [
        "epoch", "train_loss", "val_loss", "val_auroc", "val_balanced_accuracy", "learning_rate",
    ]  # fmt: skip
    assert list(curves["epoch"]) == [1, 2]


def test_a_source_that_is_absent_is_named_and_the_rest_trained_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": MIXED})
    assert "without breakhis" in run(workspace, "mine", monkeypatch)
    record = read_record(Path("models/mine"))
    assert (record.sources, record.missing_sources) == (["idc"], ["breakhis"])


def test_a_recipe_without_any_source_leaves_the_reason_alone(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**BASELINE, "sources": ["breakhis"], "task": "subtype"}})
    assert run(workspace, "mine", monkeypatch) == "not run: no training image of breakhis"
    assert [file.name for file in Path("models/mine").iterdir()] == ["skipped.json"]
    assert isinstance(read_record(Path("models/mine")), Skipped)
    assert Path("reports/curves/mine.csv").read_text().startswith("epoch,train_loss")


def test_a_training_part_of_one_class_is_an_error_that_names_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48}, lambda rows: rows[(rows["label"] == 0) | (rows["split"] != "train")])
    workspace.write_params({"mine": BASELINE})
    with pytest.raises(StageError, match="all benign"):
        run(workspace, "mine", monkeypatch)
    assert not Path("models").exists()


def test_a_val_part_of_one_class_chooses_by_loss(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48}, lambda rows: rows[(rows["label"] == 1) | (rows["split"] != "val")])
    workspace.write_params({"mine": BASELINE})
    assert "val AUROC undefined" in run(workspace, "mine", monkeypatch)
    assert pd.read_csv("reports/curves/mine.csv")["val_auroc"].isna().all()


def test_an_empty_val_part_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48}, lambda rows: rows[rows["split"] != "val"])
    workspace.write_params({"mine": BASELINE})
    with pytest.raises(StageError, match="val has no image"):
        run(workspace, "mine", monkeypatch)


def test_a_subtype_without_training_images_is_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"breakhis": 96}, lambda rows: rows[(rows["subtype"] != "PT") | (rows["split"] != "train")])
    workspace.write_params({"mine": {**BASELINE, "sources": ["breakhis"], "task": "subtype", "class_weights": True}})
    assert "no training image of PT" in run(workspace, "mine", monkeypatch)
    assert read_record(Path("models/mine")).untrained_classes == ["PT"]


def test_a_loss_that_explodes_is_an_error(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**BASELINE, "optimizer": "sgd", "lr": 10.0, "weight_decay": 1.0, "epochs": 40}})
    with pytest.raises(StageError, match="lower the recipe's lr"):
        run(workspace, "mine", monkeypatch)


def test_a_profile_may_shorten_every_recipe(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": BASELINE}, profile={"init_missing": "random", "epochs": 1})
    run(workspace, "mine", monkeypatch)
    assert read_record(Path("models/mine")).epochs == 1


RECIPES = yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_of_params_trains_and_plain_timm_predicts_the_same(
    name: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48, "breakhis": 96})
    workspace.write_params({name: {**RECIPES[name], "image_size": 32, "batch_size": 32, "epochs": 1}})
    run(workspace, name, monkeypatch)
    model, record = load_model(Path("models") / name)
    images = prepare(record)(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 50, 50, 3), np.uint8)))
    plain = timm.create_model(f"local-dir:models/{name}", pretrained=True).eval()
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(logits, plain(images))
    assert logits.shape == (4, len(record.class_names))
    config = json.loads((Path("models") / name / "config.json").read_text())
    assert config["architecture"] == RECIPES[name]["arch"].partition(".")[0]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert sorted(file.name for file in (Path("models") / name).iterdir()) == [
        "config.json", "model.safetensors", "recipe.json",
    ]  # fmt: skip
