"""`python -m stages.compare`: one row a recipe or ensemble, as CSV, Markdown and a page; their figures and cards."""

from pathlib import Path
from typing import Any

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section


def work(params: Params) -> str:
    """Compare the recipes and ensembles of params.yaml; say how many were run and where the report lies."""
    from stages.compare.cards import card, write_cards
    from stages.compare.collect import collect
    from stages.compare.figures import figures, write_figures
    from stages.compare.markdown import written
    from stages.compare.page import rendered
    from stages.compare.rows import comparison
    from stages.compare.table import COMPARISON, PAGE
    from stages.contracts.files import write_text

    recipes = list(section(params, "recipes", dict[str, Any]))
    if not recipes:
        raise StageError("params.yaml: recipes is empty; name at least one to compare")
    findings = collect(recipes, list(section(params, "ensembles", dict[str, Any])))
    table = comparison(findings)
    write_text(table.to_csv(index=False, lineterminator="\n"), COMPARISON)
    write_text(written(findings, table), Path("reports/comparison.md"))
    drawn = {result.recipe: figures(result, findings.data) for result in findings.results}
    write_text(rendered(findings, table, drawn), PAGE)
    write_figures(drawn)
    names = {recipe: [figure.name for figure in shown] for recipe, shown in drawn.items()}
    write_cards({result.recipe: card(result, findings, names[result.recipe]) for result in findings.results})
    ran = sum(result.ran for result in findings.results if not result.is_ensemble)
    averaged = [result.ran for result in findings.results if result.is_ensemble]
    more = f", {sum(averaged)} of {len(averaged)} ensembles averaged" if averaged else ""
    return f"{ran} of {len(recipes)} recipes run{more} on {findings.data} data; report in {PAGE}"


if __name__ == "__main__":
    enter("compare", work)
