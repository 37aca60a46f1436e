"""The originals' figures as files, the cards, and the row of an ensemble, over a small drawn workspace."""

import contextlib
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from drawn_results import RECIPES, draw_workspace

from stages.compare.cards import card, write_cards
from stages.compare.collect import Findings, collect
from stages.compare.figures import Figure, figures, write_figures
from stages.compare.grids import models_grid, reported_grid, what_was_run
from stages.compare.rows import comparison
from stages.contracts.manifest import SUBTYPES

BINARY = {"roc", "confusion_idc", "precision_recall", "calibration", "accuracy", "loss"}
EIGHT = {
    "roc", "roc_subtypes_breakhis", "confusion_breakhis", "confusion_breakhis_subtypes", "precision_recall",
    "calibration", "accuracy", "loss",
}  # fmt: skip


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    folder = tmp_path_factory.mktemp("figures")
    with contextlib.chdir(folder):
        draw_workspace(folder)
    return collect(list(RECIPES), ["ensemble"], folder)


@pytest.fixture(scope="module")
def cards(findings: Findings) -> dict[str, str]:
    return {result.recipe: card(result, findings, ["roc"] * result.ran) for result in findings.results}


@pytest.fixture(scope="module")
def drawn(findings: Findings) -> dict[str, list[Figure]]:
    return {result.recipe: figures(result, findings.data) for result in findings.results}


def written(drawn: dict[str, list[Figure]], folder: Path) -> dict[str, set[str]]:
    write_figures(drawn, folder)
    return {path.name: {file.stem for file in path.iterdir()} for path in folder.iterdir()}


def test_each_original_finds_its_own_figures(drawn: dict[str, list[Figure]], tmp_path: Path) -> None:
    found = written(drawn, tmp_path / "figures")
    assert found["baseline_cnn"] == BINARY
    assert found["mobilenetv2"] == BINARY | {"confusion_breakhis"}
    assert found["mobilenetv3_subtype"] == EIGHT
    assert found["ensemble"] == BINARY - {"accuracy", "loss"}
    assert "no_source" not in found


def test_a_figure_is_a_drawing_of_its_own_that_says_demo(drawn: dict[str, list[Figure]], tmp_path: Path) -> None:
    written(drawn, tmp_path / "figures")
    for path in (tmp_path / "figures").rglob("*.svg"):
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
        assert "(demo)" in path.read_text(), path


def test_the_roc_of_each_subtype_has_its_line_and_its_area(findings: Findings, drawn: dict[str, list[Figure]]) -> None:
    result = next(one for one in findings.results if one.recipe == "mobilenetv3_subtype")
    shown = next(one for one in drawn["mobilenetv3_subtype"] if one.name == "roc_subtypes_breakhis")
    for name in SUBTYPES:
        assert f"{result.score('breakhis', f'{name}.auroc'):.3f} {name}" in shown.svg


def test_figures_of_a_recipe_that_is_gone_are_gone(drawn: dict[str, list[Figure]], tmp_path: Path) -> None:
    (tmp_path / "figures/deleted").mkdir(parents=True)
    assert "deleted" not in written(drawn, tmp_path / "figures")


def test_an_ensemble_is_a_row_after_the_recipes_as_large_as_its_members(findings: Findings) -> None:
    table = comparison(findings)
    row = table.set_index("recipe").loc["ensemble"]
    assert table["recipe"].iloc[-1] == "ensemble"
    assert row["arch"] == "ensemble of baseline_cnn, mobilenetv2 (without no_source)"
    assert (row["status"], row["trained_on"], row["missing"]) == ("ok", "idc", "breakhis")
    assert row["params_m"] == round(2 * 2.225858, 3)
    assert row[["start", "image_size", "epochs"]].isna().all()
    assert row["idc_images"] == 72
    assert models_grid(table).rows[-1] == ["ensemble", "–", "–", "4.45", "52.0", "–"]
    assert what_was_run(table).rows[-1][4] == "idc (without breakhis)"


