"""The gate with planted champions: each is decided right, and with its reason."""

import json
from pathlib import Path
from typing import Any

import pytest
from planted_models import CASES, Model, Planted

from stages.compare.verdicts import table
from stages.contracts.errors import StageError


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def rules(report: dict[str, Any], task: str = "binary", place: int = 0) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(rule["rule"], rule["source"]): rule for rule in report["tasks"][task]["challengers"][place]["rules"]}


def test_a_better_model_is_promoted(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.6))
    report = planted.gate()
    verdict = report["tasks"]["binary"]
    assert (verdict["decision"], verdict["promote"]) == ("promote", "new")
    assert verdict["reason"] == "new: every rule passed"
    assert verdict["champion"]["version"] == "v1.0.0"
    assert rules(report)["balanced_accuracy", "idc"]["difference"] > 0.05
    assert rules(report)["balanced_accuracy", "idc"]["cases"] == CASES["idc"]["test"]


def test_an_equal_model_is_promoted(planted: Planted) -> None:
    planted.champion(Model())
    planted.challenger("new", Model(jitter=0.02))
    assert planted.gate()["tasks"]["binary"]["decision"] == "promote"


def test_a_worse_model_is_rejected_and_told_by_how_much(planted: Planted) -> None:
    planted.champion(Model(signal=1.2))
    planted.challenger("new", Model(signal=0.6))
    verdict = planted.gate()["tasks"]["binary"]
    assert (verdict["decision"], verdict["promote"]) == ("reject", None)
    assert "balanced_accuracy of idc: 0." in verdict["reason"]
    assert "worse, from -" in verdict["reason"]
    assert "more than the margin of 0.02" in verdict["reason"]


def test_one_that_may_be_equal_or_much_worse_is_rejected_for_its_interval(planted: Planted) -> None:
    planted.champion(Model())
    planted.challenger("new", Model(jitter=1.0, signal=1.75))
    report = planted.gate(margin=0.01)
    rule = rules(report)["balanced_accuracy", "breakhis"]
    assert rule["difference"] >= -0.01
    assert rule["low"] < -0.02
    assert rule["decision"] == "reject"
    assert "not shown to be within twice the margin" in rule["reason"]


@pytest.fixture
def poor_in_one_subtype(planted: Planted) -> Planted:
    planted.champion(Model(signal=1.2))
    planted.challenger("new", Model(signal=3.0, poor={"LC": 0.55}))
    return planted


def test_worse_in_one_subtype_only_is_reported_where_no_margin_is_set(poor_in_one_subtype: Planted) -> None:
    report = poor_in_one_subtype.gate(worst_subtype_margin=None)
    assert report["tasks"]["binary"]["decision"] == "promote"
    rule = rules(report)["worst_subtype", "breakhis"]
    assert rule["decision"] == "reported"
    assert "challenger LC" in rule["reason"]
    assert "fell furthest: LC by 0." in rule["reason"]


def test_worse_in_one_subtype_only_is_rejected_by_its_own_margin(poor_in_one_subtype: Planted) -> None:
    verdict = poor_in_one_subtype.gate(worst_subtype_margin=0.05)["tasks"]["binary"]
    assert verdict["decision"] == "reject"
    assert "worst_subtype of breakhis" in verdict["reason"]
    assert "balanced_accuracy" not in verdict["reason"]


def test_calling_everything_malignant_buys_no_sensitivity(planted: Planted) -> None:
    """A challenger whose probabilities are all higher is held at the champion's specificity, not at its threshold."""
    planted.champion(Model(signal=1.2))
    planted.challenger("new", Model(signal=0.7, shift=3.0))
    rule = rules(planted.gate())["sensitivity", "idc"]
    assert rule["decision"] == "reject"
    assert rule["difference"] < -0.1
    assert "at the champion's specificity on val, 0." in rule["reason"]


def test_unclean_data_is_rejected_with_the_rule_that_failed(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.6))
    planted.validation(broken="no two cases share an image")
    verdict = planted.gate()["tasks"]["binary"]
    assert verdict["decision"] == "reject"
    assert "validation: failed: no two cases share an image" in verdict["reason"]


