"""One pass over both archives: stream members, decode them on all cores, write pixel stores and manifest."""

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.files import appearing, read_json
from stages.contracts.manifest import SCHEMA_VERSION, SOURCES, write_manifest
from stages.contracts.pixels import PixelWriter
from stages.contracts.progress import Progress
from stages.merge import breakhis, idc
from stages.merge.archives import members, read_stored
from stages.merge.decode import Decoded, Frame, Job
from stages.merge.member import DamagedError, Stored
from stages.merge.names import Name
from stages.merge.pool import CHUNK_BYTES, Decoders
from stages.merge.sheet import Sheet, Tally, tally

GRAMMARS: Mapping[str, tuple[Callable[[str], Name], str]] = {
    "idc": (idc.parse, idc.LAYOUT),
    "breakhis": (breakhis.parse, breakhis.LAYOUT),
}


def ingest(raw: Mapping[str, Path], frames: Mapping[str, Frame], out: Path, decoders: Decoders) -> list[Tally]:
    """Turn data/raw/<source>/ into out/manifest.parquet and out/pixels/<source>.npy; all appear or none.

    raw: folder of each source, with its source.json and archive. frames: the size of each source's stored pixels.
    Returns the counts of each present source. Raises StageError if no source is present, or an archive is broken,
    empty, another publisher's, or without one readable image; OSError if the disk is full.
    """
    sources = {source: read_json(raw[source] / "source.json") for source in SOURCES}
    if not any(about["present"] for about in sources.values()):
        raise StageError(
            "no archive given: set profiles.local.idc or profiles.local.breakhis in params.yaml to the path of one"
        )
    tables: dict[str, pd.DataFrame] = {}
    with appearing(out / "manifest.parquet") as manifest, ExitStack() as stores:
        for source, about in sources.items():
            part = stores.enter_context(appearing(out / "pixels" / f"{source}.npy"))
            with PixelWriter(part, frames[source].height, frames[source].width) as writer:
                if about["present"]:
                    archive = raw[source] / about["file"]
                    sheet = _gather(source, archive, frames[source], writer, decoders)
                    tables[source] = sheet.frame(about["sha256"])
                    _check(source, tables[source], archive)
        metadata = {"schema_version": SCHEMA_VERSION, "sources": sources}
        write_manifest(pd.concat(tables.values(), ignore_index=True), metadata, manifest)
    return [tally(source, table) for source, table in tables.items()]


def _gather(source: str, archive: Path, frame: Frame, writer: PixelWriter, decoders: Decoders) -> Sheet:
    """Decode an archive into the pixel store; the rows of its members."""
    if not archive.is_file():
        raise StageError(f"{archive} leads to no file: was the archive moved? Run `dvc repro download@{source}` again")
    sheet = Sheet(source, GRAMMARS[source][0])
    with Progress(f"merge {source}", archive.stat().st_size, "B") as progress:
        for rows, decoded, pixels in _decoded(archive, sheet, frame, decoders, progress):
            writer.append(pixels)
            sheet.settle(rows, decoded)
            progress.note = f"{len(sheet):,} images"
    return sheet


def _decoded(
    archive: Path, sheet: Sheet, frame: Frame, decoders: Decoders, progress: Progress
) -> Iterator[tuple[list[int], Decoded, np.ndarray]]:
    """Rows, outcomes and pixels of each chunk in archive order, as many decoding as there are slots.

    The pixels lie in shared memory and are overwritten once the next chunk is asked for.
    """
    free = deque(range(decoders.slots))
    waiting: deque[tuple[int, list[int], Future[Decoded]]] = deque()

    def next_done() -> tuple[int, tuple[list[int], Decoded, np.ndarray]]:
        slot, rows, future = waiting.popleft()
        decoded = future.result()
        return slot, (rows, decoded, decoders.pixels(slot, len(decoded.measures), frame))

    try:
        for slot, rows, jobs in _chunks(archive, sheet, frame, decoders, progress, free=free):
            waiting.append((slot, rows, decoders.submit(slot, archive, jobs, frame)))
            if not free:
                done, result = next_done()
                yield result
                free.append(done)
        while waiting:
            yield next_done()[1]
    except BrokenProcessPool:
        raise StageError(
            f"a process that decodes {archive} was killed, most likely for want of memory; free some and run again"
        ) from None


def _chunks(
    archive: Path, sheet: Sheet, frame: Frame, decoders: Decoders, progress: Progress, *, free: deque[int]
) -> Iterator[tuple[int, list[int], list[Job]]]:
    """Enter every member into the sheet; yield its jobs in chunks: slot, rows of the sheet, jobs.

    Takes each slot from `free`. Streamed images are put into the slot's shared memory where they fit.
    """
    most = max(1, CHUNK_BYTES // (frame.height * frame.width * 3))
    rows: list[int] = []
    jobs: list[Job] = []
    size = 0
    with _reader(archive) as read:
        for member in members(archive):
            job = sheet.add(member, read)
            if job is None:
                continue
            if jobs and (size + member.size > CHUNK_BYTES or len(jobs) >= most):
                yield free.popleft(), rows, jobs
                progress.add(max(0, member.upto - progress.done))
                rows, jobs, size = [], [], 0
            rows.append(len(sheet) - 1)
            jobs.append(_shared(job, decoders, free[0], size))
            size += member.size
    if jobs:
        yield free.popleft(), rows, jobs


@contextmanager
def _reader(archive: Path) -> Iterator[Callable[[Stored], bytes]]:
    """A function that reads located members of the archive."""
    descriptor = os.open(archive, os.O_RDONLY)

    def read(stored: Stored) -> bytes:
        try:
            return read_stored(descriptor, stored)
        except DamagedError:
            return b""  # differs from the copy that is kept, as it should

    try:
        yield read
    finally:
        os.close(descriptor)


def _shared(job: Job, decoders: Decoders, slot: int, at: int) -> Job:
    """The job with its bytes, if it carries any and they fit, put into the slot's shared memory at `at`."""
    data = job.content
    if isinstance(data, Stored | tuple) or at + len(data) > CHUNK_BYTES:
        return job
    decoders.images(slot)[at : at + len(data)] = data
    return job._replace(content=(at, at + len(data)))


def _check(source: str, table: pd.DataFrame, archive: Path) -> None:
    """Refuse an archive that holds nothing to go on with."""
    layout = GRAMMARS[source][1]
    if table.empty:
        raise StageError(f"{archive} holds no files; expected images such as {layout}")
    if table["case_id"].isna().all():
        raise StageError(
            f"{archive}: none of its {len(table):,} files is named as {source} names its images. It holds "
            f"{table['member'].iloc[0]}, expected {layout}. Is it the other publisher's archive?"
        )
    if table["pixel_row"].isna().all():
        worst = table[table["case_id"].notna()].iloc[0]
        raise StageError(
            f"{archive}: none of its {len(table):,} files is a readable image, for example "
            f"{worst['member']}: {worst['decode_error']}"
        )
