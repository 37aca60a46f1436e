"""The stage as a process: what it writes, what it leaves where it stops, and that its bytes do not change."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from drawn_manifest import breakhis_rows, frame_of, idc_rows, sources

from stages.contracts.errors import StageError
from stages.contracts.manifest import MANIFEST, QUARANTINE, write_manifest
from stages.contracts.sections import section
from stages.contracts.tables import read_metadata, read_table
from stages.validate.__main__ import work
from stages.validate.params import ProfileCounts

PARAMS = {
    "profile": "local",
    "threads": 1,
    "validate": {"blank_share": 0.99, "blur_variance": 0.0},
    "profiles": {
        "local": {
            "validate": {"counts": "bounds", "idc": {"images": 4, "cases": 3}, "breakhis": {"images": 4, "cases": 3}}
        }
    },
}


def rows() -> list[dict]:
    """Sound rows, and three that are not."""
    idc = idc_rows()
    idc[0]["mode"] = "L"
    idc[3]["pixel_sha256"] = idc[4]["pixel_sha256"]
    return idc + breakhis_rows()


def workplace(folder: Path, manifest: list[dict]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    write_manifest(frame_of(manifest), {"schema_version": 1, "sources": sources()}, folder / "data/manifest.parquet")
    return folder


def hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("data", "reports")
        for path in sorted((folder / part).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory, root: Path) -> tuple[Path, Path]:
    """The stage run in two processes that differ in what must not matter."""
    settings = [("1", "Asia/Tokyo", "C.UTF-8"), ("2", "America/Lima", "POSIX")]
    folders = [workplace(tmp_path_factory.mktemp(zone.rsplit("/", 1)[1]), rows()) for _, zone, _ in settings]
    runs = [
        subprocess.Popen(
            [sys.executable, "-m", "stages.validate"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": seed, "TZ": zone, "LC_ALL": locale},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for folder, (seed, zone, locale) in zip(folders, settings, strict=True)
    ]
    for run in runs:
        said, _ = run.communicate(timeout=300)
        assert run.returncode == 0, said
        assert "56 rows = 54 validated + 2 quarantined (1 duplicate_of, 1 mode)" in said
        assert len(said.splitlines()) == 2, said
    return folders[0], folders[1]


def test_bytes_do_not_depend_on_hash_seed_time_zone_folder_or_clock(twice: tuple[Path, Path]) -> None:
    one, other = map(hashes, twice)
    assert one == other
    assert "reports/data_docs/index.html" in one


def test_tables_keep_to_their_contracts_and_carry_the_mark(twice: tuple[Path, Path]) -> None:
    data = twice[0] / "data"
    validated, quarantined = read_table(data / "validated.parquet"), read_table(data / "quarantine.parquet")
    assert list(validated) == MANIFEST.names
    assert list(quarantined) == QUARANTINE.names
    assert len(validated) + len(quarantined) == len(read_table(data / "manifest.parquet"))
    manifest = read_metadata(data / "manifest.parquet")
    assert read_metadata(data / "validated.parquet") == {**manifest, "data": "real sample"}
    assert json.loads((twice[0] / "reports/validation.json").read_text())["data"] == "real sample"
    assert not (twice[0] / ".stroma/failed").exists()


def test_the_pages_ask_nothing_of_the_network_and_miss_no_file(twice: tuple[Path, Path]) -> None:
    docs = twice[0] / "reports/data_docs"
    pages = sorted(docs.rglob("*.html"))
    assert len(pages) == 15
    for page in pages:
        text = page.read_text()
        tags = re.findall(r"<(?:link|script|img)\b[^>]*", text)
        asked = [value for tag in tags for value in re.findall(r'(?:href|src)="?([^"\s>]+)', tag)]
        assert len(asked) > 8
        assert not [value for value in asked if not (page.parent / value).resolve().is_file()]
        assert not re.findall(r"url\(['\"]?https?:", text)
    for style in docs.rglob("*.css"):
        assert not re.findall(r"url\(['\"]?https?:|@import", style.read_text())


def test_the_pages_say_what_a_failure_means(twice: tuple[Path, Path]) -> None:
    page = next((twice[0] / "reports/data_docs/validations/idc").rglob("*.html")).read_text()
    assert "without alpha [else quarantined: mode]" in page
    assert "At least 1 malignant image [critical]" in page


def test_a_stop_shows_a_table_leaves_its_report_and_no_table_of_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workplace(tmp_path, rows()))
    written = ["data/validated.parquet", "data/quarantine.parquet", "reports/validation.json", "reports/data_docs"]
    work(PARAMS)
    assert all(Path(path).exists() for path in written)
    workplace(tmp_path, [row for row in rows() if row["source"] == "breakhis" or row["label"] == 0])
    with pytest.raises(StageError) as stop:
        work(PARAMS)
    lines = str(stop.value).splitlines()
    assert lines[0] == "the data breaks 1 critical rule, so nothing goes on"
    assert re.fullmatch(r"idc +At least 1 malignant image +0", lines[2])
    assert ".stroma/failed/validate/data_docs/index.html" in lines[-1]
    assert not any(Path(path).exists() for path in written)
    failed = Path(".stroma/failed/validate")
    assert json.loads((failed / "validation.json").read_text())["success"] is False
    assert (failed / "data_docs/index.html").exists()
    workplace(tmp_path, rows())
    work(PARAMS)
    assert not failed.exists()


def test_rows_that_break_a_critical_rule_are_named_in_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoiled = rows()
    spoiled[5]["archive_sha256"] = None
    monkeypatch.chdir(workplace(tmp_path, spoiled))
    with pytest.raises(StageError, match=r"archive_sha256 is never null +1 of 56 rows break it +idc-8863_idx5_x251"):
        work(PARAMS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"counts": "bounds", "idc": {"images": 4, "cases": 3}}, "needs both"),
        ({"counts": "published", "idc": {"images": 4, "cases": 3}}, "takes no bounds"),
        ({"counts": "exact"}, "counts = 'exact' is not allowed"),
        ({"counts": "published", "idcc": None}, "did you mean 'idc'"),
    ],
)
def test_counts_that_make_no_sense_are_refused(given: dict, message: str) -> None:
    with pytest.raises(StageError, match=re.escape(message)):
        section({"profiles": {"local": {"validate": given}}}, "profiles.local.validate", ProfileCounts)


def test_quarantined_rows_carry_the_values_that_broke_the_rule(twice: tuple[Path, Path]) -> None:
    quarantined = pd.read_parquet(twice[0] / "data/quarantine.parquet").set_index("image_id")["reason"]
    assert quarantined["idc-8863_idx5_x1_y1_class0"] == "mode: L"
    assert quarantined["idc-8863_idx5_x201_y1_class0"] == "duplicate_of: idc-8863_idx5_x151_y1_class0"
