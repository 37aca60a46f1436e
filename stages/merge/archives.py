"""Streams the members of a zip or any tar without unpacking it, and refuses what an honest archive does not hold.

Members of a zip and of an uncompressed tar are located only (`Stored`), so that the decoding processes read them
themselves; those of a compressed tar come with their bytes, since only one reader can walk the stream.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from isal import isal_zlib

from stages.contracts.errors import StageError
from stages.merge.member import DamagedError, Member, Stored
from stages.merge.tars import tar_members
from stages.merge.zips import zip_members

_LOCAL_HEADER = struct.Struct("<4s22x2H")
_SLACK = 64  # the extra field of a local header is not known beforehand; it seldom has more bytes than this
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\0")


def members(path: Path) -> Iterator[Member]:
    """Every file of the archive at `path` in archive order; folders are left out.

    The kind is told by content, not by name. Raises StageError if it is neither zip nor tar, or is cut short.
    """
    with path.open("rb") as file:
        magic = file.read(512)
        file.seek(0)
        if magic[:4] in (b"PK\3\4", b"PK\5\6"):
            yield from zip_members(path, file)
        elif magic.startswith(_COMPRESSED) or magic[257:262] == b"ustar":
            yield from tar_members(path, file, magic)
        else:
            raise StageError(
                f"{path} ({path.stat().st_size:,} bytes) is neither a zip nor a tar (tar.gz, tar.bz2, tar.xz); "
                "give the archive as its publisher packed it, or a folder"
            )


def read_stored(descriptor: int, stored: Stored) -> bytes:
    """The bytes of a located member, checked against the size and CRC that the archive declares.

    Raises DamagedError if they do not agree. Never expands to more than the declared size.
    """
    if stored.header is None:
        data = os.pread(descriptor, stored.packed, stored.offset)
    else:
        ahead = _LOCAL_HEADER.size + stored.header + _SLACK
        raw = os.pread(descriptor, ahead + stored.packed, stored.offset)
        if len(raw) < _LOCAL_HEADER.size or raw[:4] != b"PK\x03\x04":
            raise DamagedError("no member of the zip stands where its directory says")
        _, name, extra = _LOCAL_HEADER.unpack_from(raw)
        start = _LOCAL_HEADER.size + name + extra
        data = raw[start : start + stored.packed]
        if len(data) < stored.packed:
            data = os.pread(descriptor, stored.packed, stored.offset + start)
    if stored.deflated:
        try:
            data = isal_zlib.decompressobj(-15).decompress(data, stored.size + 1)
        except isal_zlib.error as error:
            raise DamagedError(f"its deflate stream is broken ({error})") from None
    if len(data) != stored.size:
        raise DamagedError(f"{len(data):,} bytes instead of the {stored.size:,} that the archive declares")
    if stored.crc is not None and zlib.crc32(data) != stored.crc:
        raise DamagedError("its CRC differs from the one that the archive declares")
    return data
