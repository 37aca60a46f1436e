"""Fetching over HTTP(S): resume after a cut, retry with back-off, refuse what cannot be the file.

The loop in words: ask for the bytes that are still missing, on condition that the file is still the same one
(If-Range); keep every byte that comes; when the line breaks, wait and ask again. An attempt that brought the file
further than ever before earns a fresh set of tries, so that a poor line finishes and a dead one is given up.
"""

import hashlib
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests
import urllib3

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, write_json
from stages.contracts.progress import Progress
from stages.download.store import Digest, digest_of, free_bytes

TRIES = 5
"""Attempts in a row that bring nothing new before a URL is given up: with the waits below, half a minute of silence."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
PATIENCE_S = 300.0
"""A server that asks for a longer wait than this is not waited for."""
TIMEOUT_S = (15, 60)
"""To connect, and between two pieces of an answer."""
PIECE = 1 << 16
"""Bytes read at a time; up to so many are lost when the line is cut."""
RETRIED = {408, 425, 429, 500, 502, 503, 504}
HEADERS = {
    "User-Agent": "stroma",
    # The bytes of the file itself: a compression for the journey would spoil length, Range and hashes.
    "Accept-Encoding": "identity",
}


class Refusal(Exception):  # noqa: N818 - it is an answer, and often the right one
    """This URL will not give the file, however often it is asked."""


class Trouble(Exception):  # noqa: N818
    """The attempt failed, the next may not; `wait_s` is what the server asked for."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


@dataclass
class Partial:
    """What is here of the file at one URL: its bytes on disk, and the marks by which a server knows it again."""

    path: Path
    url: str
    validator: str | None = None  # a strong ETag, or Last-Modified; None: nothing can be spliced safely
    total: int | None = None
    digest: Digest = field(default_factory=lambda: Digest(None))

    @classmethod
    def find(cls, archive: Path, url: str, slice_bytes: int | None) -> "Partial":
        """The partial file of `archive` from `url`, hashed up to where it ends; empty if it cannot be gone on with."""
        # One per URL: a mirror that is tried in between must not cost the gigabytes that the first one gave.
        key = hashlib.sha256(url.encode()).hexdigest()[:8]
        partial = cls(archive.with_name(f"{archive.name}.{key}.partial"), url, digest=Digest(slice_bytes))
        try:
            marks = read_json(partial.marks)
        except StageError:
            marks = None
        if not isinstance(marks, dict) or not marks.get("validator") or not partial.path.is_file():
            return partial
        partial.validator, partial.total = marks["validator"], marks["total"]
        if partial.path.stat().st_size:
            partial.digest = digest_of(partial.path, slice_bytes)
        return partial

    @property
    def marks(self) -> Path:
        """The JSON beside the bytes."""
        return self.path.with_name(f"{self.path.name}.json")

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self.digest.size

    def restart(self, validator: str | None, total: int | None, slice_bytes: int | None) -> None:
        """Begin from the first byte, of a file that is known by `validator`."""
        self.validator, self.total, self.digest = validator, total, Digest(slice_bytes)
        self.path.write_bytes(b"")
        write_json({"url": self.url, "validator": validator, "total": total}, self.marks)


def download(
    partial: Partial,
    size: int | None,
    slice_bytes: int | None,
    login: tuple[str, str] | None,
    wait: Callable[[float], None],
) -> None:
    """Bring `partial` to its end, attempt by attempt.

    size: bytes the file must have, if known. login: user and password for the host of the URL and no other. wait:
    sleeps for so many seconds. Raises Refusal where the URL will not give the file.
    """
    furthest, failures = partial.size, 0
    with requests.Session() as session:
        while True:
            try:
                _attempt(session, partial, size, slice_bytes, login)
                return
            except Trouble as trouble:
                if partial.size > furthest:
                    furthest, failures = partial.size, 0
                failures += 1
                if failures == TRIES:
                    raise Refusal(f"{trouble} ({TRIES} times in a row)") from None
                seconds = max(back_off(failures), trouble.wait_s)
                print(f"{partial.url}: {trouble}; next try in {seconds:.0f} s", file=sys.stderr, flush=True)
                wait(seconds)


def back_off(failures: int) -> float:
    """Seconds to wait: doubled with every failure, and spread so that many machines do not come back at once."""
    # The spread decides no result, so it needs no seed.
    return min(FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S) * random.uniform(0.5, 1.5)  # noqa: S311


def _attempt(
    session: requests.Session,
    partial: Partial,
    size: int | None,
    slice_bytes: int | None,
    login: tuple[str, str] | None,
) -> None:
    """Ask once for what is missing and keep what comes. Raises Trouble or Refusal unless the file is whole then."""
    if partial.total is not None and partial.size == partial.total:
        return
    headers = dict(HEADERS)
    if partial.size and partial.validator:
        headers |= {"Range": f"bytes={partial.size}-", "If-Range": partial.validator}
    try:
        with session.get(partial.url, headers=headers, stream=True, timeout=TIMEOUT_S, auth=login) as response:
            if _agree(response, partial, size, slice_bytes):
                _keep(response, partial)
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise meaning(error) from None


