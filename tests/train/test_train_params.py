"""What a recipe may say."""

import subprocess
import sys

import pytest

from stages.contracts.errors import StageError
from stages.contracts.sections import section
from stages.train.architectures import architectures
from stages.train.params import Recipe, TrainProfile, stretches, within_budget

GOOD = {
    "arch": "baseline_cnn",
    "sources": ["idc"],
    "task": "binary",
    "protocol": "case",
    "image_size": 50,
    "start": "weights/imagenet",
    "values": "params.yaml",
    "epochs": 1,
}


def fault(**changes: object) -> str:
    with pytest.raises(StageError) as caught:
        section({"recipes": {"mine": {**GOOD, **changes}}}, "recipes.mine", Recipe)
    return str(caught.value)


def test_an_unknown_arch_names_the_nearest_one() -> None:
    said = fault(arch="mobilenet2_100")
    assert "recipes.mine.arch = 'mobilenet2_100'" in said
    assert "mobilenetv2_100" in said


def test_known_architectures_are_those_that_timm_registers() -> None:
    import timm

    from stages.contracts import networks

    assert networks
    assert architectures() == set(timm.list_models()) - {"headed"}


def test_an_arch_may_carry_the_tag_of_its_weights() -> None:
    recipe = section({"r": {**GOOD, "arch": "mobilenetv4_conv_small.e2400_r224_in1k"}}, "r", Recipe)
    assert recipe.arch.endswith("in1k")


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"task": "subtype"}, "sources: [breakhis]"),
        ({"sources": ["idc", "idc"]}, "listed twice"),
        ({"sources": []}, "at least 1"),
        ({"sources": ["icd"]}, "did you mean 'idc'"),
        ({"lr": 0}, "greater than 0"),
        ({"epochs": 0}, "greater than 0"),
        ({"protocol": "kfold"}, "set fold: 1, 2"),
        ({"fold": 1}, "has no folds"),
        ({"schedule": "exponential"}, "decay: 0.95"),
        ({"decay": 0.9}, "belongs to schedule: exponential"),
        ({"augment": {"eigthfold": True}}, "did you mean 'eightfold'"),
        ({"epohcs": 3}, "did you mean 'epochs'"),
        ({"init_sha256": "abc"}, "init_sha256"),
        ({"batch_size": 1}, "greater than or equal to 2"),
        ({"start": "imagenet"}, "expected weights/imagenet, weights/random or models/RECIPE"),
        ({"start": "models/a/b"}, "models/RECIPE"),
        ({"start": "weights/random", "init_sha256": "0" * 64}, "set start: weights/imagenet"),
        ({"freeze": 1.0}, "recipes.mine.freeze = 1.0: expected a share"),
        ({"freeze": True}, "the name of a layer or block, or all"),
        ({"freeze": 0.5, "phases": [{"epochs": 1}]}, "stands in the phases"),
        ({"phases": [{"epochs": 2}, {"epochs": 1}]}, "epochs = 1, but the phases have 3"),
        ({"phases": [{"epochs": 1, "freze": "all"}]}, "did you mean 'freeze'"),
        ({"phases": [{"epochs": 1, "schedule": "exponential"}]}, "decay: 0.95"),
        ({"warmup": 2}, "longer than the 1 epochs"),
        ({"warmup": 1, "schedule": "onecycle"}, "a climb of its own"),
        ({"loss": "binary_cross_entropy", "task": "subtype", "sources": ["breakhis"]}, "needs task: binary"),
        ({"loss": "bce"}, "recipes.mine.loss = 'bce' is not allowed"),
        ({"head": {"hidden": [8]}, "dropout": 0.1}, "set head.dropout"),
        ({"head": {"hidden": []}}, "at least 1 item"),
        ({"batch_size": 8, "accumulate": 5}, "less than two images"),
        ({"ema": 1.0}, "less than 1"),
        ({"budget": {"dmeo": {"epochs": 1}}}, "recipes.mine.budget.dmeo"),
    ],
)
def test_what_a_recipe_must_not_say_is_named(changes: dict, part: str) -> None:
    assert part in fault(**changes)


def test_checking_params_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from stages.train.params import Recipe; from stages.train.architectures import architectures;"
        "architectures();"
        "print([name for name in ('torch', 'timm', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_phases_take_what_they_do_not_say_from_the_recipe() -> None:
    said = {
        **GOOD,
        "lr": 0.01,
        "schedule": "cosine",
        "phases": [{"epochs": 2, "freeze": "all"}, {"epochs": 3, "lr": 0.1}],
    }
    del said["epochs"]
    recipe = Recipe(**said)
    assert recipe.epochs == 5
    assert [(phase.freeze, phase.lr, phase.schedule) for phase in stretches(recipe)] == [
        ("all", 0.01, "cosine"),
        (0.0, 0.1, "cosine"),
    ]


def test_a_profile_changes_epochs_and_size_and_a_recipes_own_budget_goes_before() -> None:
    recipe = Recipe(**{**GOOD, "epochs": 9, "budget": {"demo": {"epochs": 2, "image_size": 32}}})
    common = TrainProfile(init_missing="random", epochs=4)
    demo, local = within_budget(recipe, "demo", common), within_budget(recipe, "local", common)
    assert (demo.epochs, demo.image_size) == (2, 32)
    assert (local.epochs, local.image_size) == (4, 50)
    assert within_budget(recipe, "full", TrainProfile(init_missing="error")) == recipe


def test_phases_keep_their_shares_of_a_smaller_budget() -> None:
    phases = [{"epochs": 2}, {"epochs": 8, "warmup": 4}]
    recipe = Recipe(**{**GOOD, "epochs": 10, "phases": phases})
    short = within_budget(recipe, "demo", TrainProfile(init_missing="random", epochs=3))
    assert [(phase.epochs, phase.warmup) for phase in short.phases] == [(1, None), (2, 2)]
    assert short.epochs == 3
