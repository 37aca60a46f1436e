"""The drawn archives: the publishers' layouts and grammars, their defects, and equal bytes from equal seeds."""

import hashlib
import io
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, write_text
from stages.contracts.sections import read_params, section
from stages.download.drawn import breakhis_slides, draw_breakhis, draw_idc
from stages.download.params import SECTIONS, DrawnBreakhis, DrawnIdc
from stages.download.place import place
from stages.download.png import png

ROOT = Path(__file__).parents[2]
IDC = re.compile(r"(?:IDC_regular_ps50_idx5/)?(\d+)/([01])/(\d+)_idx5_x(\d+)_y(\d+)_class([01])\.png")
BREAKHIS = re.compile(
    r"BreaKHis_v1/histology_slides/breast/(benign|malignant)/SOB/([a-z_]+)/SOB_([BM])_(A|F|PT|TA|DC|LC|MC|PC)_"
    r"(\d{2})-(\d+)([A-Z]{0,2})/(40|100|200|400)X/SOB_\3_\4-\5-\6\7-\8-(\d{3})\.png"
)
Files = dict[str, bytes]


@pytest.fixture(scope="module")
def idc(tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = draw_idc(DrawnIdc(cases=12, patches=12, seed=3), tmp_path_factory.mktemp("idc"))
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def breakhis(tmp_path_factory: pytest.TempPathFactory) -> Files:
    path = draw_breakhis(DrawnBreakhis(cases=8, images=1, seed=3), tmp_path_factory.mktemp("breakhis"))
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}


def pixels(content: bytes) -> np.ndarray | None:
    try:
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))
    except OSError:
        return None


def test_every_idc_name_but_one_is_as_published(idc: Files) -> None:
    foreign = [name for name in idc if not IDC.fullmatch(name)]
    assert len(foreign) == 2
    assert foreign[1] == f"IDC_regular_ps50_idx5/{foreign[0]}"
    for case, folder, again, x, y, label in (IDC.fullmatch(name).groups() for name in idc if name not in foreign):
        assert (case, folder) == (again, label)
        assert (int(x) % 50, int(y) % 50) == (1, 1)


def test_the_idc_tree_stands_twice_as_kaggle_packs_it(idc: Files) -> None:
    nested = {name for name in idc if name.startswith("IDC_regular")}
    assert len(nested) * 2 == len(idc)
    assert all(idc[name] == idc[name.removeprefix("IDC_regular_ps50_idx5/")] for name in nested)


def test_each_case_has_its_patches_and_most_cases_both_classes(idc: Files) -> None:
    patches = [IDC.fullmatch(name).groups() for name in idc if name[0].isdigit() and IDC.fullmatch(name)]
    assert set(Counter(case for case, *_ in patches).values()) == {12}
    both = Counter(case for case, _ in {(case, label) for case, label, *_ in patches})
    assert sum(count == 2 for count in both.values()) >= 6


def test_one_idc_file_is_unreadable(idc: Files) -> None:
    broken = [name for name, content in idc.items() if pixels(content) is None]
    assert len(broken) == 2
    assert all(IDC.fullmatch(name) for name in broken)


def test_odd_patches_lie_at_the_largest_x_or_y_of_their_case(idc: Files) -> None:
    reach: dict[str, list[int]] = {}
    odd = []
    for name, content in idc.items():
        found = IDC.fullmatch(name)
        if found is None or (image := pixels(content)) is None:
            continue
        case, x, y = found[1], int(found[4]), int(found[5])
        largest = reach.setdefault(case, [0, 0])
        largest[:] = max(largest[0], x), max(largest[1], y)
        if image.shape != (50, 50, 3):
            odd.append((case, x, y, image.shape))
    assert odd
    for case, x, y, (height, width, _) in odd:
        assert (width < 50 and x == reach[case][0]) or (height < 50 and y == reach[case][1])


def test_neighbouring_patches_are_of_one_tissue(idc: Files) -> None:
    places = {IDC.fullmatch(name).group(1, 4, 5): name for name in idc if IDC.fullmatch(name) and name[0].isdigit()}
    seams, jumps = [], []
    for (case, x, y), name in places.items():
        right = places.get((case, str(int(x) + 50), y))
        images = [pixels(idc[name]), pixels(idc[right])] if right else []
        if len(images) == 2 and all(image is not None and image.shape == (50, 50, 3) for image in images):
            left, other = (image.astype(float) for image in images)
            seams.append(np.abs(left[:, -1] - other[:, 0]).mean())
            jumps.append(np.abs(left[:, 20] - other[::-1, 30]).mean())
    assert len(seams) > 20
    assert np.mean(seams) < 0.6 * np.mean(jumps)


def test_every_breakhis_name_but_one_is_as_published(breakhis: Files) -> None:
    assert [Path(name).name for name in breakhis if not BREAKHIS.fullmatch(name)] == ["SOB_scale_bar.png"]


def test_all_subtypes_and_magnifications_are_drawn(breakhis: Files) -> None:
    found = [BREAKHIS.fullmatch(name) for name in breakhis]
    seen = {(name[4], int(name[8])) for name in found if name}
    assert seen == {(s, m) for s in ("A", "F", "PT", "TA", "DC", "LC", "MC", "PC") for m in (40, 100, 200, 400)}
    for name in filter(None, found):
        assert (name[1] == "benign") == (name[3] == "B") == (name[4] in ("A", "F", "PT", "TA"))


