"""What a recipe may say."""

import subprocess
import sys

import pytest

from stages.contracts.errors import StageError
from stages.contracts.sections import section
from stages.train.params import Recipe, architectures

GOOD = {"arch": "baseline_cnn", "sources": ["idc"], "task": "binary", "protocol": "case", "image_size": 50, "epochs": 1}


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
    assert architectures() == set(timm.list_models())


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
    ],
)
def test_what_a_recipe_must_not_say_is_named(changes: dict, part: str) -> None:
    assert part in fault(**changes)


def test_checking_params_imports_neither_torch_nor_timm() -> None:
    code = (
        "import sys; from stages.train.params import Recipe, architectures; architectures();"
        "print([name for name in ('torch', 'timm', 'numpy', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
