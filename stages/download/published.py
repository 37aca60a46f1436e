"""The publisher's archive, whole and verified, from the store or else from the first of its URLs that gives it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from stages.contracts.errors import StageError
from stages.download.fingerprint import Fingerprint
from stages.download.params import Published
from stages.download.store import Known, is_archive, know, locked
from stages.download.transfer import Partial, Refusal, download

KAGGLE = "www.kaggle.com"


def fetch(
    source: str,
    wanted: Published,
    store: Path,
    environment: Mapping[str, str],
    wait: Callable[[float], None],
    *,
    seen: Fingerprint | None = None,
) -> tuple[Path, Known]:
    """The archive's path below the folder `store`, and what is known of it; fetched only if it is not there yet.

    environment: where Kaggle's credentials are looked for. wait: sleeps so many seconds between two attempts. seen: how
    the publisher's archive was last seen; one that was fetched before it changed stays, and the new one is fetched
    beside it, so that an older commit still finds its own. Raises StageError where no URL gives it, or where what came
    differs from what `wanted` expects.
    """
    slice_bytes = wanted.slices.bytes if wanted.slices else None
    store = _home(wanted, store, seen, slice_bytes)
    archive = store / wanted.file
    with locked(archive):
        for path in (archive, _mismatch(archive)):
            known = know(path, _record(path), slice_bytes)
            if known is not None:
                return _settle(source, wanted, path, known)
        refusals: dict[str, str] = {}
        for url in wanted.urls:
            partial = Partial.find(archive, url, slice_bytes)
            try:
                download(partial, wanted.size, slice_bytes, kaggle_login(url, environment), wait)
            except Refusal as refusal:
                refusals[url] = str(refusal)
                continue
            known = Known.of(partial.path, partial.digest, slice_bytes, url, partial.validator)
            return _settle(source, wanted, partial.path, known)
        raise StageError(_refused(source, wanted, store, refusals))


def _home(wanted: Published, store: Path, seen: Fingerprint | None, slice_bytes: int | None) -> Path:
    """The folder of the archive that was `seen`: `store` itself, or one beside it where `store` holds an older one."""
    archive = store / wanted.file
    if seen is None or seen.kind != "published":
        return store
    with locked(archive):
        known = know(archive, _record(archive), slice_bytes)
    # What another URL gave, or a person laid down by hand, cannot be told from a later one: it stays in use.
    if known is None or known.url != seen.url or known.etag in (None, seen.etag or known.etag):
        return store
    folder = store / seen.key
    folder.mkdir(exist_ok=True)
    return folder


def _mismatch(archive: Path) -> Path:
    return archive.with_name(f"{archive.name}.mismatch")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json" if path.suffix == ".mismatch" else f"{path.name}.verified.json")


def _settle(source: str, wanted: Published, path: Path, known: Known) -> tuple[Path, Known]:
    """Give a whole file its name: the archive's, or, if it is not what is wanted, one that is never used silently."""
    archive = path.with_name(wanted.file)
    faults = known.faults(wanted.size, wanted.slices)
    if not is_archive(path):
        faults = ["it is neither a zip nor a tar", *faults]
    target = _mismatch(archive) if faults else archive
    known.write(_record(target))
    path.replace(target)
    for leftover in (set(archive.parent.glob(f"{archive.name}.*.partial*")) | {_record(path)}) - {_record(target)}:
        leftover.unlink(missing_ok=True)
    if faults:
        raise StageError(_mismatched(source, wanted, target, known, faults))
    return target, known


def _mismatched(source: str, wanted: Published, path: Path, known: Known, faults: list[str]) -> str:
    came = f"came whole from {known.url}" if known.url else "was found in the store"
    trust = f"If you trust it, use profile: local with profiles.local.{source}: {path}"
    if wanted.slices:
        trust += (
            f", or write what came into profiles.full.{source} (size: {known.size},"
            f" slices.sha256: [{', '.join(known.slices)}]); it is then taken without another download"
        )
    lines = [f"{wanted.file} {came}, but is not what params.yaml expects:", *(f"  {fault}" for fault in faults)]
    if any("sha256" in fault for fault in faults):
        lines.append("The expected sha256 is that of a third-party copy, so a mismatch means look, not corrupt.")
    lines.append(f"The file is kept as {path} and is not used. {trust}. To fetch it anew, delete it.")
    return "\n".join(lines)


def _refused(source: str, wanted: Published, store: Path, refusals: Mapping[str, str]) -> str:
    lines = [f"{wanted.file} could not be fetched:", *(f"  {url}: {why}" for url, why in refusals.items())]
    begun = sum(path.stat().st_size for path in store.glob(f"{wanted.file}.*.partial"))
    if begun:
        lines.append(f"{begun:,} bytes came and are kept in {store}; the next run goes on from there.")
    if any(urlsplit(url).hostname == KAGGLE for url in refusals):
        lines.append("Kaggle may want a login: set KAGGLE_USERNAME and KAGGLE_KEY, or write ~/.kaggle/kaggle.json.")
    lines.append(
        f"By hand: fetch it with a browser, then set profile: local and profiles.local.{source}: PATH in params.yaml,"
        f" or keep profile: full and lay it down as {store / wanted.file}."
    )
    return "\n".join(lines)


def kaggle_login(url: str, environment: Mapping[str, str]) -> tuple[str, str] | None:
    """User and key for Kaggle's own host, from KAGGLE_USERNAME and KAGGLE_KEY or kaggle.json; None for any other host.

    None also where nothing is set: the request then goes anonymously. Raises StageError if kaggle.json is unreadable.
    """
    parts = urlsplit(url)
    if (parts.scheme, parts.hostname) != ("https", KAGGLE):
        return None
    user, key = environment.get("KAGGLE_USERNAME"), environment.get("KAGGLE_KEY")
    if user and key:
        return user, key
    home = environment.get("KAGGLE_CONFIG_DIR") or f"{environment.get('HOME') or Path.home()}/.kaggle"
    file = Path(home).expanduser() / "kaggle.json"
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return str(content["username"]), str(content["key"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StageError(
            f"{file} is not readable as Kaggle writes it ({type(error).__name__}); expected username and key."
            " Mend it, delete it to go anonymously, or set KAGGLE_USERNAME and KAGGLE_KEY"
        ) from None
