"""`python -m stages.compare`: one row a recipe, as CSV, Markdown and a page."""

from pathlib import Path
from typing import Any

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section


def work(params: Params) -> str:
    """Compare the recipes of params.yaml; say how many were run and where the report lies."""
    from stages.compare.collect import collect
    from stages.compare.markdown import written
    from stages.compare.page import rendered
    from stages.compare.rows import comparison
    from stages.compare.table import COMPARISON, PAGE
    from stages.contracts.files import write_text

    recipes = list(section(params, "recipes", dict[str, Any]))
    if not recipes:
        raise StageError("params.yaml: recipes is empty; name at least one to compare")
    findings = collect(recipes)
    table = comparison(findings)
    write_text(table.to_csv(index=False, lineterminator="\n"), COMPARISON)
    write_text(written(findings, table), Path("reports/comparison.md"))
    write_text(rendered(findings, table), PAGE)
    ran = int((table["status"] == "ok").sum())
    return f"{ran} of {len(table)} recipes run on {findings.data} data; report in {PAGE}"


if __name__ == "__main__":
    enter("compare", work)
