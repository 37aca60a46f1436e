"""Ingest against bare decoding: `python -m benchmarks.ingest [FOLDER] [--scale 1.0] [--no-peer]`.

Times merge, validate and index as stage processes on archives of full size (benchmarks/fullscale.py makes them in
FOLDER) and beside them, in the same run on the same cores:

- bare: Pillow decodes the same PNG bytes and drops the pixels. One process per core, started before the clock; the
  bytes lie back to back in one uncompressed file; `Image.open(BytesIO(bytes)).load()`, nothing else. Its file and the
  archives are read once before the clock, so that both find the page cache warm.
- DVC's hashing of what merge writes (`dvc add` in an empty repository).
- the peer's way: unpack to loose files, `dvc add` the tree, list it as torchvision's ImageFolder does.

Prints a table and writes benchmarks/results/ingest-<cpu>.md. Peak memory is the sum of the resident sets of the process
and its children, sampled ten times a second: an upper bound, as shared pages count once for each.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import psutil
import yaml
from PIL import Image

from benchmarks import fullscale
from benchmarks.machine import ROOT, cpu, file_table
from stages.contracts.files import sha256_of

TARGET, MEMORY_MIB = 1.5, 2048


class Timing(NamedTuple):
    """One line of the table: seconds of wall time, and peak memory in MiB where it was watched."""

    what: str
    seconds: float
    parent_mib: float | None = None
    tree_mib: float | None = None


def main(folder: Path, scale: float, peer: bool) -> None:
    """Make what is missing, time everything, print the table and file it under the CPU's name."""
    archives = fullscale.make(folder, scale)
    cores = len(os.sched_getaffinity(0))
    bare = _bare(archives, folder / "bare.bin", cores)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        workspace = Path(name)
        _lay_out(workspace, archives)
        for archive in archives:  # into the page cache, where the bare bytes are too
            sha256_of(archive)
        stages = [
            _stage(workspace, words) for words in (["stages.merge"], ["stages.validate"], ["stages.index", "case"])
        ]
        hashing = _dvc_add(workspace, ["data/manifest.parquet", "data/pixels/idc.npy", "data/pixels/breakhis.npy"])
        beside = [Timing("DVC hashes merge's outputs", hashing)]
        if peer:
            beside += _peer(workspace, archives)
    text = _report(scale, cores, bare, stages, beside)
    file_table(text, "ingest", scale)


def _bare(archives: Sequence[Path], flat: Path, cores: int) -> Timing:
    spans = _flatten(archives, flat)
    chunks = [spans[start : start + 64] for start in range(0, len(spans), 64)]
    with ProcessPoolExecutor(cores, mp_context=get_context("fork")) as pool:
        list(pool.map(_decode, [flat] * cores, [spans[:1]] * cores))
        clock = time.monotonic()
        decoded = sum(pool.map(_decode, [flat] * len(chunks), chunks))
        seconds = time.monotonic() - clock
    return Timing(f"bare Pillow decoding of {decoded:,} images", seconds)


def _flatten(archives: Sequence[Path], flat: Path) -> list[tuple[int, int]]:
    """Every image's bytes once, back to back in the file `flat`; offset and size of each."""
    spans = []
    with flat.open("wb") as out:
        with zipfile.ZipFile(archives[0]) as idc:
            for info in idc.infolist():
                if not info.filename.startswith("IDC_regular"):
                    spans.append((out.tell(), out.write(idc.read(info))))
        with tarfile.open(archives[1], "r|gz") as breakhis:
            for info in breakhis:
                spans.append((out.tell(), out.write(breakhis.extractfile(info).read())))
    return spans


def _decode(flat: Path, spans: list[tuple[int, int]]) -> int:
    descriptor = os.open(flat, os.O_RDONLY)
    for offset, size in spans:
        Image.open(io.BytesIO(os.pread(descriptor, size, offset))).load()
    os.close(descriptor)
    return len(spans)


