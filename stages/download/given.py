"""Archives that the user has: linked under their own name, never copied or altered; a folder is packed once."""

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages.contracts.errors import StageError
from stages.contracts.files import appearing, read_json, write_json
from stages.contracts.progress import Progress
from stages.download.store import is_archive, locked


@dataclass(frozen=True)
class Item:
    """A file of a folder: its name in it with forward slashes, its size in bytes, the time of its last change."""

    name: str
    size: int
    mtime_ns: int


def given_archive(key: str, value: str, root: Path, store: Path) -> Path:
    """The archive that params' `key` names, absolute: the file itself, or a folder packed into the folder `store`.

    value: a path from `root` or absolute; ~ is the home folder. Raises StageError where there is nothing of use.
    """
    path = root.absolute() / Path(value).expanduser()
    path = Path(os.path.normpath(path))
    where = f"{key}: {path}"
    try:
        if path.is_dir():
            return packed(path, where, store)
        if not path.exists():
            raise StageError(f"{where} does not exist; give the path of an archive or a folder, or null for none")
        if not is_archive(path):
            raise StageError(
                f"{where} is neither a zip nor a tar (gzipped or not) nor a folder;"
                " give the publisher's archive, or a folder in its layout"
            )
    except PermissionError as error:
        raise StageError(f"{where} cannot be read ({error.filename}: {error.strerror}); change its mode") from None
    return path


def packed(folder: Path, where: str, store: Path) -> Path:
    """The folder as one uncompressed tar in `store`, packed anew only where its listing has changed.

    Equal folders give equal tars, wherever they lie. Raises StageError if there is no file in it.
    """
    key = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    archive = store / "packed" / key / f"{folder.name or 'root'}.tar"
    archive.parent.mkdir(parents=True, exist_ok=True)
    items = sorted(_listing(folder, where), key=lambda item: item.name)
    if not items:
        raise StageError(f"{where} is a folder without a file; give one in the publisher's layout, or null for none")
    listing = {"folder": str(folder), "sha256": _fingerprint(items)}
    record = archive.with_name(f"{archive.name}.json")
    with locked(archive):
        if not (archive.is_file() and record.is_file() and read_json(record) == listing):
            record.unlink(missing_ok=True)
            with appearing(archive) as part:
                _pack(folder, items, part)
            write_json(listing, record)
    return archive


def _listing(folder: Path, where: str, prefix: str = "") -> Iterator[Item]:
    """Every file below `folder`. Links to files count as files; what cannot be packed is an error, never left out."""
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{prefix}{entry.name}"
            try:
                status = entry.stat()
            except FileNotFoundError:
                raise StageError(f"{where} holds a link that leads nowhere: {name}; remove or mend it") from None
            if entry.is_dir():
                if entry.is_symlink():
                    raise StageError(f"{where} holds a link to a folder, which may run in a circle: {name}; remove it")
                yield from _listing(Path(entry.path), where, f"{name}/")
            elif stat.S_ISREG(status.st_mode):
                yield Item(name, status.st_size, status.st_mtime_ns)
            else:
                raise StageError(f"{where} holds something that is no file: {name}; remove it")


def _fingerprint(items: list[Item]) -> str:
    text = "\n".join(f"{item.name}\0{item.size}\0{item.mtime_ns}" for item in items)
    return hashlib.sha256(os.fsencode(text)).hexdigest()


def _pack(folder: Path, items: list[Item], archive: Path) -> None:
    """Write the tar: sorted, without times, owners and modes, so that equal files are equal bytes."""
    with (
        tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as tar,
        Progress(f"packing {folder}", sum(item.size for item in items), "B") as progress,
    ):
        for item in items:
            entry = tarfile.TarInfo(item.name)
            entry.size = item.size
            with (folder / item.name).open("rb") as file:
                tar.addfile(entry, file)
            progress.add(item.size)