def test_an_ensemble_of_nothing_says_why(findings: Findings) -> None:
    from dataclasses import replace

    from stages.contracts.modelfolder import Skipped

    last = findings.results[-1]
    empty = Skipped(recipe="ensemble", reason="none of its members was run", settings=last.settings)
    results = [*findings.results[:-1], replace(last, record=empty, scores=last.scores[:0])]
    lost = replace(findings, results=results)
    assert comparison(lost)["status"].iloc[-1] == "not run: none of its members was run"
    assert "**Not run: none of its members was run.**" in card(results[-1], lost, [])


def test_every_reported_number_that_can_be_measured_stands_beside_its_measure(findings: Findings) -> None:
    rows = {row[2]: row for row in reported_grid(findings).rows if row[0] == "mobilenetv3_subtype"}
    result = next(one for one in findings.results if one.recipe == "mobilenetv3_subtype")
    areas = [result.score("breakhis", f"{name}.auroc") for name in SUBTYPES]
    assert rows["subtype AUC from"][3:] == ["0.97", f"breakhis {min(areas):.4f}", "test"]
    assert rows["subtype AUC to"][4] == f"breakhis {max(areas):.4f}"
    rate = result.score("breakhis", "binary.false_positive_rate")
    assert rate == pytest.approx(1 - result.score("breakhis", "binary.specificity"), abs=1e-6)
    assert rows["false positive rate"][4] == f"breakhis {rate:.4f}"


def test_no_reported_key_of_the_shipped_recipes_is_without_a_measure() -> None:
    import yaml
    from conftest import ROOT

    from stages.compare.rows import REPORTED, SUBTYPE_AUC

    recipes = yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"].values()
    keys = {key for recipe in recipes for key in recipe.get("reported", {})}
    assert keys <= {*REPORTED, *SUBTYPE_AUC, "params_m", "macs_m"}


def test_a_card_states_its_data_its_split_and_its_limits(cards: dict[str, str]) -> None:
    for text in cards.values():
        assert text.splitlines()[0].endswith("(demo)")
        assert "Data: demo – drawn tissue" in text
        assert "Not a medical device" in text
        assert "0 of 40 cases shared between parts" in text or "**LEAKS** – idc: 40 of 40 cases" in text
        assert "## Limits" in text
        assert not re.search(r"\bnan\b|None|<NA>|\{\{|\n\n\n", text)


def test_a_card_holds_the_numbers_of_the_scores(findings: Findings, cards: dict[str, str]) -> None:
    result = next(one for one in findings.results if one.recipe == "mobilenetv2")
    text = cards["mobilenetv2"]
    assert f"| IDC, by image | 72 | 6 | {result.score('idc', 'balanced_accuracy'):.3f} |" in text
    for heading in ("BreakHis, by magnification (demo)", "BreakHis, by subtype (demo)"):
        assert heading in text
    assert "[roc](../figures/mobilenetv2/roc.svg)" in text
    assert "Test holds 6 cases of IDC" in text
    assert "| DC |" in cards["mobilenetv3_subtype"]


def test_a_card_gives_the_interval_where_the_scores_have_one(findings: Findings) -> None:
    from dataclasses import replace

    result = next(one for one in findings.results if one.recipe == "baseline_cnn")
    text = card(replace(result, scores=result.scores.assign(low=0.1234, high=0.9876)), findings, [])
    assert "[0.123, 0.988]" in text
    assert "interval over cases" in text
    assert "There are no intervals yet" not in text


def test_the_card_of_a_recipe_that_was_not_run_says_so_and_has_no_numbers(cards: dict[str, str]) -> None:
    text = cards["no_source"]
    assert "**Not run: no image of breakhis.**" in text
    assert "How well it does" not in text


def test_the_card_of_an_ensemble_names_its_members_and_who_is_lacking(cards: dict[str, str]) -> None:
    text = cards["ensemble"]
    assert "averaged: baseline_cnn, mobilenetv2" in text
    assert "Without no_source, which was not run: no image of breakhis." in text
    assert "images of breakhis left out: baseline_cnn did not predict them." in text


def test_cards_appear_as_one_file_a_recipe(cards: dict[str, str], tmp_path: Path) -> None:
    write_cards(cards, tmp_path / "cards")
    assert {path.name for path in (tmp_path / "cards").iterdir()} == {f"{name}.md" for name in cards}
