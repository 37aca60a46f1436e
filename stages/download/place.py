"""data/raw/<source>/: the archive of one source, or a link to it, and source.json that says what it is."""

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from stages.contracts.errors import StageError
from stages.contracts.files import appearing, sha256_of, write_json
from stages.contracts.sections import Params, Profile, params_root, section
from stages.download.fingerprint import Fingerprint
from stages.download.params import SECTIONS, DrawnBreakhis, DrawnIdc, Published
from stages.download.store import archives_folder, digest_of

RAW = Path("data/raw")


@dataclass(frozen=True)
class Source:
    """source.json; unknown or absent is null. size in bytes, sha256 of the archive, reason: why it is absent."""

    source: str
    kind: Literal["drawn", "given", "published"]
    present: bool
    file: str | None = None
    url: str | None = None
    licence: str | None = None
    size: int | None = None
    sha256: str | None = None
    reason: str | None = None


def place(params: Params, source: str) -> str:
    """Make data/raw/<source>/ for the profile of `params`; returns the sentence that the stage closes with."""
    profile, _, value = sought(params, source)
    with appearing(RAW / source) as folder:
        folder.mkdir()
        record = _LAYERS[profile](source, value, folder)
        write_json(asdict(record), folder / "source.json")
    return _closing(record)


def sought(params: Params, source: str) -> tuple[Profile, str, Any]:
    """The profile of `params`, and the key and the value under which it says where `source` comes from."""
    profile = section(params, "profile", Profile)
    key = f"profiles.{profile}.{source}"
    if key not in SECTIONS:
        raise StageError(f"there is no source '{source}'; expected idc or breakhis")
    return profile, key, section(params, key, SECTIONS[key])


def _closing(record: Source) -> str:
    if not record.present:
        return f"{record.source} is absent: {record.reason}"
    return f"{record.source} is {record.kind}: {record.file}, {record.size:,} bytes"


def _draw(source: str, value: DrawnIdc | DrawnBreakhis, folder: Path) -> Source:
    from stages.download.drawn import draw_breakhis, draw_idc

    archive = {"idc": draw_idc, "breakhis": draw_breakhis}[source](value, folder)
    size, sha256 = archive.stat().st_size, sha256_of(archive)
    return Source(source, "drawn", True, archive.name, licence="none (drawn)", size=size, sha256=sha256)


def _link(source: str, value: str | None, folder: Path) -> Source:
    from stages.download.given import given_archive

    key = f"profiles.local.{source}"
    if value is None:
        return Source(source, "given", False, reason=f"{key} is null")
    archive = given_archive(key, value, params_root(os.environ), archives_folder(os.environ))
    (folder / archive.name).symlink_to(archive)
    sha256, _ = digest_of(archive, None).finish()
    return Source(source, "given", True, archive.name, size=archive.stat().st_size, sha256=sha256)


def _fetch(source: str, value: Published, folder: Path) -> Source:
    from stages.download.published import fetch

    seen = Fingerprint.read(source)
    archive, known = fetch(source, value, archives_folder(os.environ), os.environ, time.sleep, seen=seen)
    (folder / archive.name).symlink_to(archive)
    return Source(source, "published", True, archive.name, known.url, value.licence, known.size, known.sha256)


_LAYERS = {"demo": _draw, "local": _link, "full": _fetch}
"""Per profile: what fills the folder and tells what it is."""
