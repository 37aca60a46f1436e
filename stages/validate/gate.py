"""Holds frames against suites with Great Expectations, and says in plain records what came of every rule."""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
        whole = self._source.add_dataframe_asset(suite).add_batch_definition_whole_dataframe("all rows")
        held = self._context.suites.add(gx.ExpectationSuite(name=suite, expectations=list(rules)))
        definition = self._context.validation_definitions.add(
            gx.ValidationDefinition(name=suite, data=whole, suite=held)
        )
        result = definition.run(batch_parameters={"dataframe": frame}, result_format="SUMMARY", run_id=RUN)
        came = {one.expectation_config.description: one for one in result.results}
        batch = whole.get_batch({"dataframe": frame})
        return [self._outcome(suite, rule, came[rule.description], batch) for rule in rules]

    def build_pages(self, folder: Path) -> None:
        """Write the static site of everything that was checked into `folder`."""
        store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
        index = {"class_name": "DefaultSiteIndexBuilder"}
        site = {"class_name": "SiteBuilder", "store_backend": store, "site_index_builder": index}
        self._context.add_data_docs_site(SITE, site)
        self._context.build_data_docs(site_names=[SITE])

    @staticmethod
    def _outcome(suite: str, rule: Expectation, came: Any, batch: Any) -> Outcome:
        """Rows are asked for only where a rule failed: listing them for every rule would cost as much again."""
        faults = [info for info in _infos(came.exception_info) if info["raised_exception"]]
        if faults:
            observed = f"could not be checked: {faults[0]['exception_message'].splitlines()[0]}"
            return Outcome(suite, rule, False, observed, None, None)
        found = came.to_json_dict()["result"]
        unexpected = found.get("unexpected_count")
        rows: list[int] = []
        if not came.success and unexpected:
            rows = sorted(batch.validate(rule, result_format=EVERY_ROW).result.get("unexpected_index_list", []))
        return Outcome(
            suite, rule, bool(came.success), found.get("observed_value"), unexpected, found.get("element_count"), rows
        )


def _infos(exception_info: dict[str, Any]) -> list[dict[str, Any]]:
    """One rule's exceptions; Great Expectations gives one record, or one under the name of each metric."""
    return [exception_info] if "raised_exception" in exception_info else list(exception_info.values())
