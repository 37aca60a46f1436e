"""Data Docs as files that are the same in every run and look right without a network."""

import ast
import os
import re
import shutil
from pathlib import Path

from stages.contracts.files import appearing
from stages.validate.gate import Gate

ASSETS = Path(__file__).parent / "assets"
LOCAL = {
    "bootstrap-table.min.css": "bootstrap-table.min.css",
    "bootstrap.min.css": "bootstrap.min.css",
    "bootstrap-table-filter-control.css": "bootstrap-table-filter-control.min.css",
    "bootstrap-table-filter-control.min.css": "bootstrap-table-filter-control.min.css",
    "all.min.css": "icons.css",
    "jquery-3.7.1.min.js": "jquery.min.js",
    "popper.min.js": "popper.min.js",
    "bootstrap.min.js": "bootstrap.min.js",
    "bootstrap-table.min.js": "bootstrap-table.min.js",
    "bootstrap-table-filter-control.min.js": "bootstrap-table-filter-control.min.js",
}
"""What stands in for a file that the pages ask of the network. What is not named here they do without: the plots of
profiling (vega), a date picker for a date that never changes, colours for dark screens."""
KEPT = ("images/favicon.ico", "images/logo-long.png")
"""Of 4 MB of Great Expectations' own fonts and pictures, what the pages show."""

ASSET = re.compile(r'<link[^>]*?href="https?://[^"]*"[^>]*>|<script[^>]*?src="https?://[^"]*"[^>]*></script>')
LOGO = re.compile(r'src="https?://[^"]*/logo-long\.png[^"]*"')
FAVICON = re.compile(r'href="[./]*static/images/favicon\.ico"')
BACKGROUND = re.compile(r"background: url\('https?://[^']*'\)[^;]*;")
LOADED = re.compile(r"\d{8}T\d{6}\.\d{6}Z(?=</span>)")
FOOTER = re.compile(r"<footer>\s*<p>Stay current.*?</footer>", re.DOTALL)
LISTED = re.compile(r"(?<=data: )\[\{.*\}\](?=,\n)")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

INDEX_TABLE = {
    "'filterControl': 'datepicker'": "'filterControl': 'input'",
    "'sortName': 'run_time', 'sortOrder': 'desc'": "'sortName': 'asset_name', 'sortOrder': 'asc'",
}


def write_pages(gate: Gate, folder: Path) -> None:
    """Write the pages of what `gate` checked, whole or not at all."""
    with appearing(folder) as part:
        gate.build_pages(part)
        static = part / "static"
        for path in sorted(static.rglob("*")):
            if path.is_file() and path.relative_to(static).as_posix() not in KEPT:
                path.unlink()
        for name in sorted({*LOCAL.values(), "LICENSES.md"}):
            shutil.copyfile(ASSETS / name, static / name)
        for path in sorted(part.rglob("*.html")):
            root = os.path.relpath(static, path.parent)
            path.write_text(settled(path.read_text(encoding="utf-8"), root), encoding="utf-8")


def settled(page: str, static: str) -> str:
    """The page with local assets in place of the network's, and without what changes from run to run.

    static: relative path from the page to the folder of assets. Masked are the logo's time stamp, the random ids of
    sections that fold (numbered instead) and the time at which a batch was loaded; the lists of the index come in the
    order in which the file system happens to give the pages, and are sorted.
    """
    page = ASSET.sub(lambda found: _local(found.group(), static), page)
    page = LOGO.sub(f'src="{static}/images/logo-long.png"', page)
    page = FAVICON.sub(f'href="{static}/images/favicon.ico"', page)
    page = BACKGROUND.sub("", page)
    page = LOADED.sub("(not kept)", page)
    page = FOOTER.sub("", page)
    page = LISTED.sub(lambda found: repr(sorted(ast.literal_eval(found.group()), key=_name)), page)
    for asked, given in INDEX_TABLE.items():
        page = page.replace(asked, given)
    numbers = {found: f"{number:012d}" for number, found in enumerate(dict.fromkeys(UUID.findall(page)))}
    return UUID.sub(lambda found: numbers[found.group()], page)


def _local(tag: str, static: str) -> str:
    name = re.split(r"[?#]", re.findall(r'(?:href|src)="([^"]*)"', tag)[0])[0].rsplit("/", 1)[1]
    if name not in LOCAL:
        return ""
    here = f"{static}/{LOCAL[name]}"
    return f'<link rel="stylesheet" href="{here}">' if tag.startswith("<link") else f'<script src="{here}"></script>'


def _name(row: dict[str, str]) -> str:
    return row.get("asset_name", row["expectation_suite_name"])
