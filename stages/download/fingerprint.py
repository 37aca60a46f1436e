"""What is known of a source's content before it is laid out: sources/<source>.json, kept in git, a dep of download.

Without it DVC could not see that a publisher put up another archive, or that something changed inside a folder that
the user gave: neither stands in params.yaml.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

import requests
import urllib3

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, write_json
from stages.download.given import given_archive
from stages.download.params import Published
from stages.download.store import know
from stages.download.transfer import HEADERS, TIMEOUT_S, Refusal, Trouble, announced, back_off, meaning

SOURCES = Path("sources")
TRIES = 3
"""Attempts at a URL that does not answer: a HEAD is cheap, and a blip at night should not cost a week."""


@dataclass(frozen=True)
class Fingerprint:
    """By what the content of a source is known again; what is not known is null. No time, host or path.

    size in bytes, sha256 of a given archive (of a folder: as packed). etag: of a publisher's archive, the time of its
    last change where the server sends none. A drawing is known by its params, so nothing more is said of it.
    """

    source: str
    kind: Literal["drawn", "given", "published"]
    url: str | None = None
    etag: str | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def read(cls, source: str, folder: Path = SOURCES) -> "Fingerprint | None":
        """The last one taken; None where none was. Raises StageError where the file is not as `write` leaves it."""
        path = folder / f"{source}.json"
        if not path.is_file():
            return None
        try:
            return cls(**read_json(path))
        except TypeError:
            raise StageError(
                f"{path} is no fingerprint; `python -m stages.download.refresh {source}` mends it"
            ) from None

    def write(self, folder: Path = SOURCES) -> None:
        """Keep it: equal content, equal bytes."""
        write_json(asdict(self), folder / f"{self.source}.json")

    @property
    def key(self) -> str:
        """A short name for a published archive in this state."""
        return sha256(f"{self.url}\0{self.etag}\0{self.size}".encode()).hexdigest()[:12]


def of_given(source: str, key: str, value: str | None, root: Path, store: Path) -> Fingerprint:
    """Of what the user gave; a folder is packed for it, as download would. Raises StageError like `given_archive`."""
    if value is None:
        return Fingerprint(source, "given")
    archive = given_archive(key, value, root, store)
    record = store / "given" / f"{sha256(str(archive).encode()).hexdigest()[:16]}.json"
    known = know(archive, record, None)
    if known is None:
        raise StageError(f"{key}: {archive} went away while it was read; give it again, or null for none")
    return Fingerprint(source, "given", size=known.size, sha256=known.sha256)


def of_published(
    source: str,
    wanted: Published,
    last: Fingerprint | None,
    login: Callable[[str], tuple[str, str] | None],
    wait: Callable[[float], None],
) -> Fingerprint:
    """Of the first URL that answers; the one of `last` is asked first, so that a mirror does not come and go.

    login: user and password for a URL. wait: sleeps so many seconds. Raises StageError where no URL answers.
    """
    urls = sorted(wanted.urls, key=lambda url: last is None or url != last.url)
    refusals: dict[str, str] = {}
    for url in urls:
        try:
            etag, size = _patiently(url, login(url), wait)
        except (Refusal, Trouble) as refusal:
            refusals[url] = str(refusal)
            continue
        return Fingerprint(source, "published", url, etag, size)
    raise StageError(_refused(source, wanted, refusals))


def _patiently(url: str, login: tuple[str, str] | None, wait: Callable[[float], None]) -> tuple[str | None, int | None]:
    for failures in range(1, TRIES):
        try:
            return _ask(url, login)
        except Trouble as trouble:
            wait(max(back_off(failures), trouble.wait_s))
    return _ask(url, login)


def _ask(url: str, login: tuple[str, str] | None) -> tuple[str | None, int | None]:
    """ETag (or last change) and size that the server announces for `url`. Raises Refusal or Trouble."""
    try:
        with requests.head(url, headers=HEADERS, timeout=TIMEOUT_S, auth=login, allow_redirects=True) as response:
            return announced(response)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise meaning(error) from None


def _refused(source: str, wanted: Published, refusals: Mapping[str, str]) -> str:
    said = "; ".join(f"{url}: {why}" for url, why in refusals.items())
    return (
        f"no publisher says what {wanted.file} is now ({said}). Run again when the network is back;"
        f" sources/{source}.json was left as it is, and `dvc repro` goes on with it"
    )
