"""Members of a tar, read from its beginning to its end in one pass, compressed or not."""

import bz2
import lzma
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib

from stages.contracts.errors import StageError
from stages.merge.member import MAX_BYTES, Member, Stored, refused_name, refused_size

_BLOCK = 1 << 20
_PIECE = 1 << 16  # expanded at a time: stays in cache, where a MiB takes 1.4 times as long


def tar_members(path: Path, file: BinaryIO, magic: bytes) -> Iterator[Member]:
    """Every file of the tar, in its order; folders are left out. magic: the first bytes of the file.

    Members of an uncompressed tar are located only. Raises StageError if the archive is cut short or damaged.
    """
    stream = _expanded(file, magic)
    reader = _Forward(stream or file)
    length = path.stat().st_size
    try:
        tar = tarfile.TarFile(fileobj=reader, errorlevel=2, errors="replace")
        while (info := tar.next()) is not None:
            tar.members.clear()  # or it would keep a record of each of 285,433 members
            if info.isdir():
                continue
            refused = refused_name(info.name) or _refused(info)
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
    except (EOFError, isal_zlib.error, lzma.LZMAError, tarfile.TarError) as error:
        raise StageError(
            f"{path} ends or breaks in the middle, near byte {file.tell():,} of {length:,} ({error}): "
            "it was probably cut short; fetch it again"
        ) from None
    except OSError as error:
        if error.errno is not None:  # the disk's; bz2 reports a broken stream as an OSError without number
            raise
        raise StageError(f"{path} is no whole tar ({error}); fetch it again") from None


def _refused(info: tarfile.TarInfo) -> str | None:
    if info.issym() or info.islnk():
        return f"refused: a {'symbolic' if info.issym() else 'hard'} link to {info.linkname}"
    if not info.isreg() or info.issparse():
        return "refused: a device or other special file"
    return refused_size(info.size)


def _expanded(file: BinaryIO, magic: bytes) -> "_Stream | None":
    """A reader of the tar inside a compressed file; None where the file is not compressed."""
    if magic[:2] == b"\x1f\x8b":
        return _Gunzip(file)
    if magic[:3] == b"BZh":
        return bz2.BZ2File(file)
    if magic[:6] == b"\xfd7zXZ\0":
        return lzma.LZMAFile(file)
    return None


class _Forward:
    """What tarfile needs of a file, over one that is only ever read forwards."""

    def __init__(self, file: "BinaryIO | _Stream") -> None:
        self._file = file
        self._at = 0
        self.last = b""
        """The block that was read last: all zeros at the end of a whole tar."""

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int) -> None:
        if isinstance(self._file, _Stream):
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
    """Expands gzip by 64 KiB: gzip.GzipFile does it by 8 KiB and through three layers of Python, and zlib
    takes 1.4 times as long as ISA-L.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._expand = isal_zlib.decompressobj(31)
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
                self._packed = self._expand.unused_data.lstrip(b"\0") or self._file.read(_PIECE).lstrip(b"\0")
                if not self._packed:
                    return False
                self._expand = isal_zlib.decompressobj(31)
            elif not self._packed:
                self._packed = self._file.read(_PIECE)
                if not self._packed:
                    raise EOFError("the gzip stream has no end")
            self._ready = self._expand.decompress(self._packed, _PIECE)
            self._packed = self._expand.unconsumed_tail
            self._from = 0
            if self._ready:
                return True


_Stream = _Gunzip | bz2.BZ2File | lzma.LZMAFile
