"""Files that appear whole or not at all, and the hashes by which they are known."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.contracts.errors import StageError


@contextmanager
def appearing(path: Path) -> Iterator[Path]:
    """Yield a hidden name beside `path`; rename it onto `path` when the block ends well, delete it otherwise.

    Serves files and folders. The hidden name is fixed (`.<name>.part`), so that what a killed run left behind is
    replaced by the next one, and is listed in .dvcignore, so that it never counts as an output.
    """
    part = path.with_name(f".{path.name}.part")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove(part)
    try:
        yield part
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        part.replace(path)
    except BaseException:
        remove(part)
        raise


def remove(path: Path) -> None:
    """Delete a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text atomically."""
    with appearing(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(value: Any, path: Path) -> None:
    """Write JSON atomically, with sorted keys and a final newline, so that equal values are equal bytes."""
    write_text(json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n", path)


def read_json(path: Path) -> Any:
    """Read JSON. Raises StageError when the file is absent or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is missing; `dvc repro` makes it") from None
    except ValueError as error:
        raise StageError(f"{path} is not JSON ({error}); delete it and run `dvc repro`") from None
