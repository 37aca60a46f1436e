"""The rows of one source while they are being gathered: columns, in archive order."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.merge.decode import Decoded, Job, Outcome
from stages.merge.measures import MEASURES
from stages.merge.member import Member, Stored
from stages.merge.names import Name


class Tally(NamedTuple):
    """What one source came to. repeats: members beyond the first of each name."""

    source: str
    rows: int
    decoded: int
    repeats: int
    errors: int

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.rows:,} images, {self.decoded:,} decoded, "
            f"{self.repeats:,} repeated members, {self.errors:,} with errors"
        )


def tally(source: str, frame: pd.DataFrame) -> Tally:
    """Counts of one source's manifest rows."""
    repeats = int(frame["copies"].sum()) - len(frame)
    return Tally(source, len(frame), frame["pixel_row"].count(), repeats, frame["decode_error"].count())


class Sheet:
    """Gathers the manifest rows of `source`: `add` each member, then `settle` each chunk that was decoded.

    A member's identity is its file name without folders (the publisher's nested duplicate is one image). The first copy
    in archive order is kept; later ones are counted, and differing bytes under one name are a `name_conflict`. A
    refused member is a row of its own, so that it never stands in for a readable one.
    """

    def __init__(self, source: str, parse: Callable[[str], Name]) -> None:
        self.source = source
        self._parse = parse
        self._index: dict[str, int] = {}
        self._names: list[Name] = []
        self._ids: list[str] = []
        self._members: list[str] = []
        self._sizes: list[int] = []
        self._refused: list[str | None] = []
        self._copies: list[int] = []
        self._checks: list[tuple[int, int | None]] = []
        self._conflicts: dict[int, str] = {}
        self._again: list[tuple[int, str, str]] = []
        self._settled: list[int] = []
        self._outcomes: tuple[list[Any], ...] = tuple([] for _ in Outcome._fields)
        self._measures: list[np.ndarray] = [np.empty((0, len(MEASURES)), np.float32)]

    def __len__(self) -> int:
        return len(self._names)

    def add(self, member: Member, read: Callable[[Stored], bytes]) -> Job | None:
        """Take a member in; the job it asks for, or None where it is refused or repeats an earlier one.

        read: gives the bytes of a located member, for a repeat that no CRC settles.
        """
        # A slash never stands in a file name, so a refused path cannot be taken for one.
        identity = member.name.rpartition("/")[2] if member.refused is None else f"/{member.name}"
        row = len(self._names)
        first = self._index.setdefault(identity, row)
        content = member.content
        if first < row:
            self._copies[first] += 1
            if content is not None:
                self._compare(first, member.name, content, read)
            return None
        name = self._parse(member.name)
        self._names.append(name)
        # A foreign file may be called as an image without its suffix is.
        twisted = not name.matched and self._parse(f"{member.name}.png").matched
        self._ids.append(f"/{member.name}" if twisted or member.refused else name.image)
        self._members.append(member.name)
        self._sizes.append(member.size)
        self._refused.append(member.refused)
        self._copies.append(1)
        self._checks.append((content.size, content.crc) if isinstance(content, Stored) else (member.size, None))
        return None if content is None else Job(content, decode=name.error is None)

    def settle(self, rows: Sequence[int], decoded: Decoded) -> None:
        """Enter what became of `rows`; the images decoded so far take the rows of the pixel store in this order."""
        self._settled.extend(rows)
        for column, values in zip(self._outcomes, decoded.outcomes, strict=True):
            column.extend(values)
        self._measures.append(decoded.measures)

    def frame(self, archive_sha256: str | None) -> pd.DataFrame:
        """All columns of the manifest, in archive order."""
        names = dict(zip(Name._fields, zip(*self._names, strict=True), strict=True)) if self._names else {}
        outcomes = {
            field: _scattered(values, self._settled, len(self))
            for field, values in zip(Outcome._fields, self._outcomes, strict=True)
        }
        decoded = np.array([value is not None for value in outcomes["pixel_sha256"]], bool)
        pixel_row = pd.array(np.cumsum(decoded) - 1, dtype="Int64")
        pixel_row[~decoded] = pd.NA
        measures = np.full((len(self), len(MEASURES)), np.nan, np.float32)
        measures[decoded] = np.concatenate(self._measures)
        columns: dict[str, Any] = {
            "image_id": [f"{self.source}-{identity}" for identity in self._ids],
            "source": self.source,
            "archive_sha256": archive_sha256,
            "member": self._members,
            "copies": self._copies,
            "bytes": self._sizes,
            "pixel_row": pixel_row,
            "decode_error": pd.Series(self._errors(outcomes["error"], outcomes["sha256"]), dtype=object),
        }
        for column in ("case_id", "slide_id", "label", "subtype", "magnification", "x", "y"):
            columns[column] = pd.Series(names.get(column, []), dtype=object)
        for column in ("sha256", "pixel_sha256", "width", "height", "mode", "padded"):
            columns[column] = outcomes[column]
        columns |= dict(zip(MEASURES, measures.T, strict=True))
        return pd.DataFrame(columns)

    def _compare(self, first: int, name: str, content: Stored | bytes, read: Callable[[Stored], bytes]) -> None:
        """Note a conflict if a repeat differs from its first copy; a zip's directory knows without reading."""
        size, crc = self._checks[first]
        if crc is not None and isinstance(content, Stored):
            if (size, crc) != (content.size, content.crc):
                self._conflicts.setdefault(first, name)
        else:
            data = read(content) if isinstance(content, Stored) else content
            self._again.append((first, hashlib.sha256(data).hexdigest(), name))

    def _errors(self, faults: np.ndarray, sha256: np.ndarray) -> list[str | None]:
        """What is wrong with each row, from its path, its name, its bytes and its repeats; None if nothing is."""
        conflicts = dict(self._conflicts)
        for first, again, name in self._again:
            if again != sha256[first]:
                conflicts.setdefault(first, name)
        found: list[str | None] = []
        for row, (refused, name, fault) in enumerate(zip(self._refused, self._names, faults, strict=True)):
            clash = f"name_conflict: {conflicts[row]} has other bytes" if row in conflicts else None
            said = [error for error in (refused, name.error, fault, clash) if error]
            found.append("; ".join(said) if said else None)
        return found


def _scattered(values: list[Any], rows: list[int], length: int) -> np.ndarray:
    """`values` at their rows, None elsewhere."""
    column = np.full(length, None, object)
    column[rows] = values
    return column
