"""The flow against plain `dvc repro`: `python -m benchmarks.flow`.

Two questions. How much faster are independent one-thread stages on two workers? And what does a DAG in which nothing
changed cost beyond one `dvc status`? The stages are one-thread CPU work of a fixed amount, measured to take some 16 s
when alone; stages of less than a second run slower side by side than in a row, because DVC's start takes half of one.

Prints a table and writes benchmarks/results/flow-<cpu>.md.
"""

import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.machine import ROOT, cpu, file_table
from flows.environment import DEFAULTS, of_stage

STAGES, STAGE_S, WORKERS, SPEEDUP = 6, 16.0, 2, 1.6
UNCHANGED, BEYOND_S = 50, 2.0
WORK = "import hashlib, pathlib; hashlib.pbkdf2_hmac('sha256', b'', b'', {rounds}); pathlib.Path('{out}').touch()"


def main() -> None:
    """Measure both, print the table and file it under the CPU's name."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(DEFAULTS, PREFECT_HOME=name)  # before Prefect is imported
        from prefect.server.api.server import SubprocessASGIServer

        with SubprocessASGIServer() as server:
            os.environ["PREFECT_API_URL"] = server.api_url
            plain, parallel = _working(folder)
            status, unchanged = _unchanged(folder)
    beyond = unchanged - status
    text = "\n".join(
        [
            f"# The flow, on {cpu()}, {os.cpu_count()} cores",
            "",
            f"| {STAGES} independent one-thread stages of {STAGE_S:g} s | seconds |",
            "|---|---:|",
            f"| `dvc repro` | {plain:,.1f} |",
            f"| `stroma repro --workers {WORKERS}` | {parallel:,.1f} |",
            f"| ratio (wanted: at least {SPEEDUP:g}) | {plain / parallel:.2f} |",
            "",
            f"| {UNCHANGED} stages, nothing changed (median of 3) | seconds |",
            "|---|---:|",
            f"| `dvc status` | {status:.2f} |",
            f"| `stroma repro` | {unchanged:.2f} |",
            f"| beyond (wanted: at most {BEYOND_S:g}) | {beyond:.2f} |",
            "",
            "A Prefect server was running before; imports and start-up of both commands are in their times.",
            "",
        ]
    )
    file_table(text, "flow")


def _working(folder: Path) -> tuple[float, float]:
    """Seconds of plain DVC and of the flow for the same stages, each in a fresh workspace."""
    rounds = _rounds(STAGE_S)
    stages = {
        f"work{number}": {
            "cmd": f'{sys.executable} -c "{WORK.format(rounds=rounds, out=f"out{number}")}"',
            "deps": ["in"],
            "outs": [f"out{number}"],
        }
        for number in range(STAGES)
    }
    plain = _timed(_workspace(folder / "plain", stages), "dvc", "repro", "-q")
    parallel = _timed(_workspace(folder / "parallel", stages), "flows", "repro", "--workers", str(WORKERS))
    return plain, parallel


def _rounds(seconds: float) -> int:
    """How many rounds of a one-thread hash take so long on this machine."""
    probe, clock = 2_000_000, time.perf_counter()
    hashlib.pbkdf2_hmac("sha256", b"", b"", probe)
    return int(probe * seconds / (time.perf_counter() - clock))


def _unchanged(folder: Path) -> tuple[float, float]:
    """Seconds of `dvc status` and of the flow on a DAG of ten chains of five stages that are up to date."""
    stages = {
        f"s{number}": {
            "cmd": f"cp {source} o{number}",
            "deps": [source],
            "outs": [f"o{number}"],
        }
        for number in range(UNCHANGED)
        for source in ["in" if number % 5 == 0 else f"o{number - 1}"]
    }
    workspace = _workspace(folder / "unchanged", stages)
    _timed(workspace, "dvc", "repro", "-q")
    status = [_timed(workspace, "dvc", "status", "-q") for _ in range(3)]
    flow = [_timed(workspace, "flows", "repro") for _ in range(3)]
    return statistics.median(status), statistics.median(flow)


def _workspace(folder: Path, stages: dict[str, object]) -> Path:
    """A DVC repository with these stages."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n    check_update = false\n")
    (folder / "in").write_text("in\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def _timed(workspace: Path, module: str, *words: str) -> float:
    clock = time.perf_counter()
    subprocess.run(
        [sys.executable, "-P", "-m", module, *words],
        cwd=workspace,
        env={**of_stage(), "PYTHONPATH": str(ROOT)},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - clock


if __name__ == "__main__":
    main()
