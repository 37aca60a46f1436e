"""What the UI shows of a run besides its tasks: progress, verdicts, the tables of the reports, what the metrics did."""

import csv
import json
import os
import subprocess
import time
from collections.abc import Callable
from logging import Logger, LoggerAdapter
from pathlib import Path
from typing import Any

import httpx
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from flows.errors import FlowError
from flows.graph import opened
from flows.summary import Summary

REPORT_URL = "STROMA_REPORT_URL"
"""Variable that names where reports/comparison.html is served. A page of the UI cannot link to a file."""
PROGRESS_EVERY_S = 1.0
PROMOTED = ("champion-*#prod#*", "champion-*@v*")
"""Tags of promoted and registered models, as GTO writes them. The first that finds one says what is in production."""


class Board:
    """Tells the server about one run. After the first request that finds no server it keeps silent: `is_away`."""

    def __init__(self, total: int, logger: "Logger | LoggerAdapter[Any]") -> None:
        self.total, self.logger = total, logger
        self.is_away = False
        self._spoke = time.monotonic()
        self._progress = self._tell(lambda: create_progress_artifact(0.0, key="progress", description="stages done"))

    def progress(self, done: int) -> None:
        """Show how many stages are done; at most once a second, and at the end."""
        if done < self.total and time.monotonic() - self._spoke < PROGRESS_EVERY_S:
            return
        self._spoke = time.monotonic()
        if self._progress is not None:
            self._tell(lambda: update_progress_artifact(self._progress, progress=100.0 * done / self.total))

    def publish(self, summary: Summary, workspace: Path) -> None:
        """Show the verdicts; the tables and the report of the workspace too, unless nothing ran and they are known."""
        self._tell(lambda: create_table_artifact(summary.table(), key="verdicts", description=_headline(summary)))
        if summary.verdict == "unchanged":
            return
        for key, read in (("comparison", comparison_rows), ("validation", validation_rows)):
            if rows := read(workspace):
                self._tell(lambda key=key, rows=rows: create_table_artifact(rows, key=key))
        try:
            text = metrics_diff(workspace)
        except FlowError as error:
            text = f"The metrics could not be compared: {error}"
        self._tell(lambda: create_markdown_artifact(text, key="metrics-diff"))
        self._report(workspace)

    def _report(self, workspace: Path) -> None:
        text, url = report_summary(workspace), os.environ.get(REPORT_URL)
        if url and text:
            self._tell(lambda: create_link_artifact(url, link_text="comparison.html", key="report"))
        elif text:
            self._tell(lambda: create_markdown_artifact(text, key="report"))

    def _tell(self, send: Callable[[], Any]) -> Any:
        """Send one thing; a run is not worth less because nobody could be told of it."""
        if self.is_away:
            return None
        try:
            return send()
        except httpx.TransportError as error:
            self.is_away = True
            self.logger.warning(
                "the Prefect server went away (%s): what runs is finished, nothing more is started",
                type(error).__name__,
            )
        except httpx.HTTPStatusError as error:
            self.logger.warning("the Prefect server refused an artifact: %s", error)
        return None


def _headline(summary: Summary) -> str:
    return f"{summary.verdict}: {len(summary.stages)} stages in {summary.seconds:,.1f} s, {summary.workers} at once"


def comparison_rows(workspace: Path) -> list[dict[str, Any]]:
    """The comparison table, a row a recipe; empty where there is none yet."""
    path = workspace / "reports/comparison.csv"
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def validation_rows(workspace: Path) -> list[dict[str, Any]]:
    """The rules that the data was held against, a row each; empty where there is no report yet."""
    path = workspace / "reports/validation.json"
    if not path.exists():
        return []
    rules = json.loads(path.read_text(encoding="utf-8")).get("expectations", [])
    return [{key: value if _is_plain(value) else json.dumps(value) for key, value in rule.items()} for rule in rules]


def _is_plain(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float | bool)


def report_summary(workspace: Path) -> str | None:
    """The report as markdown, with the path where its page lies; None where there is none yet."""
    path = workspace / "reports/comparison.md"
    if not path.exists():
        return None
    page = path.with_suffix(".html")
    return f"The full report is the file `{page}` (set {REPORT_URL} to link it).\n\n{path.read_text(encoding='utf-8')}"


def metrics_diff(workspace: Path) -> str:
    """`dvc metrics diff` against the last promoted run as markdown; against HEAD where none was promoted."""
    base = last_promoted(workspace)
    against = f"the last promoted run, `{base}`" if base else "HEAD (no model was promoted yet)"
    with opened(workspace) as repo:
        found = repo.metrics.diff(a_rev=base or "HEAD").get("diff", {})
    rows = [
        f"| {path} | {metric} | {_cell(change, 'old')} | {_cell(change, 'new')} | {_cell(change, 'diff')} |"
        for path, metrics in sorted(found.items())
        for metric, change in sorted(metrics.items())
    ]
    if not rows:
        return f"Metrics equal those of {against}."
    heading = ["| path | metric | then | now | change |", "|---|---|---:|---:|---:|"]
    return "\n".join([f"Metrics against {against}.", "", *heading, *rows])


def _cell(change: dict[str, Any], key: str) -> str:
    value = change.get(key)
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def last_promoted(workspace: Path) -> str | None:
    """The newest tag of a promoted model, else of a registered one, else None."""
    for pattern in PROMOTED:
        tags = subprocess.run(
            ["git", "tag", "--list", "--sort=-creatordate", pattern],
            cwd=workspace,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout.split()
        if tags:
            return tags[0]
    return None
