"""The quick check of params.yaml: every typo is named with the key, its value, what is allowed and what was meant."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

from stages.__main__ import faults, owned_sections

SEARCH = {"protocol": "case", "start": "weights/imagenet", "select": "val_auroc"}


def grid(**space: object) -> dict[str, object]:
    return {"sampler": "grid", "space": space}


def tpe(**space: object) -> dict[str, object]:
    return {"sampler": "tpe", "trials": 3, "space": space}


@pytest.fixture
def params() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "params.yaml").read_text())


def test_the_shipped_params_are_well(params: dict[str, Any]) -> None:
    assert faults(params) == []


def test_the_rooms_sections_cover_params_exactly(params: dict[str, Any]) -> None:
    params["weather"] = {"sunny": True}
    assert faults(params) == [f"params.yaml: weather is not a known key{_allowed('weather')}"]


def _allowed(name: str) -> str:
    from stages.contracts.sections import nearest

    return nearest(name, sorted({pattern.split(".")[0] for pattern in owned_sections()}))


def set_key(params: dict[str, Any], key: str, value: Any) -> None:
    *folders, last = key.split(".")
    for name in folders:
        params = params[name]
    params[last] = value


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("profile", "dmeo", "did you mean 'demo'?"),
        ("recipes.mobilenetv4.epocs", 3, "did you mean 'epochs'?"),
        ("recipes.mobilenetv4.arch", "mobilnetv4_conv_small", "mobilenetv4_conv_small"),
        ("recipes.mobilenetv4.epochs", "three", "recipes.mobilenetv4.epochs = 'three'"),
        ("recipes.mobilenetv4.lr", "1e-3x", "recipes.mobilenetv4.lr"),
        ("recipes.mobilenetv4.sources", ["idk"], "idc"),
        ("recipes.mobilenetv4.task", "subtype", "subtype"),
        ("recipes.mobilenetv4.protocol", "image", "add it to protocols"),
        ("recipes.mobilenetv4.start", "models/mobilnetv2", "did you mean 'mobilenetv2'?"),
        ("recipes.mobilenetv4.start", "models/mobilenetv4", "mobilenetv4 starts from mobilenetv4"),
        ("index.parts.train", 0.9, "sum to 1"),
        ("index.gap", -1, "index.gap"),
        ("threads", "many", "threads = 'many'"),
        ("profiles.local.idc", 7, "profiles.local.idc"),
        ("retrain.recipes", ["mobilnetv2"], "did you mean 'mobilenetv2'?"),
        ("drift.recipe", "mobilenetv22", "did you mean 'mobilenetv2'?"),
        ("retrain.recipes", ["ensemble"], "an ensemble; a champion is one model"),
        ("ensembles.ensemble.members", ["vit", "mobilnetv2"], "did you mean 'mobilenetv2'?"),
        ("ensembles.ensemble.members", ["vit"], "1 members; dvc.yaml's stage ensemble can list 2 to 4"),
        ("ensembles.ensemble.members", ["vgg16_binary", "vgg16_subtype"], "differ in task (vgg16_binary binary"),
        ("ensembles.ensemble.members", ["vgg16_binary", "resnet50"], "share no source"),
        ("ensembles.ensemble.protocol", "image", "differ in protocol"),
        ("ensembles.vit", {"reproduces": None, "protocol": "case", "members": ["vit", "resnet50"]}, "name of a recipe"),
        ("gate.margin", 2, "gate.margin = 2"),
        ("recipes.mobilenetv4.values", "reports/tune/mobilenetv4.json", "there is no tune.mobilenetv4"),
        ("recipes.efficientnet_b2.values", "reports/tune/mobilenetv3_subtype.json", "the search of another recipe"),
        ("recipes.efficientnet_b2.values", "reports/tune.json", "expected params.yaml or reports/tune/RECIPE.json"),
        ("tune.efficientnet_b2.start", "weights/random", "the recipe's is 'weights/imagenet'"),
        ("tune.efficientnet_b2.slect", "val_loss", "did you mean 'select'?"),
        ("tune.efficientnet_b3", {**SEARCH, "rounds": [grid(lr=[1])]}, "did you mean 'efficientnet_b2'?"),
        ("tune.efficientnet_b2.rounds", [grid(dropuot=[0.1])], "did you mean 'dropout'?"),
        ("tune.efficientnet_b2.rounds", [grid(epochs=[1, 2])], "rounds.0.space.epochs"),
        ("tune.efficientnet_b2.rounds", [grid(lr=[0.1, 0.1])], "listed twice"),
        ("tune.efficientnet_b2.rounds", [grid(lr=[0.01, 100])], "less than or equal to 10 (at lr 100)"),
        ("tune.efficientnet_b2.rounds", [grid(decay=[0.9])], "decay belongs to schedule: exponential"),
        ("tune.efficientnet_b2.rounds", [grid(lr={"low": 0.1, "high": 1})], "needs the `points` of lr"),
        ("tune.efficientnet_b2.rounds", [tpe(lr={"low": 0.1, "high": 0.01})], "a range: {low: 0.001"),
        ("tune.efficientnet_b2.rounds", [tpe(lr={"low": 0.0, "high": 0.1, "log": True})], "log needs a low above 0"),
        ("tune.efficientnet_b2.rounds", [tpe(batch_size={"low": 8, "high": 64})], "valid integer"),
        ("tune.efficientnet_b2.rounds", [{**tpe(lr=[0.1]), "trials": None}], "number of `trials`"),
        ("gate.floor.binary.sensitivity", 1.5, "less than or equal to 1"),
        ("drift.false_alarm", 0.0001, "take more"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(params: dict[str, Any], key: str, value: Any, said: str) -> None:
    wrong = copy.deepcopy(params)
    set_key(wrong, key, value)
    found = faults(wrong)
    assert len(found) == 1, found
    assert key.rsplit(".", 1)[0] in found[0]
    assert said in found[0]


def test_all_faults_are_named_at_once(params: dict[str, Any]) -> None:
    params["recipes"]["baseline_cnn"]["epocs"] = 1
    params["merge"]["idc"]["height"] = -3
    assert len(faults(params)) == 2


@pytest.mark.parametrize("text", ["profile: [demo", "just a word", "\x00"])
def test_unreadable_params_end_in_one_line_and_a_failure(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    for module in (["stages"], ["stages.merge"]):
        done = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": ""},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "params.yaml" in done.stderr
        assert "Traceback" not in done.stderr