def test_much_quarantine_in_the_small_data_set_is_seen_beside_the_large_one(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.6))
    planted.quarantine({"idc": 0, "breakhis": 200})
    verdict = planted.gate()["tasks"]["binary"]
    assert verdict["decision"] == "reject"
    assert "quarantined of breakhis: 200 of 1,160 rows are in quarantine" in verdict["reason"]


def test_too_few_cases_are_undecided_and_not_promoted(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.6))
    verdict = planted.gate(least_cases=17)["tasks"]["binary"]
    assert (verdict["decision"], verdict["promote"]) == ("undecided", None)
    assert "balanced_accuracy of breakhis: 16 test cases that neither model met, fewer than" in verdict["reason"]


def test_a_label_in_one_case_only_is_undecided(tmp_path: Path) -> None:
    planted = Planted(tmp_path, CASES | {"breakhis": {"train": 8, "val": 16, "test": 5}})
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.6))
    verdict = planted.gate(least_cases=4)["tasks"]["binary"]
    assert verdict["decision"] == "undecided"
    assert "test cases: 1 malignant; an interval needs 2 of each" in verdict["reason"]


def test_cases_that_the_champion_was_trained_or_tuned_on_are_left_out(planted: Planted) -> None:
    met = {f"idc-test-{case:02}": "train" if case % 2 else "val" for case in range(10)}
    planted.champion(Model(signal=1.0), parts=met)
    planted.challenger("new", Model(signal=1.6))
    assert rules(planted.gate())["balanced_accuracy", "idc"]["cases"] == CASES["idc"]["test"] - 10


@pytest.mark.parametrize(("floor", "decision"), [(0.7, "promote"), (0.99, "reject")])
def test_a_first_champion_must_reach_the_floor(planted: Planted, floor: float, decision: str) -> None:
    planted.challenger("new", Model())
    limits = {task: {"balanced_accuracy": floor, "sensitivity": 0.5} for task in ("binary", "subtype")}
    verdict = planted.gate(floor=limits)["tasks"]["binary"]
    assert verdict["decision"] == decision
    assert verdict["champion"] is None
    if decision == "reject":
        assert "with no champion yet: below the floor of 0.99" in verdict["reason"]


def test_the_champion_itself_is_unchanged(planted: Planted) -> None:
    planted.champion(Model())
    planted.challenger("new", Model())
    verdict = planted.gate()["tasks"]["binary"]
    assert verdict["decision"] == "reject"
    assert "unchanged: the very weights of champion-binary v1.0.0" in verdict["reason"]


