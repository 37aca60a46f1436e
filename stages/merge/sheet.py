"""The rows of one source while they are being gathered: columns, in archive order."""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.merge.archives import Member, Stored
from stages.merge.decode import Decoded, Job, Outcome
from stages.merge.measures import MEASURES
from stages.merge.names import Name

_NOTHING = Outcome(None)


class Tally(NamedTuple):
    """What one source came to. copies: members beyond the first of each name."""

    source: str
    rows: int
    decoded: int
    copies: int
    errors: int

    def __str__(self) -> str:
        return (
            f"{self.source}: {self.rows:,} images, {self.decoded:,} decoded, "
            f"{self.copies:,} repeated members, {self.errors:,} with errors"
        )


class Sheet:
    """Gathers the manifest rows of `source`: `add` each member, then `settle` each decoded chunk in the same order.

    A member's identity is its file name without folders (the publisher's nested duplicate is one image). The first copy
    in archive order is kept; later ones are counted, and differing bytes under one name are a `name_conflict`. A
    refused member is a row of its own, so that it never stands in for a readable one.
    """

    def __init__(self, source: str, parse: Callable[[str], Name]) -> None:
        self.source = source
        self.decoded = 0
        self.matched = 0
        self._parse = parse
        self._index: dict[str, int] = {}
        self._names: list[Name] = []
        self._members: list[Member] = []
        self._copies: list[int] = []
        self._conflicts: dict[int, str] = {}
        self._late: list[tuple[int, str, str]] = []
        self._outcomes: list[Outcome] = []
        self._rows: list[int | None] = []
        self._measures: list[np.ndarray] = []

    def __len__(self) -> int:
        return len(self._names)

    def add(self, member: Member, read: Callable[[Stored], bytes]) -> Job | None:
        """Take a member in; the job it asks for, or None where it is refused or repeats an earlier one.

        read: gives the bytes of a located member, for repeats that no CRC settles.
        """
        name = self._parse(member.name)
        identity = name.image if member.refused is None else f"/{member.name}"
        first = self._index.setdefault(identity, len(self))
        if first < len(self):
            self._repeat(first, member, read)
            return None
        self.matched += name.matched
        self._names.append(name._replace(image=identity))
        # The bytes of a streamed member must not be kept.
        self._members.append(member if isinstance(member.content, Stored) else member._replace(content=None))
        self._copies.append(1)
        self._outcomes.append(_NOTHING)
        self._rows.append(None)
        return None if member.content is None else Job(member.content, decode=name.error is None)

    def settle(self, indices: Sequence[int], decoded: Decoded) -> None:
        """Enter what became of the rows `indices`; decoded images take the next rows of the pixel store."""
        for index, outcome in zip(indices, decoded.outcomes, strict=True):
            self._outcomes[index] = outcome
            if outcome.pixel_sha256 is not None:
                self._rows[index] = self.decoded
                self.decoded += 1
        self._measures.append(decoded.measures)

    def tally(self) -> Tally:
        """The counts for the closing sentence."""
        errors = sum(error is not None for error in self._errors())
        return Tally(self.source, len(self), self.decoded, sum(self._copies) - len(self), errors)

    def first_error(self) -> str:
        """The first row's member with what is wrong with it, for a message."""
        return next((f"{m.name}: {error}" for m, error in zip(self._members, self._errors(), strict=True) if error), "")

    def example(self) -> str:
        """The name of the first member."""
        return self._members[0].name

    def frame(self, archive_sha256: str | None) -> pd.DataFrame:
        """All columns of the manifest, in archive order."""
        names = pd.DataFrame(self._names, columns=list(Name._fields))
        outcomes = pd.DataFrame(self._outcomes, columns=list(Outcome._fields))
        rows = pd.array(self._rows, dtype="Int64")
        frame = pd.DataFrame(
            {
                "image_id": [f"{self.source}-{name.image}" for name in self._names],
                "source": self.source,
                "archive_sha256": archive_sha256,
                "member": [member.name for member in self._members],
                "copies": self._copies,
                "bytes": [member.size for member in self._members],
                "pixel_row": rows,
                "decode_error": list(self._errors()),
            }
        )
        for column in ("case_id", "slide_id", "label", "subtype", "magnification", "x", "y"):
            frame[column] = names[column]
        for column in ("sha256", "pixel_sha256", "width", "height", "mode", "padded"):
            frame[column] = outcomes[column]
        measures = np.full((len(self), len(MEASURES)), np.nan, np.float32)
        measures[~np.asarray(rows.isna())] = np.concatenate([np.empty((0, len(MEASURES)), np.float32), *self._measures])
        frame[list(MEASURES)] = measures
        return frame

    def _repeat(self, first: int, member: Member, read: Callable[[Stored], bytes]) -> None:
        self._copies[first] += 1
        kept, again = self._members[first].content, member.content
        if isinstance(kept, Stored) and isinstance(again, Stored) and again.crc is not None:
            if (kept.size, kept.crc) != (again.size, again.crc):  # the zip's directory knows without reading
                self._conflicts[first] = member.name
        elif again is not None:
            data = read(again) if isinstance(again, Stored) else again
            self._late.append((first, hashlib.sha256(data).hexdigest(), member.name))

    def _errors(self) -> list[str | None]:
        conflicts = dict(self._conflicts)
        for first, sha256, name in self._late:
            if sha256 != self._outcomes[first].sha256:
                conflicts.setdefault(first, name)
        found: list[str | None] = []
        for index, (member, name, outcome) in enumerate(zip(self._members, self._names, self._outcomes, strict=True)):
            clash = f"name_conflict: {conflicts[index]} has other bytes" if index in conflicts else None
            faults = [fault for fault in (member.refused, name.error, outcome.error, clash) if fault]
            found.append("; ".join(faults) or None)
        return found
