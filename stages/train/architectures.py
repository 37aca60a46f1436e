"""Which architectures a recipe may name."""

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def architectures() -> frozenset[str]:
    """Every name that timm's registry and our own networks hold, read from their sources.

    Importing timm to ask it takes seconds of torch; the decorated functions in its files say the same in 40 ms.
    tests/train holds this against timm.list_models(). `headed` is no name for a recipe: its `head` asks for it.
    """
    spec = find_spec("timm")
    files = [Path(__file__).parents[1] / "contracts" / "networks.py"]
    if spec is not None and spec.origin is not None:
        files += sorted((Path(spec.origin).parent / "models").rglob("*.py"))
    registered = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    names = {name for file in files for name in registered.findall(file.read_text(encoding="utf-8"))}
    return frozenset(names - {"headed"})


def known_architecture(arch: str) -> str:
    """The name itself. Raises ValueError with the nearest ones if nothing is registered under it."""
    if arch.partition(".")[0] not in architectures():
        close = difflib.get_close_matches(arch, sorted(architectures()), n=3)
        meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
        raise ValueError(f"not one of the {len(architectures()):,} names in timm and contracts/networks{meant}")
    return arch
