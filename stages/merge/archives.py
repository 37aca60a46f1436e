"""Streams the members of a zip or any tar without unpacking it, and refuses what an honest archive does not hold.

Members of a zip and of an uncompressed tar are located only (`Stored`), so that the decoding processes read them
themselves; those of a compressed tar come with their bytes, since only one reader can walk the stream.
"""

import bz2
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from stages.contracts.errors import StageError

MAX_BYTES = 16 << 20
"""Largest member that is read; the largest published image has about 0.8 MB."""
MAX_RATIO = 100
"""Largest expansion of a zip member above a MiB; PNG is compressed already and expands by about 1."""

_BLOCK = 1 << 20
_LOCAL_HEADER = struct.Struct("<4s22xHH")
_SLACK = 128  # a local header's extra field differs from the directory's; it seldom has more bytes than this


class Stored(NamedTuple):
    """Where a member lies in the archive file, and what must come out.

    offset, packed: of its bytes (in a zip: of its local header, which comes first). header: bytes of name and extra
    field to expect between the two, None in a tar. deflated: the bytes are a raw deflate stream.
    """

    offset: int
    packed: int
    header: int | None
    deflated: bool
    size: int
    crc: int | None


class Member(NamedTuple):
    """One file of an archive. content is None where `refused` says why it must not be read."""

    name: str
    size: int
    upto: int  # position in the archive file behind it, bytes: for progress
    refused: str | None
    content: Stored | bytes | None


class DamagedError(Exception):
    """The bytes of one member cannot be had from the archive."""


