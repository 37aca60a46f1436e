"""The demo's archives: drawn images in the publishers' layouts and name grammars, with the defects of the real sets.

An archive is yielded member by member, so that none is ever in memory whole, and equal seeds are equal bytes.
"""

import gzip
import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stages.contracts.progress import Progress
from stages.download.anatomy import Temper
from stages.download.breakhis_tissue import draw_field
from stages.download.idc_tissue import draw_slide
from stages.download.params import DrawnBreakhis, DrawnIdc
from stages.download.png import png

Member = tuple[str, bytes]
"""Path inside an archive, and the file's bytes."""

IDC_FILE, BREAKHIS_FILE = "IDC_regular_ps50_idx5.zip", "BreaKHis_v1.tar.gz"
PATCH = 50
FIELD_HEIGHT, FIELD_WIDTH = 460, 700

FIRST_IDC_CASE = 17001
"""The release's numbers end at 16896: no drawn case can be taken for one of its cases, nor be in a published list."""

# As many cases of each subtype in a round of 20, so that 40 cases give 16 benign ones and at least 3 of each subtype.
ROUND = (
    "A",
    "DC",
    "F",
    "LC",
    "PT",
    "MC",
    "TA",
    "PC",
    "DC",
    "DC",
    "A",
    "DC",
    "F",
    "LC",
    "PT",
    "MC",
    "TA",
    "PC",
    "DC",
    "DC",
)

FOLDERS = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}
BENIGN = ("A", "F", "PT", "TA")
MAGNIFICATIONS = (40, 100, 200, 400)


@dataclass(frozen=True)
class Slide:
    """A slide of a drawn BreakHis case; `number` counts slides, `case` the accession numbers they belong to."""

    number: int
    case: int
    subtype: str
    year: int
    accession: int
    letters: str


def idc_members(params: DrawnIdc) -> Iterator[Member]:
    """The IDC tree as Kaggle packs it: every case at the top level, and all of it once more in a nested folder."""
    cases = [_idc_case(params, case) for case in range(params.cases)]
    members = sorted(member for case in cases for member in case)
    yield from members
    for name, content in members:
        yield f"IDC_regular_ps50_idx5/{name}", content


