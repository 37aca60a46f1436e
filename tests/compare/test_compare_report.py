"""The comparison table, its Markdown, page, figures and cards, over a small drawn workspace."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from conftest import ROOT
from drawn_results import ENSEMBLES, RECIPES, draw_workspace

from stages.compare.collect import Findings, collect
from stages.compare.drawings import accuracy, confusion, loss
from stages.compare.figures import Figure, figures
from stages.compare.grids import metric_grids, models_grid, reported_grid, what_was_run
from stages.compare.markdown import written
from stages.compare.page import rendered
from stages.compare.rows import REPORTED_LABEL, comparison
from stages.compare.table import rendered as printed
from stages.contracts.errors import StageError


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workspace")
    before = Path.cwd()
    os.chdir(folder)
    try:
        draw_workspace(folder)
    finally:
        os.chdir(before)
    return folder


@pytest.fixture(scope="module")
def findings(workspace: Path) -> Findings:
    return collect(list(RECIPES), list(ENSEMBLES), workspace)


@pytest.fixture(scope="module")
def table(findings: Findings) -> pd.DataFrame:
    return comparison(findings)


@pytest.fixture(scope="module")
def page(findings: Findings, table: pd.DataFrame) -> str:
    return rendered(findings, table, drawn(findings))


def drawn(findings: Findings) -> dict[str, list[Figure]]:
    return {result.recipe: figures(result, findings.data) for result in findings.results}


def run(workspace: Path, *module: str, seed: str = "0") -> str:
    done = subprocess.run(
        [sys.executable, "-m", *module], cwd=workspace, capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_is_one_row_for_each_recipe_in_the_order_of_params(table: pd.DataFrame) -> None:
    assert table.columns[0] == "recipe"
    assert list(table["recipe"]) == [*RECIPES, *ENSEMBLES]
    assert set(table["data"]) == {"demo"}


def test_a_recipe_that_params_no_longer_name_has_no_row(workspace: Path) -> None:
    assert list(comparison(collect(["leaky", "baseline_cnn"], root=workspace))["recipe"]) == ["leaky", "baseline_cnn"]


def test_the_numbers_are_those_of_the_scores(workspace: Path, table: pd.DataFrame) -> None:
    scores = pd.read_csv(workspace / "reports/scores/mobilenetv2.csv")
    test = scores[(scores["split"] == "test") & (scores["stratum"] == "all")].set_index(["source", "level", "metric"])
    row = table.set_index("recipe").loc["mobilenetv2"]
    assert row["idc_auroc"] == round(test.loc[("idc", "image", "auroc"), "value"], 4)
    assert row["idc_sensitivity"] == round(test.loc[("idc", "image", "recall"), "value"], 4)
    assert row["breakhis_case_balanced_accuracy"] == round(
        test.loc[("breakhis", "case", "balanced_accuracy"), "value"], 4
    )
    assert (row["idc_images"], row["idc_cases"]) == (72, 6)


def test_sensitivity_of_eight_classes_is_that_of_benign_against_malignant(workspace: Path, table: pd.DataFrame) -> None:
    scores = pd.read_csv(workspace / "reports/scores/mobilenetv3_subtype.csv")
    found = scores.query("split == 'test' and stratum == 'all' and level == 'image' and metric == 'binary.recall'")
    row = table.set_index("recipe").loc["mobilenetv3_subtype"]
    assert row["breakhis_image_sensitivity"] == round(found["value"].item(), 4)


def test_a_recipe_that_was_not_run_says_why_and_has_no_numbers(table: pd.DataFrame, page: str) -> None:
    row = table.set_index("recipe").loc["no_source"]
    assert row["status"] == "not run: no image of breakhis"
    numbers = [name for name in table.columns if re.search(r"auroc|accuracy|images|params_m|f1", name)]
    assert row[numbers].isna().all()
    assert "Not run: no image of breakhis" in page


def test_a_split_that_leaks_is_flagged_wherever_its_recipe_stands(findings, table, page) -> None:
    leaks = table.set_index("recipe")["leaks"]
    assert leaks["leaky"] == "idc: 40 of 40 cases shared between parts"
    assert set(leaks.drop("leaky")) == {"no"}
    for grid in [what_was_run(table), *metric_grids(table)[:1]]:
        flagged = [row[0] for row in grid.rows if any("LEAKS" in cell for cell in row)]
        assert flagged == ["leaky"]
    assert "**LEAKS**" in written(findings, table)
    assert "This split leaks" in page
    assert "leaky: LEAKS" in printed(as_read(table))


def test_cases_that_were_also_trained_on_are_not_counted_as_cases_in_test(workspace: Path) -> None:
    leaky = collect(["leaky"], root=workspace)
    assert "<strong>none</strong>IDC cases in test" in rendered(leaky, comparison(leaky), drawn(leaky))


def test_reported_numbers_stand_beside_those_measured_with_their_label(findings, table) -> None:
    grid = reported_grid(findings)
    assert REPORTED_LABEL in grid.headings
    by_name = {(row[0], row[2]): row for row in grid.rows}
    score = next(result for result in findings.results if result.recipe == "baseline_cnn").score("idc", "accuracy")
    assert by_name["baseline_cnn", "accuracy"][3:] == ["0.52", f"idc {score:.4f}", "test"]
    assert by_name["mobilenetv2", "val accuracy"][5] == "val"
    assert by_name["mobilenetv2", "parameters, M"][4] == "2.23 at 64 px"
    assert table.set_index("recipe").loc["mobilenetv2", "reported"].endswith(f"({REPORTED_LABEL})")
    assert table.set_index("recipe").loc["leaky", "reported"] == ""


def test_markdown_tables_are_narrow_and_whole(findings, table) -> None:
    text = written(findings, table)
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            widths.setdefault(line.count("|"), []).append(line)
    assert max(widths) <= 12
    assert not re.search(r"\bnan\b|None|<NA>", text)
    assert "Data: demo" in text
    assert "0 of 40 cases shared between parts" in text
    assert "3,205 rows in = 3,200 validated + 5 quarantined (2 decode_error, 3 label_conflict)" in text


def test_the_page_needs_nothing_from_elsewhere(page: str) -> None:
    assert "<script" not in page
    links = re.findall(r"""(?:src|href)=["'](?!\#)([^"']*)""", page.replace("xlink:href", "href"))
    assert links
    assert all(re.fullmatch(r"(cards|figures)/[a-z0-9_/]+[.](md|svg)", link) for link in links), links
    assert not re.findall(r"url\((?!#)", page)
    assert "@import" not in page


def test_the_page_says_demo_at_every_table_and_figure(page: str) -> None:
    heads = re.findall(r"<h[23][^>]*>(.*?)</h[23]>", page)
    assert sum("demo" in head for head in heads) >= 12
    assert all("demo" in label for label in re.findall(r'<figure role="img" aria-label="([^"]*)"', page))
    assert not re.search(r"\b(nan|None)\b|&lt;NA", page)
    for recipe in RECIPES:
        assert f'<section aria-label="{recipe}">' in page


def test_each_recipe_that_was_run_shows_its_plots(page: str) -> None:
    shown = page.split('<section aria-label="mobilenetv2">')[1].split("</section>", maxsplit=1)[0]
    labels = " ".join(re.findall(r'aria-label="([^"]*)"', shown))
    for plot in (
        "ROC curve",
        "Precision-recall curve",
        "Calibration",
        "Accuracy by epoch",
        "Loss by epoch",
        "Confusion, IDC",
        "Confusion, BreakHis",
    ):
        assert plot in labels


def test_names_from_params_cannot_break_the_page(workspace: Path) -> None:
    found = collect(["no_source"], root=workspace)
    found.validation["rows"]["reasons"] = {"<script>alert(1)</script>": 5}
    assert "<script>" not in rendered(found, comparison(found), drawn(found))


def test_the_bytes_are_the_same_whatever_the_hash_seed(workspace: Path) -> None:
    params = yaml.safe_load((workspace / "params.yaml").read_text())
    kept = {name: RECIPES[name] for name in ("mobilenetv3_subtype", "no_source")}
    (workspace / "params.yaml").write_text(yaml.safe_dump(params | {"recipes": kept, "ensembles": {}}, sort_keys=False))
    reports = workspace / "reports"
    seen = []
    for seed in ("1", "2"):
        said = run(workspace, "stages.compare", seed=seed)
        made = [*reports.glob("comparison.*"), *reports.glob("figures/*/*"), *reports.glob("cards/*")]
        seen.append({path.relative_to(reports): path.read_bytes() for path in made})
    assert seen[0] == seen[1]
    assert {str(path.parent) for path in seen[0]} == {".", "cards", "figures/mobilenetv3_subtype"}
    assert "1 of 2 recipes run on demo data; report in reports/comparison.html" in said
    text = run(workspace, "stages.compare.table")
    assert text.splitlines()[0].startswith("DEMO")
    assert text.splitlines()[-1] == "Report: reports/comparison.html"


def as_read(table: pd.DataFrame) -> list[dict[str, str]]:
    """The rows as `csv` reads them back."""
    return table.astype(object).where(table.notna(), "").astype(str).to_dict("records")


def test_the_printed_table_fits_a_terminal(table: pd.DataFrame) -> None:
    text = printed(
        as_read(table.assign(arch="a_very_long_architecture_name.of_timm", start="imagenet", data="real sample"))
    )
    assert max(map(len, text.splitlines())) <= 120
    assert "no_source: not run: no image of breakhis" in text


def test_a_missing_file_is_named_with_what_to_do(tmp_path: Path, workspace: Path) -> None:
    with pytest.raises(StageError, match=r"models/absent/recipe.json is missing; `dvc repro` makes it"):
        collect(["absent"], root=workspace)


def test_a_test_part_with_one_label_leaves_dashes_and_no_curve(workspace: Path, tmp_path: Path) -> None:
    found = collect(["baseline_cnn"], root=workspace)
    one = found.results[0]
    undefined = one.scores["metric"].isin(["auroc", "recall", "balanced_accuracy"])
    one.scores.loc[undefined, "value"] = None
    one.plots.update({plot: one.plots[plot][:0] for plot in ("roc", "pr")})
    table = comparison(found)
    assert metric_grids(table)[0].rows[0][4:6] == ["–", "–"]
    assert "ROC curve" not in rendered(found, table, drawn(found))
    assert len(models_grid(table).rows) == 1


def test_drawings_are_text_of_known_size_without_clock_or_image() -> None:
    counts = pd.DataFrame(
        {
            "actual": ["a", "a", "b", "b"],
            "predicted": ["a", "b"] * 2,
            "count": [3, 1, 0, 0],
            "share": [0.75, 0.25, None, None],
        }
    )
    drawn = confusion(counts, "title")
    assert drawn.startswith("<svg")
    assert "metadata" not in drawn
    assert "<image" not in drawn
    shares = {name: [0.5] for name in ("train_accuracy", "val_accuracy", "val_balanced_accuracy")}
    curves = pd.DataFrame({"epoch": [1], "train_loss": [0.5], "val_loss": [0.6], "val_auroc": [None], **shares})
    assert "kept: 1" in loss(curves, 1, "title")
    assert "val AUROC" in accuracy(curves, 1, "title")