def _agree(response: requests.Response, partial: Partial, size: int | None, slice_bytes: int | None) -> bool:
    """Whether bytes follow that belong at the end of `partial` (emptied first where the whole file comes anew)."""
    if response.status_code == requests.codes.partial_content:
        return _agree_to_resume(response, partial, slice_bytes)
    if response.status_code == requests.codes.requested_range_not_satisfiable:
        if _range(response) == (None, partial.size):
            return False  # all of it was here already
        partial.restart(None, None, slice_bytes)
        raise Trouble("the file there is shorter than what came of it before; starting over")
    validator, total = announced(response)
    if size is not None and total is not None and total != size:
        raise Refusal(f"offers {total:,} bytes, params.yaml expects {size:,}")
    partial.restart(validator, total, slice_bytes)
    return True


def announced(response: requests.Response) -> tuple[str | None, int | None]:
    """By what the server knows the file again (see `_validator`) and its size, from the head of a whole answer.

    Raises Trouble where a later attempt may do better, and Refusal where the answer is not the file.
    """
    if response.status_code in RETRIED:
        seconds = _retry_after(response.headers.get("Retry-After"))
        if seconds > PATIENCE_S:
            raise Refusal(f"answered {_status(response)} and asks to wait {seconds:,.0f} s")
        raise Trouble(f"answered {_status(response)}", seconds)
    if response.status_code != requests.codes.ok:
        raise Refusal(f"answered {_status(response)}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise Refusal("answered with a web page (a login, perhaps) in place of an archive")
    length = response.headers.get("Content-Length", "")
    return _validator(response), int(length) if length.isdigit() else None


def _agree_to_resume(response: requests.Response, partial: Partial, slice_bytes: int | None) -> bool:
    start, total = _range(response)
    same = _validator(response) in (None, partial.validator) and partial.total in (None, total)
    if start == partial.size and same:
        return True
    partial.restart(None, None, slice_bytes)
    raise Trouble("the file there has changed since its first part came; starting over")


def _keep(response: requests.Response, partial: Partial) -> None:
    """Append the body to `partial`. Raises Trouble where it ends before the announced length."""
    missing = None if partial.total is None else partial.total - partial.size
    if missing is not None and missing > free_bytes(partial.path.parent):
        raise StageError(
            f"{partial.path.parent} has {free_bytes(partial.path.parent):,} bytes free, {missing:,} are still to come;"
            " make room, or set STROMA_CACHE to a folder on another disk"
        )
    with partial.path.open("ab") as file, Progress(f"fetching {partial.url}", missing, "B") as progress:
        progress.note = f"({partial.size:,} B were here)" if partial.size else ""
        # decode_content=False: a server that calls a tar.gz "gzip-encoded tar" would have it unpacked on the way.
        for block in response.raw.stream(PIECE, decode_content=False):
            file.write(block)
            partial.digest.update(block)
            progress.add(len(block))
    if partial.total is not None and partial.size != partial.total:
        raise Trouble(f"the line ended at byte {partial.size:,} of {partial.total:,}")


def _validator(response: requests.Response) -> str | None:
    """What If-Range can name: a strong ETag, else the time of the last change. A weak ETag promises no equal bytes."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _range(response: requests.Response) -> tuple[int | None, int | None]:
    """First byte and whole length of a Content-Range; None for what it does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", response.headers.get("Content-Range", ""))
    first, total = found.groups() if found else (None, None)
    return (int(first) if first else None), (int(total) if total and total != "*" else None)


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After asks for, given as seconds or as a date; 0 if it says nothing."""
    if not value:
        return 0.0
    if value.strip().isdigit():
        return float(value)
    try:
        return max((parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds(), 0.0)
    except (ValueError, TypeError):
        return 0.0


def _status(response: requests.Response) -> str:
    return f"{response.status_code} {response.reason or ''}".rstrip()


def meaning(error: Exception) -> Exception:  # noqa: PLR0911 - a table, one line a fault
    """Trouble or Refusal in our own words: the library's hold whole URLs, signatures of redirected ones included."""
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    if isinstance(error, requests.exceptions.SSLError):
        return Refusal("its certificate is not accepted")
    if isinstance(error, requests.exceptions.ProxyError):
        return Trouble("the proxy cannot be reached or refuses")
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return Trouble(f"no connection within {TIMEOUT_S[0]} s")
    if isinstance(error, requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError):
        return Trouble(f"nothing came for {TIMEOUT_S[1]} s")
    if isinstance(reason, urllib3.exceptions.NameResolutionError):
        return Trouble("the host's name cannot be resolved: offline?")
    if isinstance(reason, urllib3.exceptions.NewConnectionError):
        return Trouble("no connection: refused, or offline")
    if isinstance(error, requests.exceptions.ConnectionError | urllib3.exceptions.ProtocolError):
        return Trouble("the line was cut")
    return Refusal(f"cannot be fetched ({type(error).__name__})")