def _lay_out(workspace: Path, archives: Sequence[Path]) -> None:
    """params.yaml and data/raw as the download stage leaves them; counts as bounds, for archives may be small."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["profile"] = "local"
    params["profiles"]["local"]["validate"] = {
        "counts": "bounds",
        "idc": {"images": 10, "cases": 3},
        "breakhis": {"images": 10, "cases": 3},
    }
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    for source, archive in zip(("idc", "breakhis"), archives, strict=True):
        raw = workspace / "data/raw" / source
        raw.mkdir(parents=True)
        (raw / archive.name).symlink_to(archive.resolve())
        about = {"source": source, "kind": "given", "present": True, "file": archive.name, "url": None}
        about |= {"licence": None, "size": archive.stat().st_size, "sha256": sha256_of(archive), "reason": None}
        (raw / "source.json").write_text(json.dumps(about))


def _stage(workspace: Path, words: list[str]) -> Timing:
    """Run `python -m <words>` in the workspace and watch its memory. Ends the benchmark if the stage fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    clock = time.monotonic()
    process = psutil.Popen([sys.executable, "-m", *words], cwd=workspace, env=environment)
    parent = tree = 0
    while process.poll() is None:
        try:
            own = process.memory_info().rss
            parent, tree = max(parent, own), max(tree, own + sum(map(_resident, process.children(recursive=True))))
        except psutil.NoSuchProcess:
            break
        time.sleep(0.1)
    seconds = time.monotonic() - clock
    if process.wait() != 0:
        raise SystemExit(f"{' '.join(words)} failed")
    return Timing(" ".join(words), seconds, parent / 2**20, tree / 2**20)


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.NoSuchProcess:
        return 0


def _dvc_add(workspace: Path, paths: list[str]) -> float:
    """Seconds that DVC takes to hash and cache `paths` in a repository of its own."""
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    if not (workspace / ".dvc").exists():
        subprocess.run(["dvc", "init", "--no-scm", "-q"], cwd=workspace, env=environment, check=True)
    clock = time.monotonic()
    subprocess.run(["dvc", "add", "-q", *paths], cwd=workspace, env=environment, check=True)
    return time.monotonic() - clock


def _peer(workspace: Path, archives: Sequence[Path]) -> list[Timing]:
    loose = workspace / "loose"
    clock = time.monotonic()
    with zipfile.ZipFile(archives[0]) as idc:
        idc.extractall(loose / "idc")
    with tarfile.open(archives[1]) as breakhis:
        breakhis.extractall(loose / "breakhis", filter="data")
    unpack = Timing("peer: unpack to loose files", time.monotonic() - clock)
    add = Timing("peer: dvc add of the loose files", _dvc_add(workspace, ["loose"]))
    clock = time.monotonic()
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    subprocess.run(["dvc", "status", "-q"], cwd=workspace, env=environment, check=True)
    status = Timing("peer: dvc status, nothing changed", time.monotonic() - clock)
    clock = time.monotonic()
    sum(len(files) for folder in sorted(loose.iterdir()) for _, _, files in sorted(os.walk(folder)))
    scan = Timing("peer: ImageFolder's scan (decodes nothing)", time.monotonic() - clock)
    shutil.rmtree(loose)
    return [unpack, add, status, scan]


def _report(scale: float, cores: int, bare: Timing, stages: list[Timing], beside: list[Timing]) -> str:
    total = Timing("merge + validate + index", sum(stage.seconds for stage in stages))
    peak = max(stage.tree_mib or 0 for stage in stages)
    lines = [
        f"# Ingest on {cpu()}, {cores} cores, scale {scale:g}",
        "",
        "| what | seconds | x bare | peak MiB, process | peak MiB, with children |",
        "|---|---:|---:|---:|---:|",
    ]
    for line in [bare, *stages, total, *beside]:
        memory = [f"{value:,.0f}" if value is not None else "" for value in (line.parent_mib, line.tree_mib)]
        ratio = line.seconds / bare.seconds
        lines.append(f"| {line.what} | {line.seconds:,.1f} | {ratio:.2f} | {memory[0]} | {memory[1]} |")
    lines += [
        "",
        f"Wanted: merge + validate + index at most {TARGET} x bare, peak under {MEMORY_MIB:,} MiB. "
        f"Here {total.seconds / bare.seconds:.2f} x and {peak:,.0f} MiB.",
        "",
        *(__doc__ or "").splitlines()[2:],
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/tmp/stroma-fullscale"))
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--no-peer", action="store_true", help="leave out the peer's way, which takes minutes")
    options = parser.parse_args()
    main(options.folder, options.scale, not options.no_peer)
