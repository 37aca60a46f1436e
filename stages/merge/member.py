"""A file of an archive: where its bytes are, or why they must not be read."""

import re
from typing import NamedTuple

MAX_BYTES = 16 << 20
"""Largest member that is read; the largest published image has about 0.9 MB."""


class Stored(NamedTuple):
    """Where a member lies in the archive file, and what must come out.

    offset, packed: of its bytes (in a zip: of its local header, which comes first). header: bytes of the name between
    the two in a zip, None in a tar. deflated: the bytes are a raw deflate stream. crc: None in a tar.
    """

    offset: int
    packed: int
    header: int | None
    deflated: bool
    size: int
    crc: int | None


class Member(NamedTuple):
    """One file of an archive. content is its place or, where that cannot be sought, its bytes; None if refused.

    upto: position in the archive file behind it, bytes, for progress. refused: why it must not be read, or None.
    """

    name: str
    size: int
    upto: int
    refused: str | None
    content: Stored | bytes | None


class DamagedError(Exception):
    """The bytes of one member cannot be had from the archive."""


_OUTSIDE = re.compile(r"(?:^|[/\\])\.\.(?:[/\\]|$)")


def refused_name(name: str) -> str | None:
    """Why a member of this path is refused: it would be unpacked outside the folder of the archive."""
    if name[:1] in ("/", "\\") or name[1:2] == ":":
        return "refused: its path is absolute"
    if ".." in name and _OUTSIDE.search(name):
        return "refused: its path leads out of the archive (..)"
    return None


def refused_size(size: int) -> str | None:
    """Why a member of this size is refused."""
    return f"refused: {size:,} bytes, more than the {MAX_BYTES:,} an image may have" if size > MAX_BYTES else None
