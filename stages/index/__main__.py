"""The door of index: `python -m stages.index PROTOCOL`."""

from pathlib import Path
from typing import Any

from stages.contracts.door import enter
from stages.contracts.sections import Params, section

VALIDATED = Path("data/validated.parquet")


def work(params: Params, name: str) -> str:
    """Build the index and the report of one protocol; say the sizes of the parts and whether a case is in two."""
    from stages.contracts.files import sha256_of, write_json
    from stages.contracts.index import index_path, read_assignment, write_index
    from stages.contracts.sections import Protocol
    from stages.contracts.tables import read_metadata, read_table
    from stages.index.params import IndexParams
    from stages.index.protocols import plan
    from stages.index.report import closing, metadata, split_report

    settings = section(params, "index", IndexParams)
    protocol = section({"protocol": name}, "protocol", Protocol)
    rows = read_table(VALIDATED)
    table = Path(settings.frozen) if settings.frozen and protocol == "case" else None
    kept = read_assignment(table) if table else {}
    planned = plan(protocol, rows, settings, kept)
    about = metadata(protocol, planned.rows, settings, read_metadata(VALIDATED))
    frozen: dict[str, Any] | None = None
    if table:
        absent = sorted(set(kept) - set(rows["case_id"]))
        frozen = {"table": str(table), "sha256": sha256_of(table), "cases": len(kept), "absent": absent}
    report = split_report(about, planned.rows, planned.findings, settings, frozen)
    write_index(planned.rows, about, index_path(protocol))
    write_json(report, Path("reports/split") / f"{protocol}.json")
    return closing(report)


if __name__ == "__main__":
    enter("index", work, argument="protocol")
