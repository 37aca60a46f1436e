"""Data Docs as files that are the same in every run and need no network."""

from pathlib import Path

from stages.contracts.files import appearing
from stages.validate.gate import Gate


def write_pages(gate: Gate, folder: Path) -> None:
    """Write the pages of what `gate` checked."""
    with appearing(folder) as part:
        gate.build_pages(part)
