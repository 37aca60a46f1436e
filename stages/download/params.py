"""What the download room reads of params.yaml: the profile, and per profile what it gives for each source."""

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from stages.contracts.sections import Profile, Section


class DrawnIdc(Section):
    """profiles.demo.idc: how many cases to draw, how many patches of each, and the seed of the drawing."""

    cases: int = Field(ge=4, le=900)
    patches: int = Field(ge=4, le=2000)
    seed: int = Field(ge=0)


class DrawnBreakhis(Section):
    """profiles.demo.breakhis: how many cases to draw (at least one of each subtype), and the seed of the drawing.

    images: how many of each slide at each magnification.
    """

    cases: int = Field(ge=8, le=900)
    images: int = Field(ge=1, le=999)
    seed: int = Field(ge=0)


def _plain_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected a URL that starts with http:// or https://")
    if parts.username or parts.password:
        raise ValueError("a URL must not hold a password; params.yaml is kept in git")
    return url


def _plain_name(name: str) -> str:
    if "/" in name or name.startswith(".") or name == "source.json":
        raise ValueError("expected the bare name of an archive, such as BreaKHis_v1.tar.gz")
    return name


Url = Annotated[str, AfterValidator(_plain_url)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Slices(Section):
    """sha256 of each run of `bytes` bytes of a file; the last run may be shorter."""

    bytes: int = Field(ge=1)
    sha256: tuple[Sha256, ...] = Field(min_length=1)


class Published(Section):
    """profiles.full.<source>: where a publisher's archive is fetched, and what is known of it (null = unknown)."""

    urls: tuple[Url, ...] = Field(min_length=1)
    file: Annotated[str, Field(min_length=1), AfterValidator(_plain_name)]
    licence: str | None
    size: int | None = Field(ge=1)
    slices: Slices | None


Given = Annotated[str, Field(min_length=1)] | None
"""profiles.local.<source>: PATH of an archive or a folder, from the repository's root; null if there is none."""

SECTIONS: dict[str, Any] = {
    "profile": Profile,
    "profiles.demo.idc": DrawnIdc,
    "profiles.demo.breakhis": DrawnBreakhis,
    "profiles.local.idc": Given,
    "profiles.local.breakhis": Given,
    "profiles.full.idc": Published,
    "profiles.full.breakhis": Published,
}
