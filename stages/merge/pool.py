"""The processes that decode: one per core this process may use, gone when their parent is."""

import ctypes
import multiprocessing
import os
import signal
from concurrent.futures import Executor, ProcessPoolExecutor

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def decoders(workers: int | None = None) -> Executor:
    """A pool of `workers` processes; None means one per core of this process's affinity mask.

    The result's bytes do not depend on their number. They are forked, which starts them in milliseconds; the caller has
    no threads of its own yet.
    """
    return ProcessPoolExecutor(
        max_workers=workers or len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("fork"),
        initializer=_begin,
        initargs=(os.getpid(),),
    )


def _begin(parent: int) -> None:
    """End with the parent even if it is killed, and leave Ctrl-C to it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before prctl could see it
        os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
