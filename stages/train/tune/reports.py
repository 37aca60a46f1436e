"""What a search leaves: reports/tune/<recipe>.json, which train reads, .csv with all trials, a folder of figures."""

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.contracts.files import appearing, write_json, write_text

if TYPE_CHECKING:
    from stages.train.tune.search import Sought

FOLDER = Path("reports/tune")
COLUMNS = ("round", "trial", "state", "value", "epochs")


def write_reports(report: dict[str, Any], done: "list[Sought]", name: str) -> None:
    """Write all three for the recipe `name`; the file that train reads comes last."""
    figures = {}
    if done:
        from stages.train.tune.drawings import drawn

        figures = {
            f"{number}-{kind}.svg": svg
            for number, sought in enumerate(done, start=1)
            for kind, svg in drawn(sought, name, report["select"], report["profile"]).items()
        }
    with appearing(FOLDER / name) as part:
        part.mkdir()
        for file, svg in figures.items():
            (part / file).write_text(svg, encoding="utf-8")
    write_text(_table(done), FOLDER / f"{name}.csv")
    write_json(report, FOLDER / f"{name}.json")


def _table(done: "list[Sought]") -> str:
    """A row a trial; a column for each value that was searched, empty where a round left it alone."""
    searched = list(dict.fromkeys(axis for sought in done for axis in sought.round.space))
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*COLUMNS, *searched])
    for number, sought in enumerate(done, start=1):
        for place, trial in enumerate(sought.trials, start=1):
            value = "" if trial.value is None else f"{trial.value:.6g}"
            points = [trial.point.get(axis, "") for axis in searched]
            table.writerow([number, place, trial.state, value, trial.epochs, *points])
    return text.getvalue()
