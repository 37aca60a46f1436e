"""`python -m stages.validate`: hold the manifest against what must be true; bad rows go to quarantine."""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.files import remove, write_json
from stages.contracts.manifest import write_manifest, write_quarantine
from stages.contracts.sections import Params, section
from stages.contracts.tables import read_metadata, read_table
from stages.validate.params import ProfileCounts, ValidateParams

MANIFEST, VALIDATED, QUARANTINE = (Path(f"data/{name}.parquet") for name in ("manifest", "validated", "quarantine"))
REPORTS, FAILED = Path("reports"), Path(".stroma/failed/validate")
"""A failed stage leaves no output, but the person who must act needs its report: it goes to FAILED, untracked."""


def work(params: Params) -> str:
    """Check the manifest; write the rows that go on, those held back, the report and its pages."""
    from stages.validate.environment import settle

    settle()  # before the import of Great Expectations, which takes seconds and so happens only here
    from stages.validate.examine import examine
    from stages.validate.gate import Gate
    from stages.validate.pages import write_pages
    from stages.validate.report import failed, told

    limits = section(params, "validate", ValidateParams)
    key = f"profiles.{section(params, 'profile', str)}.validate"
    bounds = section(params, key, ProfileCounts).at_least(key)
    manifest, metadata = read_table(MANIFEST), read_metadata(MANIFEST)
    for path in (VALIDATED, QUARANTINE, REPORTS / "validation.json", REPORTS / "data_docs", FAILED):
        remove(path)
    gate = Gate()
    found = examine(gate, manifest, metadata["sources"], limits, bounds)
    place = FAILED if found.stopped else REPORTS
    report = found.report()
    write_json(report, place / "validation.json")
    write_pages(gate, place / "data_docs")
    if found.validated is None or found.quarantined is None or found.stopped:
        raise StageError(failed(found.outcomes, found.frames, report["rows"], FAILED))
    write_manifest(found.validated, {**metadata, "data": found.data}, VALIDATED)
    write_quarantine(found.quarantined, {**metadata, "data": found.data}, QUARANTINE)
    return told(report["rows"])


if __name__ == "__main__":
    enter("validate", work)
