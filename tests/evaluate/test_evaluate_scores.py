"""Scores, operating point and plot points of small synthetic predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.metrics import PLOTS
from stages.contracts.modelfolder import ModelRecord, Skipped, Start
from stages.contracts.operating import probabilities, threshold_at_specificity
from stages.evaluate.curves import MOST_POINTS, confusion_counts, roc_points, thinned
from stages.evaluate.evaluation import Evaluation, evaluated, not_run, said, write_evaluation
from stages.evaluate.measures import binary_measures, class_measures
from stages.evaluate.operating import best_threshold, fit_operating_point, fit_temperature
from stages.evaluate.scores import case_means, score_table


def record(class_names: list[str], sources: list[str]) -> ModelRecord:
    return ModelRecord(
        recipe="tiny",
        settings={"task": "binary"},
        class_names=class_names,
        sources=sources,
        missing_sources=[],
        data="demo",
        protocol="case",
        fold=0,
        image_size=32,
        view="squash",
        mean=[0.5] * 3,
        std=[0.2] * 3,
        index_sha256="0",
        params_sha256="0",
        start=Start(init="random"),
        parameters=10,
        trained_parameters=10,
        macs=10,
        train_images=1,
        val_images=1,
        epochs=1,
        best_epoch=1,
        best={},
        threads=1,
    )


def binary_rows(seed: int = 0, images: int = 6) -> tuple[pd.DataFrame, np.ndarray]:
    """4 IDC cases with both labels and 8 BreakHis cases with one, over val and test; logits that know something."""
    rng = np.random.default_rng(seed)
    rows = []
    for split in ("val", "test"):
        for case in range(2):
            for image in range(images):
                rows.append({"split": split, "source": "idc", "case_id": f"idc-{split}{case}", "label": image % 2})
        for case in range(4):
            for image in range(images):
                subtype = ["A", "F", "DC", "LC"][case]
                rows.append(
                    {
                        "split": split,
                        "source": "breakhis",
                        "case_id": f"breakhis-{split}{case}",
                        "label": case // 2,
                        "subtype": subtype,
                        "magnification": [40, 100][image % 2],
                    }
                )
    frame = pd.DataFrame(rows)
    frame["image_id"] = [f"image-{place:04}" for place in range(len(frame))]
    frame["target"] = frame["label"]
    frame["magnification"] = frame["magnification"].astype("Int16")
    frame = frame.sort_values(["split", "source", "image_id"], ignore_index=True)
    score = frame["label"].to_numpy() * 2.0 - 1 + rng.normal(0, 1.5, len(frame))
    return frame, np.column_stack([-score, score]).astype(np.float32)


def subtype_rows() -> tuple[pd.DataFrame, np.ndarray]:
    frame, _ = binary_rows()
    frame = frame[frame["source"] == "breakhis"].reset_index(drop=True)
    frame["target"] = frame["subtype"].map(SUBTYPES.index)
    logits = np.random.default_rng(1).normal(0, 1, (len(frame), 8)) + 2 * np.eye(8)[frame["target"]]
    return frame, logits.astype(np.float32)


def evaluation(rows: pd.DataFrame, logits: np.ndarray, class_names: list[str] | None = None) -> Evaluation:
    names = class_names or list(LABELS)
    return evaluated(rows, logits, record(names, sorted(rows["source"].unique())), bins=10, specificity=0.9)


def value(scores: pd.DataFrame, **where: Any) -> float:
    found = scores.loc[np.logical_and.reduce([scores[key] == wanted for key, wanted in where.items()]), "value"]
    assert len(found) == 1, where
    return found.item()


labels = arrays(np.int64, st.shared(st.integers(4, 40), key="n"), elements=st.integers(0, 1))
chances = arrays(np.float64, st.shared(st.integers(4, 40), key="n"), elements=st.floats(0, 1, width=16))


@given(labels, chances, st.floats(0, 1), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_binary_measures_are_shares_that_agree_with_sklearn_in_any_order(label, malignant, threshold, random) -> None:
    found = binary_measures(label, malignant, threshold, threshold, bins=10)
    values = {name: measure.value for name, measure in found.items()}
    assert all(value is None or 0 <= value <= 1 for name, value in values.items() if name != "nll")
    assert all((measure.value is None) == bool(measure.note) for measure in found.values())
    called = (malignant >= threshold).astype(int)
    if 0 < label.sum() < len(label):
        assert values["recall"] + values["false_negative_rate"] == pytest.approx(1)
        assert values["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(label, called))
        assert values["f1"] == pytest.approx(metrics.f1_score(label, called, zero_division=0))
    else:
        assert values["balanced_accuracy"] is values["auroc"] is values["auprc"] is None
    order = list(range(len(label)))
    random.shuffle(order)
    again = binary_measures(label[order], malignant[order], threshold, threshold, bins=10)
    assert {name: again[name].value for name in found} == pytest.approx(values)


@given(labels, chances)
@settings(max_examples=60, deadline=None)
def test_the_threshold_is_the_best_of_all_and_the_specific_one_reaches_its_specificity(label, malignant) -> None:
    if len(np.unique(label)) < 2:
        return
    chosen = best_threshold(label, malignant)
    every = [metrics.balanced_accuracy_score(label, malignant >= t) for t in [0, *malignant, *(malignant + 1e-9)]]
    assert metrics.balanced_accuracy_score(label, malignant >= chosen) == pytest.approx(max(every))
    limit = threshold_at_specificity(label, malignant, 0.9)
    assert (malignant[label == 0] < limit).mean() >= 0.9


def test_of_equally_good_thresholds_the_one_nearest_one_half_is_taken() -> None:
    label = np.array([0, 1, 0, 1])
    assert best_threshold(label, np.array([0.1, 0.2, 0.6, 0.9])) == pytest.approx(0.75)
    assert best_threshold(np.array([0, 1]), np.array([0.2, 0.4])) == pytest.approx(0.3)


def test_the_temperature_undoes_a_model_that_is_too_sure_of_itself() -> None:
    rng = np.random.default_rng(0)
    honest = rng.normal(0, 1.5, (4000, 2))
    target = (rng.random(4000) < probabilities(honest, 1.0)[:, 1]).astype(int)
    assert fit_temperature(honest * 3, target, np.full(4000, "idc")) == pytest.approx(3, rel=0.15)


def test_the_small_source_weighs_as_much_as_the_large_one_in_the_temperature() -> None:
    rows, logits = binary_rows(images=20)
    source = rows["source"].to_numpy()
    copies = np.where(source == "idc", 7, 1)
    once = fit_temperature(logits, rows["target"].to_numpy(), source)
    often = fit_temperature(*(np.repeat(part, copies, axis=0) for part in (logits, rows["target"].to_numpy(), source)))
    assert often == pytest.approx(once, rel=1e-4)


def test_nothing_of_test_reaches_the_operating_point() -> None:
    rows, logits = binary_rows()
    before = evaluation(rows, logits)
    test = (rows["split"] == "test").to_numpy()
    changed = logits.copy()
    changed[test] = changed[test][:, ::-1] * 5
    after = evaluation(rows.assign(label=np.where(test, 1 - rows["label"], rows["label"])), changed)
    assert before.operating == after.operating
    assert before.headline != after.headline


def test_a_val_with_one_label_keeps_the_default_and_says_so() -> None:
    rows, logits = binary_rows()
    kept = ~((rows["split"] == "val") & (rows["source"] == "breakhis") & (rows["label"] == 0)).to_numpy()
    point = evaluation(rows[kept].reset_index(drop=True), logits[kept]).operating
    assert point["thresholds"]["breakhis"] == 0.5
    assert point["specificity_thresholds"]["breakhis"] is None
    assert point["notes"] == ["threshold 0.5 for breakhis: its val has no benign image"]
    nothing = fit_operating_point(rows[:0], logits[:0], ["idc"], list(LABELS), 0.9)
    assert nothing.temperature == 1.0
    assert "temperature 1: val has no images" in nothing.notes


def test_the_score_of_a_case_is_the_mean_of_its_images() -> None:
    rows = pd.DataFrame({"case_id": ["b", "a", "b"], "malignant": [0.2, 0.9, 0.6]})
    assert case_means(rows, ["case_id"], ["malignant"])["malignant"].tolist() == pytest.approx([0.9, 0.4])


def test_breakhis_cases_have_a_label_and_idc_cases_do_not() -> None:
    rows, logits = binary_rows()
    scores = evaluation(rows, logits).scores
    cases = scores[(scores["level"] == "case") & (scores["stratum"] == "all") & (scores["split"] == "test")]
    by_source = cases.groupby("source")["metric"].agg(set)
    assert {"auroc", "specificity", "recognition_rate"} <= by_source["breakhis"]
    assert by_source["idc"] == {"recognition_rate", "within_case_auroc", "within_case_balanced_accuracy"}
    inside = cases[cases["metric"] == "within_case_auroc"].iloc[0]
    assert (inside["n_cases"], inside["n_images"]) == (2, 12)


def test_headline_numbers_are_those_of_the_scores_and_at_most_eight() -> None:
    rows, logits = binary_rows()
    found = evaluation(rows, logits)
    numbers = pd.json_normalize(found.headline).iloc[0]
    assert len(numbers) == 7
    auroc = value(found.scores, split="test", source="idc", level="image", stratum="all", metric="auroc")
    assert numbers["test.idc.image.auroc"] == round(auroc, 4)
    assert said(found.headline).startswith("test AUROC breakhis 0.")


def test_a_test_part_with_one_label_has_empty_cells_with_reasons(tmp_path: Path) -> None:
    rows, logits = binary_rows()
    kept = ~((rows["split"] == "test") & (rows["label"] == 1)).to_numpy()
    found = evaluation(rows[kept].reset_index(drop=True), logits[kept])
    test = found.scores[(found.scores["split"] == "test") & (found.scores["level"] == "image")]
    undefined = test[test["metric"].isin(["auroc", "recall", "balanced_accuracy", "auprc"])]
    assert undefined["value"].isna().all()
    assert (undefined["note"] != "").all()
    assert test[test["metric"] == "specificity"]["value"].notna().all()
    assert list(found.plots["roc"].columns) == list(PLOTS["roc"])
    assert found.plots["roc"].empty
    assert found.headline == {}


def test_subtypes_are_scored_by_class_and_collapsed_to_two() -> None:
    rows, logits = subtype_rows()
    scores = evaluation(rows, logits, list(SUBTYPES)).scores
    where = {"split": "test", "stratum": "all", "level": "image"}
    chosen = logits.argmax(axis=1)
    test = (rows["split"] == "test").to_numpy()
    assert value(scores, metric="accuracy", **where) == pytest.approx((chosen == rows["target"])[test].mean(), abs=1e-6)
    assert value(scores, metric="balanced_accuracy", **where) == pytest.approx(
        metrics.balanced_accuracy_score(rows["target"][test], chosen[test]), abs=1e-6
    )
    assert np.isnan(value(scores, metric="PT.recall", **where))
    malignant = probabilities(logits, 1.0)[:, 4:].sum(axis=1)
    assert value(scores, metric="binary.auroc", **where) == pytest.approx(
        metrics.roc_auc_score(rows["label"][test], malignant[test]), abs=0.1
    )
    assert not scores["stratum"].str.startswith("subtype").any()


def test_a_case_with_two_subtypes_is_two_units_but_one_case() -> None:
    rows, logits = subtype_rows()
    one = rows["case_id"].where(~rows["case_id"].isin(["breakhis-test2", "breakhis-test3"]), "breakhis-both")
    scores = evaluation(rows.assign(case_id=one), logits, list(SUBTYPES)).scores
    case = scores[(scores["split"] == "test") & (scores["level"] == "case") & (scores["stratum"] == "all")]
    assert set(case["n_cases"]) == {3}
    assert case.set_index("metric")["value"][["DC.recall", "LC.recall"]].notna().all()


def test_scores_are_sorted_and_the_same_whatever_the_order_of_the_rows() -> None:
    rows, logits = binary_rows()
    forward = evaluation(rows, logits).scores
    back = evaluation(rows[::-1].reset_index(drop=True), logits[::-1]).scores
    pd.testing.assert_frame_equal(forward, back)
    keys = ["split", "source", "stratum", "level", "metric"]
    assert not forward.duplicated(keys).any()
    assert forward[["low", "high"]].isna().all(axis=None)


def test_per_class_averages_are_over_the_classes_that_are_there() -> None:
    probability = np.array([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1], [0.5, 0.4, 0.1]])
    found = class_measures(np.array([0, 1, 1]), probability, ["a", "b", "c"], bins=10)
    assert found["balanced_accuracy"].value == pytest.approx((1 + 0.5) / 2)
    assert found["c.recall"].value is None
    assert found["f1"].value == pytest.approx((2 / 3 + 2 / 3) / 2)


def test_a_long_curve_is_thinned_but_keeps_its_ends_and_its_area() -> None:
    rng = np.random.default_rng(2)
    label = rng.integers(0, 2, 5000)
    malignant = np.clip(label * 0.2 + rng.random(5000) * 0.8, 0, 1)
    points = roc_points(label, malignant)
    assert len(points) <= MOST_POINTS
    ends = points.iloc[[0, -1]][["false_positive_rate", "sensitivity"]].to_numpy().tolist()
    assert ends == [[0, 0], [1, 1]]
    area = metrics.auc(points["false_positive_rate"], points["sensitivity"])
    assert area == pytest.approx(metrics.roc_auc_score(label, malignant), abs=0.002)
    assert thinned(np.arange(3.0), np.zeros(3)).tolist() == [0, 1, 2]


def test_confusion_counts_every_row_once() -> None:
    table = confusion_counts(np.array([0, 0, 1]), np.array([0, 1, 1]), ["benign", "malignant"])
    assert table["count"].tolist() == [1, 1, 0, 1]
    assert table["share"].tolist() == [0.5, 0.5, 0.0, 1.0]


def test_a_recipe_that_was_not_run_leaves_readable_files_without_rows(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_evaluation(not_run(Skipped(recipe="none", reason="no source", settings={})), "none")
    assert len(pd.read_parquet("data/predictions/none.parquet")) == 0
    assert json.loads(Path("reports/metrics/none.json").read_text()) == {}
    assert json.loads(Path("reports/operating/none.json").read_text()) == {}
    for path in [Path("reports/scores/none.csv"), *Path("reports/plots").glob("*/none.csv")]:
        assert pd.read_csv(path).empty
    assert len(list(Path("reports/plots").glob("*/none.csv"))) == 4


def test_written_numbers_read_back_as_they_were(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows, logits = binary_rows()
    found = evaluation(rows, logits)
    write_evaluation(found, "tiny")
    table = pd.read_csv("reports/scores/tiny.csv")
    assert table["value"].to_numpy() == pytest.approx(found.scores["value"].to_numpy(dtype=float), nan_ok=True)
    stored = pd.read_parquet("data/predictions/tiny.parquet")
    point = json.loads(Path("reports/operating/tiny.json").read_text())
    again = probabilities(stored[["logit_benign", "logit_malignant"]].to_numpy(), point["temperature"])
    assert np.array_equal(again, stored[["probability_benign", "probability_malignant"]].to_numpy())


def test_the_whole_table_can_be_made_for_every_stratum() -> None:
    rows, logits = binary_rows()
    point = fit_operating_point(
        rows[rows["split"] == "val"], logits[rows["split"] == "val"], ["breakhis", "idc"], list(LABELS), 0.9
    )
    chance = probabilities(logits, point.temperature)
    table = score_table(
        rows.assign(probability_benign=chance[:, 0], probability_malignant=chance[:, 1]),
        point, list(LABELS), 10, {"recipe": "r", "protocol": "case", "fold": 0},
    )  # fmt: skip
    assert {"all", "magnification=40", "magnification=100", "subtype=A", "subtype=DC"} <= set(table["stratum"])
    dc = table[(table["stratum"] == "subtype=DC") & (table["metric"] == "specificity")]
    assert dc["value"].isna().all()
    assert set(dc["note"]) == {"nothing benign"}
