"""Progress that suits its reader: a bar on a terminal, a plain line every few seconds in a log."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

LOG_EVERY_S = 10.0


class Progress:
    """Counts `unit`s towards `total` (None where it is not known) and shows the rate and the time left on stderr."""

    def __init__(self, what: str, total: int | None, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.note = ""
        self._started = self._spoke = time.monotonic()
        scale = unit == "B"
        self._bar = (
            tqdm(desc=what, total=total, unit=unit, unit_scale=scale, unit_divisor=1024 if scale else 1000, leave=False)
            if sys.stderr.isatty()
            else None
        )

    def add(self, count: int) -> None:
        """Count `count` more units as done."""
        self.done += count
        if self._bar is not None:
            if self.note:
                self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(count)
        elif time.monotonic() - self._spoke >= LOG_EVERY_S:
            self._spoke = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def _line(self) -> str:
        rate = self.done / max(time.monotonic() - self._started, 1e-9)
        of = f" of {self.total:,}" if self.total else ""
        left = f", {(self.total - self.done) / rate:,.0f} s left" if self.total and rate > 0 else ""
        return f"{self.what}: {self.done:,}{of} {self.unit}, {rate:,.0f} {self.unit}/s{left}  {self.note}".rstrip()
