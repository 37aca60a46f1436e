"""Holds frames against suites with Great Expectations, and says in plain records what came of every rule."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.core.run_identifier import RunIdentifier
from great_expectations.data_context import AbstractDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.expectation import Expectation

SITE = "stroma"
RUN = RunIdentifier(run_name="validate", run_time=datetime(2000, 1, 1, tzinfo=UTC))
"""A fixed time: the pages are tracked, and a clock would change their bytes in every run."""
EVERY_ROW = {"result_format": "COMPLETE", "return_unexpected_index_query": False, "exclude_unexpected_values": True}


@dataclass(frozen=True)
class Outcome:
    """What came of one rule. `rows` are positions in the frame that break it, ascending; only for failed row rules."""

    suite: str
    rule: Expectation
    success: bool
    observed: Any
    unexpected: int | None
    checked: int | None
    rows: Sequence[int] = field(default=(), repr=False)

    @property
    def reason(self) -> str | None:
        """Why the quarantine holds rows that break this rule; None if it holds none."""
        return (self.rule.meta or {}).get("reason")

    @property
    def stops(self) -> bool:
        """The rule failed, and without it the pipeline must not go on."""
        return not self.success and self.rule.severity == "critical"


class Gate:
    """One Great Expectations context; it remembers what it checked, for the pages."""

    def __init__(self) -> None:
        self._context: AbstractDataContext = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        self._source = self._context.data_sources.add_pandas("stroma")

    def check(self, suite: str, frame: pd.DataFrame, rules: Sequence[Expectation]) -> list[Outcome]:
        """Hold every row of `frame` against every rule; the outcomes stand in the order of the rules.

        frame: index 0..n-1. Rules of one suite are told apart by their descriptions.
        """
        asset = self._source.add_dataframe_asset(suite)
        whole = asset.add_batch_definition_whole_dataframe("all rows")
        held = self._context.suites.add(gx.ExpectationSuite(name=suite, expectations=[_titled(rule) for rule in rules]))
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=suite, data=whole, suite=held)
        )
        batch = {"dataframe": frame[columns_of(frame, rules)]}
        result = definition.run(batch_parameters=batch, result_format="SUMMARY", run_id=RUN)
        came = {one.expectation_config.description: one for one in result.results}
        outcomes = [_outcome(suite, rule, came[_titled(rule).description]) for rule in rules]
        if any(outcome.unexpected for outcome in outcomes):
            asked = whole.get_batch(batch)
            outcomes = [_with_rows(outcome, asked) if outcome.unexpected else outcome for outcome in outcomes]
        return outcomes

    def build_pages(self, folder: Path) -> None:
        """Write the static site of everything that was checked into `folder`."""
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        site = {
            "class_name": "SiteBuilder",
            "store_backend": store,
            "site_index_builder": index,
            "show_how_to_buttons": False,
        }
        self._context.add_data_docs_site(SITE, site)
        self._context.build_data_docs(site_names=[SITE])


def _titled(rule: Expectation) -> Expectation:
    """The rule as the pages show it: they have no place for what its failure means."""
    reason = (rule.meta or {}).get("reason")
    means = f"else quarantined: {reason}" if reason else rule.severity.value
    return rule.copy(update={"description": f"{rule.description} [{means}]"})


def columns_of(frame: pd.DataFrame, rules: Sequence[Expectation]) -> list[str]:
    """The columns that rules ask about: Great Expectations hashes and copies whatever it is given.

    All of them, where a rule is about the table's columns.
    """
    asked: list[Any] = [rule.configuration.to_json_dict()["kwargs"] for rule in rules]
    if any("column_list" in kwargs for kwargs in asked):
        return list(frame.columns)
    named = set()
    while asked:
        for key, value in asked.pop().items():
            if isinstance(value, dict):
                asked.append(value)
            elif key in ("column", "column_A", "column_B", "name"):
                named.add(value)
    return [name for name in frame if name in named]


def _outcome(suite: str, rule: Expectation, came: Any) -> Outcome:
    faults = [info for info in _infos(came.exception_info) if info["raised_exception"]]
    if faults:
        observed = f"could not be checked: {faults[0]['exception_message'].splitlines()[0]}"
        return Outcome(suite, rule, False, observed, None, None)
    found = came.to_json_dict()["result"]
    unexpected, checked = found.get("unexpected_count"), found.get("element_count")
    return Outcome(suite, rule, bool(came.success), found.get("observed_value"), unexpected, checked)


def _with_rows(outcome: Outcome, batch: Any) -> Outcome:
    """Ask again which rows break a rule, all of them: asked of every rule at once, that would cost as much again."""
    found = batch.validate(outcome.rule, result_format=EVERY_ROW).result
    return replace(outcome, rows=sorted(found["unexpected_index_list"]))


def _infos(exception_info: dict[str, Any]) -> list[dict[str, Any]]:
    """One rule's exceptions; Great Expectations gives one record, or one under the name of each metric."""
    return [exception_info] if "raised_exception" in exception_info else list(exception_info.values())
