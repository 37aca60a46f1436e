"""The second door of download: `python -m stages.download.refresh idc|breakhis` looks whether a source has changed."""

import os
import time
from typing import TYPE_CHECKING

from stages.contracts.door import enter
from stages.contracts.sections import Params, params_root

if TYPE_CHECKING:
    from stages.download.fingerprint import Fingerprint


def work(params: Params, source: str) -> str:
    """Write sources/<source>.json anew; says whether the content is another than before."""
    from stages.download.fingerprint import Fingerprint, of_given, of_published
    from stages.download.place import sought
    from stages.download.published import kaggle_login
    from stages.download.store import archives_folder

    profile, key, value = sought(params, source)
    last = Fingerprint.read(source)
    if profile == "demo":
        now = Fingerprint(source, "drawn")
    elif profile == "local":
        now = of_given(source, key, value, params_root(os.environ), archives_folder(os.environ))
    else:
        now = of_published(source, value, last, lambda url: kaggle_login(url, os.environ), time.sleep)
    if now == last:
        return f"{source} is as it was"
    now.write()
    return f"{source} has changed: {_told(now)}"


def _told(now: "Fingerprint") -> str:
    known = {"etag": now.etag, "size": now.size, "sha256": now.sha256 and now.sha256[:12]}
    return ", ".join([now.kind, *(f"{name} {value}" for name, value in known.items() if value is not None)])


if __name__ == "__main__":
    enter("download.refresh", work, argument="source")