def _idc_case(params: DrawnIdc, case: int) -> list[Member]:
    """Patches of one drawn slide, cut on the 50-pixel grid; a patch is class 1 where half of it is tumour."""
    rng = np.random.default_rng([params.seed, case])
    columns = int(np.ceil(np.sqrt(1.35 * params.patches)))
    rows = int(np.ceil(params.patches / columns)) + 1
    # About 1 % of the patches are smaller than 50x50, all at the largest x or y of their case.
    width = columns * PATCH - (int(rng.integers(8, 45)) if case % 20 == 0 else 0)
    height = rows * PATCH - (int(rng.integers(8, 45)) if case % 20 == 10 else 0)
    slide, tumour = draw_slide(rng, height, width)
    left, top = (PATCH * int(rng.integers(2, 30)) + 1 for _ in "xy")
    number = FIRST_IDC_CASE + 7 * case + int(rng.integers(0, 7))
    members = []
    for row, column in _kept(rng, rows, columns, params.patches):
        box = np.s_[row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
        label = int(tumour[box].mean() >= 0.5)
        name = f"{number}_idx5_x{left + column * PATCH}_y{top + row * PATCH}_class{label}.png"
        members.append((f"{number}/{label}/{name}", png(slide[box])))
    if case == 1:
        name, content = members[-1]
        members[-1] = (name, content[: len(content) // 2])
    if case == 2:
        members.append((f"{number}/0/{number}_overview.png", png(slide[::4, ::4])))
    return members


def _kept(rng: np.random.Generator, rows: int, columns: int, patches: int) -> list[tuple[int, int]]:
    """The `patches` cells of the grid that lie nearest to the middle of a ragged piece of tissue."""
    ys, xs = np.mgrid[0:rows, 0:columns]
    far = np.hypot((ys + 0.5) / rows - 0.5, (xs + 0.5) / columns - 0.5) + rng.normal(0, 0.06, (rows, columns))
    nearest = np.sort(np.argsort(far, axis=None)[:patches])
    return [(int(cell // columns), int(cell % columns)) for cell in nearest]


def breakhis_slides(params: DrawnBreakhis) -> list[Slide]:
    """The slides of the drawn BreakHis, the last of each trouble that the real accession numbers give among them.

    22549 has two slides (AB and CD), 21998 has two of different subtypes (AB is PT, CD is F), 13412 stands under two
    subtypes (DC and LC) with the same images. All other numbers are made up.
    """
    numbers = np.random.default_rng([params.seed]).permutation(np.arange(30000, 39000))
    known = {"A": (22549, "AB", ("A", "CD")), "PT": (21998, "AB", ("F", "CD")), "DC": (13412, "", ("LC", ""))}
    slides: list[Slide] = []
    for case in range(params.cases):
        subtype = ROUND[case % len(ROUND)]
        accession, letters, sibling = known.pop(subtype, (int(numbers[case]), ("", "", "AB", "C")[case % 4], None))
        year = 15 if case == 7 else 14
        slides.append(Slide(len(slides), case, subtype, year, accession, letters))
        if sibling:
            slides.append(Slide(len(slides), case, sibling[0], year, accession, sibling[1]))
    return slides


def breakhis_members(params: DrawnBreakhis) -> Iterator[Member]:
    """The BreakHis tree as its authors pack it, drawn slide by slide."""
    slides = sorted(breakhis_slides(params), key=_folder)
    defects = {slide.subtype: slide for slide in slides}
    for slide in slides:
        malignant = slide.subtype not in BENIGN
        twin = slide.accession == 13412
        temper = Temper.drawn(np.random.default_rng([params.seed, slide.case]), malignant)
        for magnification in MAGNIFICATIONS:
            # The published set has one slide whose images at 100 are all 456 high.
            low = slide is defects["PC"] and magnification == 100
            for image in range(params.images):
                # The twins are drawn from one seed and differ in their compression: equal pixels, other bytes.
                who = [params.seed, slide.case, 0 if twin else slide.number + 1, magnification, image]
                subtype = "DC" if twin else slide.subtype
                size = (FIELD_WIDTH, FIELD_HEIGHT - 4 * low)
                drawn = draw_field(np.random.default_rng(who), temper, subtype, magnification, size)
                content = png(drawn, zlib.Z_DEFAULT_STRATEGY if twin and slide.subtype == "LC" else zlib.Z_RLE)
                if slide is defects["TA"] and (magnification, image) == (200, 0):
                    content = content[: len(content) // 2]
                name = f"{_stem(slide, '-')}-{magnification}-{image + 1:03d}.png"
                yield f"{_folder(slide)}/{magnification}X/{name}", content
    foreign = np.full((FIELD_HEIGHT, FIELD_WIDTH, 3), 232, np.uint8)
    yield f"{_folder(slides[0])}/100X/SOB_scale_bar.png", png(foreign)


def _stem(slide: Slide, hyphen: str) -> str:
    label = "B" if slide.subtype in BENIGN else "M"
    return f"SOB_{label}_{slide.subtype}{hyphen}{slide.year}-{slide.accession}{slide.letters}"


def _folder(slide: Slide) -> str:
    label = "benign" if slide.subtype in BENIGN else "malignant"
    subtype = FOLDERS[slide.subtype]
    return f"BreaKHis_v1/histology_slides/breast/{label}/SOB/{subtype}/{_stem(slide, '_')}"


def write_zip(members: Iterable[Member], path: Path) -> None:
    """Pack members into a zip. They are stored as they are (PNG is compressed already) and carry no real time."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            entry = zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content)


def write_tar_gz(members: Iterable[Member], path: Path) -> None:
    """Pack members into a tar.gz without compressing them again: stored blocks are quick to write and to read."""
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", compresslevel=0, fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def draw_idc(params: DrawnIdc, folder: Path) -> Path:
    """Draw the IDC archive into `folder`; returns its path."""
    with Progress("drawing IDC", 2 * params.cases * params.patches, "images") as progress:
        write_zip(_counted(idc_members(params), progress), folder / IDC_FILE)
    return folder / IDC_FILE


def draw_breakhis(params: DrawnBreakhis, folder: Path) -> Path:
    """Draw the BreakHis archive into `folder`; returns its path."""
    total = len(breakhis_slides(params)) * len(MAGNIFICATIONS) * params.images
    with Progress("drawing BreakHis", total, "images") as progress:
        write_tar_gz(_counted(breakhis_members(params), progress), folder / BREAKHIS_FILE)
    return folder / BREAKHIS_FILE


def _counted(members: Iterable[Member], progress: Progress) -> Iterator[Member]:
    for member in members:
        yield member
        progress.add(1)
