"""What a run leaves behind: a verdict for each stage, in `.stroma/last_run.json`, and as a table for people."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Verdict = Literal["ran", "restored", "unchanged", "failed", "skipped"]
LAST_RUN = Path(".stroma/last_run.json")


@dataclass(frozen=True)
class StageOutcome:
    """What became of one stage."""

    stage: str
    verdict: Verdict
    seconds: float
    bytes: int | None
    """Size of its outputs as dvc.lock has it; None where the stage failed, was skipped or never ran."""
    error: str | None = None
    """Its last lines, or why it was skipped."""


@dataclass(frozen=True)
class Summary:
    """What became of a run. `unchanged`: every stage was up to date."""

    run: str | None
    started: str
    finished: str
    seconds: float
    workers: int
    verdict: Literal["ok", "failed", "unchanged"]
    stages: tuple[StageOutcome, ...]

    def write(self, workspace: Path) -> None:
        """Leave it in the workspace, whole or not at all."""
        path = workspace / LAST_RUN
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        part.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        part.replace(path)

    def table(self) -> list[dict[str, Any]]:
        """A row for each stage, for the table artifact. The UI reads cells as markdown, hence the backticks."""
        return [
            {
                "stage": one.stage,
                "verdict": one.verdict,
                "seconds": one.seconds,
                "bytes": one.bytes,
                "error": f"`{last_line(one)}`" if one.error else None,
            }
            for one in self.stages
        ]

    def failures(self) -> list[StageOutcome]:
        """The stages that failed, in the order of the DAG."""
        return [one for one in self.stages if one.verdict == "failed"]


def last_line(outcome: StageOutcome) -> str:
    """The line that says most: the last one that is not DVC's own account of it."""
    lines = [line for line in (outcome.error or "").splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith("ERROR: failed to reproduce")]
    return (own or lines or ["it said nothing"])[-1].strip()


def verdict_of(stages: tuple[StageOutcome, ...]) -> Literal["ok", "failed", "unchanged"]:
    """The verdict of a run with these stages; one that was skipped was not brought up to date."""
    verdicts = {one.verdict for one in stages}
    if verdicts & {"failed", "skipped"}:
        return "failed"
    return "ok" if verdicts & {"ran", "restored"} else "unchanged"


def rendered(summary: Summary) -> str:
    """The summary as text: a line for each stage, then the counts."""
    width = max((len(one.stage) for one in summary.stages), default=0)
    lines = [
        f"{one.stage:<{width}}  {one.verdict:<9} {one.seconds:>8.1f} s  {_size(one.bytes):>10}"
        for one in summary.stages
    ]
    counts = {one.verdict: 0 for one in summary.stages}
    for one in summary.stages:
        counts[one.verdict] += 1
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items()) or "no stages"
    return "\n".join([*lines, f"{summary.verdict}: {said} in {summary.seconds:,.1f} s, {summary.workers} at once"])


def _size(count: int | None) -> str:
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"
