"""Which machine a benchmark ran on, and where its table is filed under that name."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def cpu() -> str:
    """The CPU's model name, as Linux reads it."""
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else "unknown CPU"


def file_table(text: str, benchmark: str, scale: float = 1) -> None:
    """Print a benchmark's table and write it to benchmarks/results/<benchmark>-<cpu>[-scale<scale>].md."""
    print(text)
    slug = re.sub(r"[^a-z0-9]+", "-", cpu().lower()).strip("-")
    suffix = "" if scale == 1 else f"-scale{scale:g}"
    results = ROOT / "benchmarks/results"
    results.mkdir(exist_ok=True)
    (results / f"{benchmark}-{slug}{suffix}.md").write_text(text)
