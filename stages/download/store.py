"""Where fetched and packed archives are kept, outside DVC's outputs, so that nothing is fetched or packed twice.

For an archive NAME the folder holds NAME itself once it is whole and verified, NAME.verified.json (how it is known),
NAME.lock, while it is fetched NAME.<key of its URL>.partial with a .json beside it, and NAME.mismatch with its .json
where what came is not what params.yaml expects.
"""

import fcntl
import gzip
import hashlib
import os
import sys
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, write_json
from stages.contracts.progress import Progress
from stages.download.params import Slices

BLOCK = 1 << 20


def archives_folder(environment: Mapping[str, str]) -> Path:
    """$STROMA_CACHE, else $XDG_CACHE_HOME/stroma, else ~/.cache/stroma; archives/ in it. Absolute; made if absent."""
    base = environment.get("STROMA_CACHE")
    if not base:
        home = environment.get("XDG_CACHE_HOME") or "~/.cache"
        base = f"{home}/stroma"
    folder = Path(base).expanduser().absolute() / "archives"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StageError(
            f"{folder}, where archives are kept, cannot be made ({error.strerror}); set STROMA_CACHE to another folder"
        ) from None
    return folder


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold `path`.lock: a second process that wants the same archive waits until the first has it."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{path.name}: another process is at work on it; waiting", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Digest:
    """sha256 of a stream as a whole, and of each slice of it."""

    def __init__(self, slice_bytes: int | None) -> None:
        self.size = 0
        self.slices: list[str] = []
        self._slice_bytes = slice_bytes
        self._whole, self._slice = hashlib.sha256(), hashlib.sha256()

    def update(self, block: bytes) -> None:
        """Take the next bytes of the stream."""
        self._whole.update(block)
        if self._slice_bytes is None:
            self.size += len(block)
            return
        view = memoryview(block)
        while view:
            room = self._slice_bytes - self.size % self._slice_bytes
            piece, view = view[:room], view[room:]
            self._slice.update(piece)
            self.size += len(piece)
            if self.size % self._slice_bytes == 0:
                self._close_slice()

    def finish(self) -> tuple[str, tuple[str, ...]]:
        """Hex sha256 of the whole and of its slices, a last short one included (none without a slice size)."""
        if self._slice_bytes is not None and self.size % self._slice_bytes:
            self._close_slice()
        return self._whole.hexdigest(), tuple(self.slices)

    def _close_slice(self) -> None:
        self.slices.append(self._slice.hexdigest())
        self._slice = hashlib.sha256()


def digest_of(path: Path, slice_bytes: int | None) -> Digest:
    """The running digest of a file on disk, with progress; more of its stream can follow."""
    digest = Digest(slice_bytes)
    with path.open("rb") as file, Progress(f"hashing {path.name}", path.stat().st_size, "B") as progress:
        while block := file.read(BLOCK):
            digest.update(block)
            progress.add(len(block))
    return digest


@dataclass(frozen=True)
class Known:
    """How a whole file is known again without reading it: by size and time; and what was found when it was read."""

    size: int
    mtime_ns: int
    sha256: str
    slice_bytes: int | None
    slices: tuple[str, ...]
    url: str | None
    etag: str | None

    @classmethod
    def read(cls, path: Path, record: Path) -> "Known | None":
        """What `record` says of the file `path`; None if either is absent or the file has changed since."""
        if not path.is_file() or not record.is_file():
            return None
        try:
            content = read_json(record)
            known = cls(**{**content, "slices": tuple(content["slices"])})
        except (StageError, TypeError, KeyError):
            return None
        status = path.stat()
        return known if (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns) else None

    @classmethod
    def of(cls, path: Path, digest: Digest, slice_bytes: int | None, url: str | None, etag: str | None) -> "Known":
        """The record of a file whose bytes `digest` has seen."""
        sha256, slices = digest.finish()
        status = path.stat()
        return cls(status.st_size, status.st_mtime_ns, sha256, slice_bytes, slices, url, etag)

    def write(self, record: Path) -> None:
        """Keep it beside the file."""
        write_json(asdict(self), record)

    def faults(self, size: int | None, slices: Slices | None) -> list[str]:
        """What differs from the expected size and slices, one sentence each; empty if all agrees or is not known."""
        if size is not None and self.size != size:
            return [f"it has {self.size:,} bytes, expected {size:,}"]
        if slices is None:
            return []
        if len(self.slices) != len(slices.sha256):
            return [f"it has {len(self.slices)} slices of {slices.bytes:,} bytes, expected {len(slices.sha256)}"]
        return [
            f"slice {number} of {len(self.slices)} (from byte {(number - 1) * slices.bytes:,}) has sha256 {found},"
            f" expected {expected}"
            for number, (found, expected) in enumerate(zip(self.slices, slices.sha256, strict=True), start=1)
            if found != expected
        ]


def know(path: Path, record: Path, slice_bytes: int | None) -> Known | None:
    """What is known of `path`, read anew only where the record is absent, stale or cut into other slices.

    None if there is no such file. A file that someone put there by hand is hashed once and then known.
    """
    known = Known.read(path, record)
    if known is None and not path.is_file():
        return None
    if known is None or (slice_bytes is not None and known.slice_bytes != slice_bytes):
        url, etag = (known.url, known.etag) if known else (None, None)
        known = Known.of(path, digest_of(path, slice_bytes), slice_bytes, url, etag)
        known.write(record)
    return known


def is_archive(path: Path) -> bool:
    """Whether a file starts as a zip or as a tar, gzipped or not; how it goes on is for the reader to find out."""
    with path.open("rb") as file:
        start = file.read(4)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return True
    try:
        with tarfile.open(path, "r:gz" if start[:2] == b"\x1f\x8b" else "r:") as archive:
            archive.next()
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile):
        return False
    return True


def free_bytes(folder: Path) -> int:
    """Bytes that may still be written to the disk of `folder`."""
    status = os.statvfs(folder)
    return status.f_bavail * status.f_frsize
