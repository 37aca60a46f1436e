"""The second door of evaluate: the mean of what drawn members say, its thresholds locked on val, its faults named."""

import contextlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.contracts.ensembles import read_ensemble
from stages.contracts.errors import StageError
from stages.contracts.index import INDEX, write_index
from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.metrics import PLOTS
from stages.contracts.modelfolder import ModelRecord, Skipped, Start
from stages.contracts.operating import probabilities
from stages.contracts.tables import read_metadata
from stages.evaluate.averaging import Member, average, read_member
from stages.evaluate.ensemble import evaluated_mean, work
from stages.evaluate.evaluation import evaluated, not_run, write_evaluation
from stages.evaluate.params import EvaluateParams

KNOBS = EvaluateParams(batch_size=8, calibration_bins=10, specificity=0.9)
PROBABILITIES = ["probability_benign", "probability_malignant"]


def index_rows() -> pd.DataFrame:
    """val and test of both sources: 4 cases each, 6 images a case; BreakHis cases have a subtype."""
    rows: list[dict[str, Any]] = []
    for source in ("idc", "breakhis"):
        for split in ("val", "test"):
            for case in range(4):
                for image in range(6):
                    row = dict.fromkeys(INDEX.names) | {"source": source, "split": split, "fold": 0, "pixel_row": 0}
                    row |= {"case_id": f"{source}-{split}-{case}", "image_id": f"{source}-{len(rows):03}"}
                    row |= {"label": image % 2 if source == "idc" else case // 2}
                    if source == "breakhis":
                        row |= {"subtype": ["A", "F", "DC", "LC"][case], "magnification": [40, 100][image % 2]}
                    rows.append(row)
    return pd.DataFrame(rows)


def draw_member(recipe: str, seed: int, sources: list[str], task: str = "binary", **about: Any) -> None:
    """Evaluate a drawn recipe in the working directory, as the first door would."""
    names = list(LABELS if task == "binary" else SUBTYPES)
    rows = index_rows()
    rows = rows[rows["source"].isin(sources)].reset_index(drop=True)
    rows["target"] = rows["label"] if task == "binary" else rows["subtype"].map(SUBTYPES.index)
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.3, (len(rows), len(names))) + 1.5 * np.eye(len(names))[rows["target"]]
    record = ModelRecord(
        recipe=recipe, settings={"task": task}, class_names=names, sources=sources, missing_sources=[], image_size=32,
        view="squash", mean=[0.5] * 3, std=[0.2] * 3, index_sha256="0", params_sha256="0", start=Start(init="random"),
        parameters=10, trained_parameters=10, macs=10, train_images=1, val_images=1, epochs=1, best_epoch=1, best={},
        threads=1, **({"data": "demo", "protocol": "case", "fold": 0} | about),
    )  # fmt: skip
    write_evaluation(evaluated(rows, logits.astype(np.float32), record, bins=10, specificity=0.9), recipe)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ensemble")
    with contextlib.chdir(folder):
        draw_member("one", 1, ["idc", "breakhis"])
        draw_member("two", 2, ["idc", "breakhis"])
        draw_member("idc_only", 3, ["idc"])
        draw_member("breakhis_only", 4, ["breakhis"])
        draw_member("eight", 5, ["breakhis"], "subtype")
        draw_member("leaky", 6, ["idc"], protocol="image")
        for name in ("none", "neither"):
            write_evaluation(not_run(Skipped(recipe=name, reason="no image of it", settings={})), name)
        write_index(index_rows(), {"protocol": "case", "data": "demo"}, Path("data/index/case.parquet"))
    return folder


def ensemble(workspace: Path, *members: str, name: str = "mean") -> str:
    settings = {"reproduces": None, "protocol": "case", "members": list(members)}
    with contextlib.chdir(workspace):
        return work({"evaluate": KNOBS.model_dump(), "ensembles": {name: settings}}, name)


def predictions(workspace: Path, recipe: str) -> pd.DataFrame:
    return pd.read_parquet(workspace / f"data/predictions/{recipe}.parquet").set_index("image_id")


def operating(workspace: Path, name: str = "mean") -> dict[str, Any]:
    return json.loads((workspace / f"reports/operating/{name}.json").read_text())