def test_the_twins_have_equal_pixels_and_different_bytes(breakhis: Files) -> None:
    ductal = [name for name in breakhis if "SOB_M_DC-14-13412-" in name]
    assert len(ductal) == 4
    for name in ductal:
        twin = name.replace("_DC", "_LC").replace("ductal", "lobular")
        assert breakhis[name] != breakhis[twin]
        assert np.array_equal(pixels(breakhis[name]), pixels(breakhis[twin]))


def test_sizes_are_those_of_the_real_set_and_one_file_is_unreadable(breakhis: Files) -> None:
    images = {name: pixels(content) for name, content in breakhis.items()}
    assert sum(image is None for image in images.values()) == 1
    low = [name for name, image in images.items() if image is not None and image.shape == (456, 700, 3)]
    assert len(low) == 1
    assert "_PC-" in low[0]
    assert "-100-" in low[0]
    assert {image.shape for image in images.values() if image is not None} == {(460, 700, 3), (456, 700, 3)}


def test_forty_cases_hold_every_subtype_three_times_sixteen_benign_and_the_siblings() -> None:
    slides = breakhis_slides(DrawnBreakhis(cases=40, images=1, seed=12))
    cases = {(slide.year, slide.accession) for slide in slides}
    assert len(cases) == 40
    held = Counter(subtype for subtype, _ in {(slide.subtype, slide.accession) for slide in slides})
    assert min(held.values()) >= 3
    assert len({slide.accession for slide in slides if slide.subtype in ("A", "F", "PT", "TA")}) == 16
    letters = {slide.letters: slide.subtype for slide in slides if slide.accession == 22549}
    assert letters == {"AB": "A", "CD": "A"}
    assert {slide.subtype for slide in slides if slide.accession == 21998} == {"PT", "F"}


DRAW = """
from pathlib import Path
from stages.download.drawn import draw_breakhis, draw_idc
from stages.download.params import DrawnBreakhis, DrawnIdc
draw_idc(DrawnIdc(cases=4, patches=6, seed=5), Path("."))
draw_breakhis(DrawnBreakhis(cases=8, images=1, seed=5), Path("."))
"""


def drawn_by_itself(folder: Path, hash_seed: str) -> list[str]:
    """sha256 of both archives, drawn by a process of its own."""
    folder.mkdir()
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", DRAW], cwd=folder, env=environment, check=True)
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())]


def test_equal_seeds_draw_equal_bytes_in_any_process_and_others_do_not(tmp_path: Path) -> None:
    first = drawn_by_itself(tmp_path / "a", "1")
    assert first == drawn_by_itself(tmp_path / "b", "2")
    other = draw_idc(DrawnIdc(cases=4, patches=6, seed=6), tmp_path)
    assert hashlib.sha256(other.read_bytes()).hexdigest() not in first


def test_the_demo_says_of_itself_that_it_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    params = {"profile": "demo", "profiles": {"demo": {"idc": {"cases": 4, "patches": 4, "seed": 1}}}}
    said = place(params, "idc")
    record = read_json(tmp_path / "data/raw/idc/source.json")
    archive = tmp_path / "data/raw/idc" / record["file"]
    assert "drawn" in said
    assert (record["kind"], record["licence"], record["url"]) == ("drawn", "none (drawn)", None)
    assert record["size"] == archive.stat().st_size
    assert record["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_png_reads_back_as_it_was() -> None:
    image = np.random.default_rng(0).integers(0, 256, (7, 5, 3), np.uint8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png(image)))), image)


def test_the_params_of_the_repository_are_accepted() -> None:
    params = read_params(ROOT / "params.yaml")
    for key, model in SECTIONS.items():
        section(params, key, model)


@pytest.mark.parametrize(
    ("key", "change", "fault"),
    [
        ("profiles.full.idc", {"urls": ["ftp://a/b.zip"]}, "http://"),
        ("profiles.full.idc", {"urls": ["https://me:secret@a/b.zip"]}, "must not hold a password"),
        ("profiles.full.idc", {"file": "../b.zip"}, "bare name"),
        ("profiles.full.idc", {"slices": {"bytes": 1, "sha256": ["abc"]}}, "pattern"),
        ("profiles.demo.idc", {"patchs": 3}, "did you mean 'patches'"),
        ("profiles.demo.breakhis", {"cases": 3}, "greater than or equal to 8"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(key: str, change: dict[str, object], fault: str) -> None:
    _, profile, source = key.split(".")
    profiles = read_params(ROOT / "params.yaml")["profiles"]
    value = profiles[profile][source] | change
    with pytest.raises(StageError, match=fault) as caught:
        section({"profiles": {profile: {source: value}}}, key, SECTIONS[key])
    assert key in str(caught.value)


def test_the_door_lays_out_a_source_or_says_why_not(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "STROMA_CACHE": str(tmp_path / "cache")}
    write_text(
        "{profile: local, threads: 1, profiles: {local: {idc: null, breakhis: gone.tar.gz}}}\n",
        tmp_path / "params.yaml",
    )
    ran = [
        subprocess.run(
            [sys.executable, "-m", "stages.download", source],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for source in ("idc", "breakhis", "camelyon")
    ]
    assert [process.returncode for process in ran] == [0, 1, 1]
    assert "idc is absent: profiles.local.idc is null" in ran[0].stdout
    assert "does not exist" in ran[1].stderr
    assert "no source 'camelyon'" in ran[2].stderr
    assert not (tmp_path / "data/raw/breakhis").exists()
