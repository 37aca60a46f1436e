"""A `dvc repro` with nothing to do, at full scale: `python -m benchmarks.noop [FOLDER] [--scale 1.0]`.

Runs the whole DAG once on archives of full size (benchmarks/fullscale.py makes them in FOLDER), in a fresh copy of this
repository, with one small recipe so that training does not take the day; then times `dvc repro` three times. How long
a no-op takes depends on the number and size of the tracked files, not on how good the models are.

Prints a table and writes benchmarks/results/noop-<cpu>.md.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks import fullscale
from benchmarks.machine import ROOT, cpu, file_table

TARGET_S = 3.0
ENVIRONMENT = {**os.environ, "DVC_NO_ANALYTICS": "1"}
RECIPE = {
    "arch": "baseline_cnn",
    "sources": ["idc", "breakhis"],
    "task": "binary",
    "protocol": "case",
    "image_size": 8,
    "start": "weights/random",
    "values": "params.yaml",
    "batch_size": 512,
    "lr": 0.001,
    "epochs": 1,
}


def main(folder: Path, scale: float) -> None:
    """Make what is missing, run once, time the no-op, print the table and file it under the CPU's name."""
    idc, breakhis = fullscale.make(folder, scale)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        workspace = Path(name)
        _copy_repository(workspace)
        _configure(workspace / "params.yaml", idc, breakhis)
        first = _repro(workspace)
        again = [_repro(workspace) for _ in range(3)]
        tracked = sum(path.stat().st_size for path in (workspace / "data").rglob("*") if path.is_file())
    text = "\n".join(
        [
            f"# Nothing to do, at scale {scale:g}, on {cpu()}",
            "",
            "| what | seconds |",
            "|---|---:|",
            f"| first `dvc repro`, every stage, one small recipe | {first:,.1f} |",
            f"| `dvc repro` again, nothing changed (median of 3) | {statistics.median(again):.2f} |",
            "",
            f"{tracked / 2**30:.1f} GiB under data/, archives included. Wanted: at most {TARGET_S:g} s. "
            "The peer's loose files need the `dvc status` of the ingest table for the same answer.",
            "",
        ]
    )
    file_table(text, "noop", scale)


def _copy_repository(workspace: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (workspace / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, workspace / name)
    (workspace / "dvc.lock").unlink(missing_ok=True)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=workspace, check=True)


def _configure(path: Path, idc: Path, breakhis: Path) -> None:
    params = yaml.safe_load(path.read_text())
    params["profile"] = "local"
    params["profiles"]["local"] |= {"idc": str(idc.resolve()), "breakhis": str(breakhis.resolve())}
    params["recipes"] = {"small": RECIPE}
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def _repro(workspace: Path) -> float:
    clock = time.monotonic()
    subprocess.run(["dvc", "repro", "-q"], cwd=workspace, env=ENVIRONMENT, check=True)
    return time.monotonic() - clock


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/tmp/stroma-fullscale"))
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    main(options.folder, options.scale)