def test_the_mean_of_two_members_is_the_one_computed_by_hand(workspace: Path) -> None:
    said = ensemble(workspace, "one", "two")
    assert said.startswith("mean of one, two on 96 images of val and test; test AUROC breakhis 0.")
    one, two, mean = (predictions(workspace, name)[PROBABILITIES] for name in ("one", "two", "mean"))
    assert np.allclose(mean, (one.loc[mean.index] + two.loc[mean.index]) / 2, atol=1e-7)
    logits = predictions(workspace, "mean")[["logit_benign", "logit_malignant"]].to_numpy()
    assert np.allclose(probabilities(logits, operating(workspace)["temperature"]), mean, atol=1e-6)
    assert read_metadata(workspace / "data/predictions/mean.parquet")["members"] == ["one", "two"]


def test_it_leaves_the_files_that_a_recipe_leaves_and_again_the_same_bytes(workspace: Path) -> None:
    def tracked() -> dict[str, bytes]:
        folders = [workspace / "data/predictions", workspace / "reports"]
        return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.rglob("mean.*"))}

    ensemble(workspace, "one", "two")
    first = tracked()
    assert len(first) == 4 + len(PLOTS)
    ensemble(workspace, "one", "two")
    assert tracked() == first


def test_nothing_of_test_reaches_the_thresholds(workspace: Path) -> None:
    def mean_of(change: bool) -> Any:
        with contextlib.chdir(workspace):
            members = [read_member(name) for name in ("one", "two")]
        for member in members:
            assert isinstance(member, Member)
            if change:
                test = member.rows["split"] == "test"
                member.rows.loc[test, PROBABILITIES] = member.rows.loc[test, PROBABILITIES[::-1]].to_numpy()
        return evaluated_mean(average("mean", members), index_rows(), KNOBS)

    before, after = mean_of(change=False), mean_of(change=True)
    assert before.operating == after.operating
    assert before.headline != after.headline


def test_a_member_that_was_not_run_is_left_out_and_named(workspace: Path) -> None:
    said = ensemble(workspace, "one", "none", "two")
    assert "none left out, not run: no image of it" in said
    record = read_ensemble(workspace / "reports/operating/mean.json")
    assert (record.averaged, record.left_out) == (["one", "two"], {"none": "no image of it"})
    assert record.said() == "ensemble of one, two (without none)"


def test_without_any_member_there_is_no_ensemble_and_it_says_why(workspace: Path) -> None:
    said = ensemble(workspace, "none", "neither", name="empty")
    assert said == "not run: none of its members was run: none: no image of it; neither: no image of it"
    assert predictions(workspace, "empty").empty
    assert "thresholds" not in operating(workspace, "empty")


def test_only_images_that_all_members_predicted_are_averaged_and_the_rest_is_counted(workspace: Path) -> None:
    said = ensemble(workspace, "one", "idc_only")
    assert set(predictions(workspace, "mean")["source"]) == {"idc"}
    note = "48 images of breakhis left out: idc_only did not predict them"
    assert note in said
    assert operating(workspace)["notes"] == [note]
    assert set(operating(workspace)["thresholds"]) == {"idc"}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        (("one", "eight"), "their task is binary and subtype"),
        (("one", "leaky"), "their protocol is case and image"),
        (("idc_only", "breakhis_only"), r"idc_only \(idc\), breakhis_only \(breakhis\) predicted no image in common"),
        (("one", "absent"), r"data/predictions/absent\.parquet is missing; `dvc repro` makes it"),
        (("one",), "1 members; dvc.yaml's stage ensemble can list 2 to 4"),
        (("one", "one"), "one stands there more than once"),
    ],
)
def test_members_that_cannot_be_averaged_end_in_one_clear_error(
    workspace: Path, members: tuple[str, ...], said: str
) -> None:
    with pytest.raises(StageError, match=said):
        ensemble(workspace, *members)


def test_members_of_eight_classes_are_averaged_class_by_class(workspace: Path) -> None:
    with contextlib.chdir(workspace):
        draw_member("eight_more", 7, ["breakhis"], "subtype")
    ensemble(workspace, "eight", "eight_more", name="subtypes")
    confusion = pd.read_csv(workspace / "reports/plots/confusion/subtypes.csv")
    assert confusion.groupby("classes")["count"].sum().to_dict() == {2: 24, 8: 24}
    assert set(pd.read_csv(workspace / "reports/plots/roc/subtypes.csv")["curve"]) == {
        "malignant",
        "A",
        "F",
        "DC",
        "LC",
    }