def test_of_two_challengers_the_one_that_is_better_on_val_is_judged(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("good", Model(signal=1.4))
    planted.challenger("best", Model(signal=1.8))
    verdict = planted.gate()["tasks"]["binary"]
    assert verdict["promote"] == "best"
    assert "best on val of 2 challengers" in verdict["reason"]
    values = [one["val_balanced_accuracy"] for one in verdict["challengers"]]
    assert values == sorted(values)


def test_one_that_passes_on_test_does_not_stand_in_for_the_best_on_val(planted: Planted) -> None:
    planted.champion(Model(signal=1.4))
    planted.challenger("equal", Model(signal=1.4, jitter=0.01))
    planted.challenger("best", Model(signal=3.0, poor={"LC": 0.3}))
    verdict = planted.gate(worst_subtype_margin=0.05)["tasks"]["binary"]
    assert [one["decision"] for one in verdict["challengers"]] == ["pass", "reject"]
    assert (verdict["decision"], verdict["promote"]) == ("reject", None)


def test_one_over_budget_leaves_the_place_to_the_next(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("best", Model(signal=1.8))
    planted.challenger("good", Model(signal=1.4))
    weights = planted.root / "models/best/model.safetensors"
    weights.write_bytes(b"0" * 2_000_000)
    verdict = planted.gate(budget={"size_mb": 1.0, "latency_ms": None})["tasks"]["binary"]
    assert verdict["promote"] == "good"
    assert "size_mb: 2, more than the budget of 1" in verdict["challengers"][0]["reason"]


@pytest.mark.parametrize(("measured", "decision"), [(None, "reported"), (3.0, "pass"), (9.0, "reject")])
def test_latency_counts_where_it_was_measured(planted: Planted, measured: float | None, decision: str) -> None:
    planted.challenger("new", Model())
    if measured is not None:
        cost = planted.root / "reports/cost/new.json"
        cost.parent.mkdir()
        cost.write_text(json.dumps({"latency_ms": measured}))
    report = planted.gate(budget={"size_mb": None, "latency_ms": 5.0})
    assert rules(report)["latency_ms", None]["decision"] == decision


def test_a_recipe_that_was_not_run_is_rejected_with_its_reason(planted: Planted) -> None:
    planted.not_run("new", "no image of breakhis")
    verdict = planted.gate()["tasks"]["binary"]
    assert verdict["decision"] == "reject"
    assert verdict["reason"] == "new: not run: no image of breakhis"


def test_an_ensemble_cannot_be_a_challenger(planted: Planted) -> None:
    planted.params["retrain"]["recipes"].append("ensemble")
    with pytest.raises(StageError, match=r"retrain\.recipes names ensemble, an ensemble; a champion is one model"):
        planted.gate()


def test_a_challenger_that_knows_fewer_data_sets_is_rejected(planted: Planted) -> None:
    planted.champion(Model(signal=1.0))
    planted.challenger("new", Model(signal=1.8, sources=["idc"]))
    assert "not trained on breakhis, which the champion knows" in planted.gate()["tasks"]["binary"]["reason"]


def test_a_data_set_that_the_champion_does_not_know_is_held_to_the_floor(planted: Planted) -> None:
    planted.champion(Model(signal=1.0, sources=["idc"]))
    planted.challenger("new", Model(signal=1.6))
    found = rules(planted.gate())
    assert found["balanced_accuracy", "breakhis"]["champion"] is None
    assert found["balanced_accuracy", "idc"]["champion"] is not None


def test_both_tasks_are_decided_each_by_itself(planted: Planted) -> None:
    planted.champion(Model(signal=1.0, task="subtype"))
    planted.challenger("coarse", Model())
    planted.challenger("fine", Model(signal=1.8, task="subtype"))
    report = planted.gate()
    assert {task: verdict["promote"] for task, verdict in report["tasks"].items()} == {
        "binary": "coarse",
        "subtype": "fine",
    }
    assert rules(report, "subtype")["balanced_accuracy", "breakhis"]["difference"] > 0


def test_demo_data_says_so(planted: Planted) -> None:
    planted.validation(data="demo")
    planted.challenger("new", Model())
    report = planted.gate()
    assert report["data"] == "demo"
    assert "demo" in report["tasks"]["binary"]["reason"]
    assert "Gate on demo data" in table(report)


def test_the_report_is_the_same_bytes_every_time(planted: Planted) -> None:
    planted.champion(Model())
    planted.challenger("new", Model(jitter=0.1))
    planted.gate()
    first = (planted.root / "reports/gate.json").read_bytes()
    planted.gate()
    assert (planted.root / "reports/gate.json").read_bytes() == first


def test_stale_or_missing_predictions_of_the_champion_are_one_clear_error(planted: Planted) -> None:
    planted.champion(Model())
    planted.challenger("new", Model(jitter=0.1))
    (planted.root / ".stroma/champions/binary/model/model.safetensors").write_bytes(b"other")
    with pytest.raises(StageError, match=r"made from another model; run `python -m stages.evaluate.champion binary`"):
        planted.gate()
    (planted.root / ".stroma/champions/binary/predictions.parquet").unlink()
    with pytest.raises(StageError, match=r"is missing; run `python -m stages.evaluate.champion binary`"):
        planted.gate()
    (planted.root / ".stroma/champions/binary/operating.json").unlink()
    with pytest.raises(StageError, match=r"lacks operating\.json"):
        planted.gate()