def members(path: Path) -> Iterator[Member]:
    """Every file of the archive at `path` in archive order; folders are left out.

    The kind is told by content, not by name. Raises StageError if it is neither zip nor tar, or is cut short.
    """
    with path.open("rb") as file:
        magic = file.read(512)
        file.seek(0)
        if magic[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
            yield from _zip_members(path, file)
        elif magic[:2] == b"\x1f\x8b":
            yield from _tar_members(path, file, _Forward(_Gunzip(file)))
        elif magic[:3] == b"BZh":
            with bz2.BZ2File(file) as expanded:
                yield from _tar_members(path, file, _Forward(expanded))
        elif magic[:6] == b"\xfd7zXZ\x00":
            with lzma.LZMAFile(file) as expanded:
                yield from _tar_members(path, file, _Forward(expanded))
        elif magic[257:262] == b"ustar":
            yield from _tar_members(path, file, None)
        else:
            size = path.stat().st_size
            raise StageError(
                f"{path} ({size:,} bytes) is neither a zip nor a tar (tar.gz, tar.bz2, tar.xz); "
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
            data = zlib.decompressobj(-15).decompress(data, stored.size + 1)
        except zlib.error as error:
            raise DamagedError(f"its deflate stream is broken ({error})") from None
    if len(data) != stored.size:
        raise DamagedError(f"{len(data):,} bytes instead of the {stored.size:,} that the archive declares")
    if stored.crc is not None and zlib.crc32(data) != stored.crc:
        raise DamagedError("its CRC differs from the one that the archive declares")
    return data


def _zip_members(path: Path, file: BinaryIO) -> Iterator[Member]:
    try:
        directory = zipfile.ZipFile(file).infolist()
    except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError, struct.error) as error:
        raise StageError(f"{path} is no whole zip ({error}): it was probably cut short; fetch it again") from None
    for info in directory:
        if info.is_dir():
            continue
        refused = _refused_name(info.filename) or _refused_zip(info)
        stored = Stored(
            offset=info.header_offset,
            packed=info.compress_size,
            header=len(info.filename.encode()),
            deflated=info.compress_type == zipfile.ZIP_DEFLATED,
            size=info.file_size,
            crc=info.CRC,
        )
        upto = info.header_offset + info.compress_size
        yield Member(info.filename, info.file_size, upto, refused, None if refused else stored)


def _refused_zip(info: zipfile.ZipInfo) -> str | None:
    mode = info.external_attr >> 16
    kind = stat.S_IFMT(mode)
    if kind == stat.S_IFLNK:
        return "refused: a symbolic link"
    if kind not in (0, stat.S_IFREG):
        return "refused: a device or other special file"
    if info.flag_bits & 0x1:
        return "refused: encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"refused: zip compression method {info.compress_type} (stored and deflated are read)"
    if info.file_size > _BLOCK and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        return f"refused: expands {info.file_size // max(info.compress_size, 1):,}-fold, a decompression bomb"
    return _refused_size(info.file_size)


def _tar_members(path: Path, file: BinaryIO, stream: "_Forward | None") -> Iterator[Member]:
    """stream: the expanded tar where the file is compressed; None where members can be read in place."""
    reader = stream or _Forward(file)
    length = path.stat().st_size
    try:
        tar = tarfile.TarFile(fileobj=reader, errorlevel=2, errors="replace")
        while (info := tar.next()) is not None:
            tar.members.clear()  # or it would keep a record of each of 285,433 members
            if info.isdir():
                continue
            refused = _refused_name(info.name) or _refused_tar(info)
            content: Stored | bytes | None = None
            if refused is None and stream is None:
                content = Stored(info.offset_data, info.size, None, False, info.size, None)
                if info.offset_data + info.size > length:
                    raise EOFError(f"{info.name} is cut off")
            elif refused is None:
                reader.seek(info.offset_data)
                content = reader.read(info.size)
                if len(content) < info.size:
                    raise EOFError(f"{info.name} is cut off")
            upto = file.tell() if stream else info.offset_data + info.size
            yield Member(info.name, info.size, upto, refused, content)
        if reader.last != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the blocks that end a tar are missing")
        reader.drain()
    except (EOFError, zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise StageError(
            f"{path} ends or breaks in the middle, near byte {file.tell():,} of {length:,} ({error}): "
            "it was probably cut short; fetch it again"
        ) from None
    except OSError as error:
        if error.errno is not None:  # the disk's; bz2 reports a broken stream as an OSError without number
            raise
        raise StageError(f"{path} is no whole tar ({error}); fetch it again") from None


def _refused_tar(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"refused: a {'symbolic' if info.issym() else 'hard'} link to {info.linkname}"
    if not info.isreg() or info.issparse():
        return "refused: a device or other special file"
    return _refused_size(info.size)


def _refused_size(size: int) -> str | None:
    return f"refused: {size:,} bytes, more than the {MAX_BYTES:,} an image may have" if size > MAX_BYTES else None


_SUSPECT = re.compile(r"^[/\\]|^[A-Za-z]:|(?:^|[/\\])\.\.(?:[/\\]|$)|\x00")


def _refused_name(name: str) -> str | None:
    found = _SUSPECT.search(name)
    if found is None:
        return None
    return "refused: its path leads out of the archive (..)" if ".." in found[0] else "refused: its path is absolute"


class _Forward:
    """What tarfile needs of a file, over one that is only ever read forwards."""

    def __init__(self, file: "BinaryIO | _Gunzip | bz2.BZ2File | lzma.LZMAFile") -> None:
        self._file = file
        self._at = 0
        self.last = b""
        """The block that was read last: all zeros at the end of a whole tar."""

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        if isinstance(self._file, _Gunzip | bz2.BZ2File | lzma.LZMAFile):
            while self._at < offset and self.read(min(offset - self._at, _BLOCK)):
                pass
        else:
            self._file.seek(offset)
            self._at = offset

    def read(self, size: int) -> bytes:
        if size > MAX_BYTES:  # headers and members that are read are smaller: a forged pax or long-name header
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        data = self._file.read(size)
        self._at += len(data)
        self.last = data
        return data

    def drain(self) -> None:
        """Read on to the end, where gzip, bzip2 and xz keep the checks of the whole stream."""
        for _ in range(MAX_BYTES // _BLOCK):
            if not self.read(_BLOCK):
                return


class _Gunzip:
    """Expands gzip by the MiB: gzip.GzipFile does it by 8 KiB, which costs more than the expansion itself."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._expand = zlib.decompressobj(31)
        self._packed = b""
        self._ready = b""
        self._from = 0

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if self._from == len(self._ready) and not self._fill():
                break
            part = self._ready[self._from : self._from + size]
            self._from += len(part)
            size -= len(part)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _fill(self) -> bool:
        """Expand the next piece; False at the end of the last gzip member. Raises EOFError in the middle of one."""
        while True:
            if self._expand.eof:
                self._packed = self._expand.unused_data.lstrip(b"\0") or self._file.read(_BLOCK).lstrip(b"\0")
                if not self._packed:
                    return False
                self._expand = zlib.decompressobj(31)
            elif not self._packed:
                self._packed = self._file.read(_BLOCK)
                if not self._packed:
                    raise EOFError("the gzip stream has no end")
            self._ready = self._expand.decompress(self._packed, _BLOCK)
            self._packed = self._expand.unconsumed_tail
            self._from = 0
            if self._ready:
                return True
