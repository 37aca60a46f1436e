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
from safetensors.torch import load_file

from stages.contracts.errors import StageError
from stages.contracts.files import sha256_of
from stages.contracts.modelfolder import ModelRecord, Skipped, load_model, prepare, read_record
from stages.contracts.sections import read_params
from stages.train import fit, session
from stages.train.__main__ import work

MIXED = {**BASELINE, "sources": ["idc", "breakhis"], "sampler": "weighted", "class_weights": True}


def run(workspace: Workspace, recipe: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("STROMA_WEIGHTS", raising=False)
    return work(read_params(), recipe)


EVERYTHING = {
    **BASELINE,
    "arch": "mobilenetv3_small_050",
    "image_size": 32,
    "optimizer": "adamw",
    "ema": 0.9,
    "accumulate": 2,
    "clip": 1.0,
    "mixup": 0.3,
    "cutmix": 1.0,
    "label_smoothing": 0.1,
}
"""All that has a state to lose; BatchNorm too."""
del EVERYTHING["epochs"]


@pytest.mark.parametrize(
    "recipe",
    [
        # Optimizer, schedule, draws and dropout all have a state to lose.
        {**BASELINE, "optimizer": "adamw", "schedule": "onecycle", "epochs": 40},
        {**EVERYTHING, "phases": [{"epochs": 1, "freeze": "all"}, {"epochs": 15, "freeze": "blocks.1", "warmup": 2}]},
        {**EVERYTHING, "phases": [{"epochs": 15, "schedule": "cosine"}, {"epochs": 1, "freeze": 0.5}]},
    ],
    ids=["plain", "killed in the last phase", "killed in the first phase"],
)
def test_a_training_that_is_killed_goes_on_in_another_process_to_the_same_bytes(
    recipe: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": recipe})
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


@pytest.mark.parametrize("after", [3, 7, 9, 10, 11, 13])
def test_a_run_cut_anywhere_ends_in_the_same_bytes(
    after: int, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut inside an epoch, at its end, at the end of a phase, and inside the next phase."""
    workspace.write_data({"idc": 48, "breakhis": 48})
    both = {"sources": ["idc", "breakhis"], "sampler": "weighted", "batch_size": 16}
    phases = [{"epochs": 2, "freeze": "all"}, {"epochs": 1, "freeze": 0.5, "schedule": "onecycle"}]
    workspace.write_params({"mine": {**EVERYTHING, **both, "phases": phases}})
    run(workspace, "mine", monkeypatch)
    whole = workspace.outputs("mine")

    steps: list[int] = []
    save = session.Session.save

    def cut(under_way: session.Session) -> None:
        save(under_way)
        steps.append(under_way.state.step)
        if len(steps) == after:
            raise KeyboardInterrupt

    monkeypatch.setattr(fit, "CHECKPOINT_EVERY_S", 0.0)
    monkeypatch.setattr(session.Session, "save", cut)
    with pytest.raises(KeyboardInterrupt):
        run(workspace, "mine", monkeypatch)
    assert steps == ([1, 2, 3, 4, 0] * 3)[:after]
    monkeypatch.setattr(session.Session, "save", save)
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
    assert record.settings["augment"] == {
        "eightfold": True, "flip": False, "flip_vertical": False, "rotate": 0.0, "zoom": 0.0, "stain": 0.0,
    }  # fmt: skip
    assert (record.class_names, record.data, record.parameters) == (["benign", "malignant"], "demo", 110_018)
    assert str(workspace.root) not in json.dumps(record.model_dump())
    curves = pd.read_csv("reports/curves/mine.csv")
    assert list(curves.columns) == [
        "epoch", "train_loss", "train_accuracy", "val_loss", "val_auroc", "val_balanced_accuracy", "val_accuracy",
        "learning_rate",
    ]  # fmt: skip
    assert list(curves["epoch"]) == [1, 2]


def test_weights_frozen_in_every_phase_stay_and_a_later_phase_may_thaw_more(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    phases = [{"epochs": 1, "freeze": "all"}, {"epochs": 1, "freeze": "blocks.1", "lr": 0.0001}]
    thawed = {**BASELINE, "arch": "mobilenetv3_small_050", "image_size": 32, "phases": phases}
    del thawed["epochs"]
    workspace.write_params({"thawed": thawed, "frozen": {**thawed, "phases": phases[:1]}})
    said = run(workspace, "thawed", monkeypatch)
    run(workspace, "frozen", monkeypatch)
    torch.manual_seed(BASELINE["seed"])
    start = dict(timm.create_model("mobilenetv3_small_050", num_classes=2).named_parameters())
    after = load_file("models/frozen/model.safetensors")
    assert {name for name in start if not torch.equal(start[name], after[name])} == {
        "classifier.weight",
        "classifier.bias",
    }
    record = read_record(Path("models/thawed"))
    assert 2050 < record.trained_parameters < record.parameters
    assert f"{record.trained_parameters / 1e6:.2f} of {record.parameters / 1e6:.2f} M parameters trained" in said
    assert list(pd.read_csv("reports/curves/thawed.csv")["learning_rate"]) == [0.005, 0.0001]


def test_a_recipe_may_start_from_what_another_learned(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 96})
    first = {**BASELINE, "head": {"hidden": [16], "dropout": 0.1}, "dropout": 0.0}
    second = {**first, "start": "models/first", "freeze": "all", "lr": 1e-9, "epochs": 1}
    workspace.write_params({"first": first, "second": second})
    run(workspace, "first", monkeypatch)
    run(workspace, "second", monkeypatch)
    learned, kept = (load_file(f"models/{name}/model.safetensors") for name in ("first", "second"))
    assert all(torch.allclose(kept[name], value, atol=1e-6) for name, value in learned.items())
    start = read_record(Path("models/second")).start
    assert (start.init, start.sha256) == ("first", sha256_of(Path("models/first/model.safetensors")))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"arch": "mobilenetv3_small_050"}, "models/first has arch baseline_cnn"),
        ({"head": {"hidden": [4]}, "dropout": 0.0}, r"has head.hidden None, the recipe \[4\]"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(
    changes: dict, said: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params(
        {"first": {**BASELINE, "epochs": 1}, "second": {**BASELINE, "start": "models/first", **changes}}
    )
    run(workspace, "first", monkeypatch)
    with pytest.raises(StageError, match=said):
        run(workspace, "second", monkeypatch)


def test_a_start_that_was_trained_on_another_split_is_refused(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"first": {**BASELINE, "epochs": 1}, "second": {**BASELINE, "start": "models/first"}})
    run(workspace, "first", monkeypatch)
    workspace.write_data({"idc": 72})
    with pytest.raises(StageError, match="a case it has seen might be scored here"):
        run(workspace, "second", monkeypatch)


def test_a_recipe_whose_start_was_not_run_is_not_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    first = {**BASELINE, "sources": ["breakhis"]}
    workspace.write_params({"first": first, "second": {**BASELINE, "start": "models/first"}})
    run(workspace, "first", monkeypatch)
    assert run(workspace, "second", monkeypatch).startswith("not run: it starts from first, which was not run: no")


def test_a_training_that_no_longer_improves_ends_early_and_says_so(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**BASELINE, "lr": 1e-9, "epochs": 9, "patience": 2, "select": "val_accuracy"}})
    assert "stopped after 3 of 9 epochs" in run(workspace, "mine", monkeypatch)
    record = read_record(Path("models/mine"))
    assert (record.epochs, record.best_epoch) == (3, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "balanced", "loss": "focal", "class_weights": True},
        {"loss": "binary_cross_entropy", "optimizer": "sgd", "schedule": "cosine", "warmup": 0.5},
        {"augment": {"flip": True, "flip_vertical": True, "rotate": 10, "zoom": 0.1, "stain": 0.2}},
        {"precision": "bf16-mixed", "channels_last": False},
    ],
    ids="-".join,
)
def test_a_recipe_of_other_choices_learns_too(
    changes: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 96, "breakhis": 96})
    workspace.write_params({"mine": {**MIXED, "epochs": 3, **changes}})
    run(workspace, "mine", monkeypatch)
    assert read_record(Path("models/mine")).best["val_auroc"] > 0.9


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
    few = {"image_size": 32, "batch_size": 32, "epochs": 1, "budget": {}, "values": "params.yaml"}
    parent = RECIPES[name]["start"].removeprefix("models/")
    wanted = [one for one in (parent, name) if one in RECIPES]
    workspace.write_params({one: {**RECIPES[one], **few} for one in wanted})
    for one in wanted:
        run(workspace, one, monkeypatch)
    model, record = load_model(Path("models") / name)
    images = prepare(record)(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (4, 50, 50, 3), np.uint8)))
    plain = timm.create_model(f"local-dir:models/{name}", pretrained=True).eval()
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(logits, plain(images))
    assert logits.shape == (4, len(record.class_names))
    config = json.loads((Path("models") / name / "config.json").read_text())
    built = config["model_args"]["body"] if "head" in RECIPES[name] else config["architecture"]
    assert built == RECIPES[name]["arch"]
    assert config["pretrained_cfg"]["input_size"] == [3, 32, 32]
    assert sorted(file.name for file in (Path("models") / name).iterdir()) == [
        "config.json", "model.safetensors", "recipe.json",
    ]  # fmt: skip
