"""The processes that decode, and the memory they share with the one that reads and writes.

Images go out and pixels come back through shared memory: as pickles through the pool's pipes they cost a quarter of the
time that decoding itself takes.
"""

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from stages.merge.decode import Decoded, Frame, Job, decode_chunk

CHUNK_BYTES = 2 << 20
"""What one task reads, and what it gives back, at most: about 280 patches or 4 BreakHis images."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_KEPT_BYTES = 32 << 20

_memory: mmap.mmap
"""The shared memory, in the decoding processes."""


class Decoders:
    """`workers` decoding processes (None: one per core of this process's affinity mask) and a slot for each task ahead.

    A slot is shared memory: CHUNK_BYTES of images, then the pixels made of them, at least one of `image_bytes`. What
    comes out does not depend on the number of workers. They are forked at once, while the process has no threads.
    """

    def __init__(self, image_bytes: int, workers: int | None = None) -> None:
        workers = workers or len(os.sched_getaffinity(0))
        _keep_freed_memory()
        self.slots = workers + 3  # one being filled, one being written, one to spare
        self._size = CHUNK_BYTES + max(CHUNK_BYTES, image_bytes)
        self._shared = mmap.mmap(-1, self.slots * self._size)
        self._executor = ProcessPoolExecutor(
            max_workers=workers,
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(os.getpid(), self._shared),
        )
        self._executor.submit(os.getpid).result()

    def images(self, slot: int) -> memoryview:
        """The CHUNK_BYTES of a slot that take the images of a task."""
        start = slot * self._size
        return memoryview(self._shared)[start : start + CHUNK_BYTES]

    def pixels(self, slot: int, count: int, frame: Frame) -> np.ndarray:
        """The first `count` decoded images of a slot, uint8 (count, height, width, 3)."""
        return _pixels(self._shared, slot * self._size, count, frame)

    def submit(self, slot: int, archive: Path, jobs: Sequence[Job], frame: Frame) -> Future[Decoded]:
        """Have a slot's task done: jobs with `content` None of a place in its images, or located in the archive."""
        return self._executor.submit(_decode, slot * self._size, archive, jobs, frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(cancel_futures=True)


def _pixels(memory: mmap.mmap, start: int, count: int, frame: Frame) -> np.ndarray:
    shape = (count, frame.height, frame.width, 3)
    return np.frombuffer(memory, np.uint8, count * frame.height * frame.width * 3, start + CHUNK_BYTES).reshape(shape)


def _decode(start: int, archive: Path, jobs: Sequence[Job], frame: Frame) -> Decoded:
    images = memoryview(_memory)[start : start + CHUNK_BYTES]
    return decode_chunk(archive, jobs, frame, images, _pixels(_memory, start, len(jobs), frame))


def _begin(parent: int, memory: mmap.mmap) -> None:
    """End with the parent even if it is killed, and leave Ctrl-C to it."""
    global _memory  # noqa: PLW0603 - what a forked process inherits has no other way in
    _memory = memory
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl could see it
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _keep_freed_memory() -> None:
    """Have glibc keep what is freed instead of giving every megabyte back to the kernel and faulting it in again.

    That alone takes as long as expanding the same bytes with gzip. Other C libraries are left as they are.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
