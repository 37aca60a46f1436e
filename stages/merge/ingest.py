"""One pass over both archives: stream members, decode them on all cores, write pixel stores and manifest."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.files import appearing, read_json
from stages.contracts.manifest import SCHEMA_VERSION, SOURCES, write_manifest
from stages.contracts.pixels import PixelWriter
from stages.contracts.progress import Progress
from stages.merge import breakhis, idc
from stages.merge.archives import DamagedError, Stored, members, read_stored
from stages.merge.decode import Decoded, Frame, Job, decode_chunk
from stages.merge.names import Name
from stages.merge.sheet import Sheet, Tally

CHUNK_BYTES = 4 << 20
"""What one task reads, and what it gives back, at most: about 550 patches or 8 BreakHis images."""

GRAMMARS: Mapping[str, tuple[Callable[[str], Name], str]] = {
    "idc": (idc.parse, idc.LAYOUT),
    "breakhis": (breakhis.parse, breakhis.LAYOUT),
}


def ingest(raw: Mapping[str, Path], stores: Mapping[str, tuple[int, int]], out: Path, pool: Executor) -> list[Tally]:
    """Turn data/raw/<source>/ into out/manifest.parquet and out/pixels/<source>.npy; all appear or none.

    raw: folder of each source, with its source.json and archive. stores: height and width of each source's pixels.
    Returns the counts of each present source. Raises StageError if no source is present, or an archive is broken,
    empty, another publisher's, or without one readable image; OSError if the disk is full.
    """
    sources = {source: read_json(raw[source] / "source.json") for source in SOURCES}
    if not any(about["present"] for about in sources.values()):
        raise StageError(
            "no archive given: set profiles.local.idc or profiles.local.breakhis in params.yaml to the path of one"
        )
    frames: list[pd.DataFrame] = []
    tallies: list[Tally] = []
    with appearing(out / "manifest.parquet") as manifest, ExitStack() as stack:
        for source, about in sources.items():
            part = stack.enter_context(appearing(out / "pixels" / f"{source}.npy"))
            height, width = stores[source]
            with PixelWriter(part, height, width) as writer:
                if about["present"]:
                    sheet = _ingest_source(source, raw[source] / about["file"], writer, pool)
                    frames.append(sheet.frame(about["sha256"]))
                    tallies.append(sheet.tally())
        metadata = {"schema_version": SCHEMA_VERSION, "sources": sources}
        write_manifest(pd.concat(frames, ignore_index=True), metadata, manifest)
    return tallies


def _ingest_source(source: str, archive: Path, writer: PixelWriter, pool: Executor) -> Sheet:
    if not archive.is_file():
        raise StageError(f"{archive} leads to no file: was the archive moved? Run `dvc repro download@{source}` again")
    parse, layout = GRAMMARS[source]
    sheet = Sheet(source, parse)
    height, width, _ = writer.shape
    frame = Frame(height, width, reduces=source == "breakhis")
    with Progress(f"merge {source}", archive.stat().st_size, "B") as progress:
        for indices, decoded in _decoded(_chunks(archive, sheet, frame, progress), archive, frame, pool):
            writer.append(decoded.pixels)
            sheet.settle(indices, decoded)
            progress.note = f"{len(sheet):,} images"
    _check(sheet, archive, layout)
    return sheet


def _chunks(archive: Path, sheet: Sheet, frame: Frame, progress: Progress) -> Iterator[tuple[list[int], list[Job]]]:
    """Enter every member into the sheet; yield its jobs in chunks, with their rows of the sheet."""
    most = max(1, CHUNK_BYTES // (frame.height * frame.width * 3))
    indices: list[int] = []
    jobs: list[Job] = []
    size = 0
    descriptor = os.open(archive, os.O_RDONLY)

    def read(stored: Stored) -> bytes:
        try:
            return read_stored(descriptor, stored)
        except DamagedError:
            return b""  # differs from the copy that is kept, as it should

    try:
        for member in members(archive):
            job = sheet.add(member, read)
            if job is None:
                continue
            indices.append(len(sheet) - 1)
            jobs.append(job)
            size += member.size
            if size >= CHUNK_BYTES or len(jobs) >= most:
                yield indices, jobs
                progress.add(max(0, member.upto - progress.done))
                indices, jobs, size = [], [], 0
        if jobs:
            yield indices, jobs
    finally:
        os.close(descriptor)


def _decoded(
    chunks: Iterator[tuple[list[int], list[Job]]], archive: Path, frame: Frame, pool: Executor
) -> Iterator[tuple[list[int], Decoded]]:
    """Decode chunks on the pool, in their order, a bounded number of them in flight."""
    ahead = 2 * len(os.sched_getaffinity(0)) + 2
    waiting: deque[tuple[list[int], Future[Any]]] = deque()
    try:
        for indices, jobs in chunks:
            waiting.append((indices, pool.submit(decode_chunk, archive, jobs, frame)))
            if len(waiting) >= ahead:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    except BrokenProcessPool:
        raise StageError(
            f"a process that decodes {archive} was killed, most likely for want of memory; free some and run again"
        ) from None
    finally:
        for _, future in waiting:
            future.cancel()


def _check(sheet: Sheet, archive: Path, layout: str) -> None:
    if not len(sheet):
        raise StageError(f"{archive} holds no files; expected images such as {layout}")
    if not sheet.matched:
        raise StageError(
            f"{archive}: none of its {len(sheet):,} files is named as {sheet.source} names its images. "
            f"It holds {sheet.example()}, expected {layout}. Is it the other publisher's archive?"
        )
    if not sheet.decoded:
        raise StageError(
            f"{archive}: none of its {len(sheet):,} files is a readable image, for example {sheet.first_error()}"
        )
