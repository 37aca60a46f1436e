"""Tiny archives in the publishers' layouts, and merge run on them."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.contracts.pixels import open_pixels
from stages.contracts.tables import read_table
from stages.merge.decode import Frame
from stages.merge.ingest import ingest
from stages.merge.pool import Decoders

FRAMES = {"breakhis": Frame(230, 350, reduces=True), "idc": Frame(50, 50, reduces=False)}
SLIDE = "BreaKHis_v1/histology_slides/breast/benign/SOB/adenosis/SOB_B_A_14-22549AB"


def picture(width: int = 50, height: int = 50, seed: int = 0) -> np.ndarray:
    """Noise, uint8 (height, width, 3)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray, mode: str = "RGB", **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, "PNG", **options)
    return out.getvalue()


def idc_name(case: int = 8863, x: int = 1, y: int = 1, label: int = 0) -> str:
    return f"{case}/{label}/{case}_idx5_x{x}_y{y}_class{label}.png"


def breakhis_name(magnification: int = 100, number: int = 1) -> str:
    return f"{SLIDE}/{magnification}X/SOB_B_A-14-22549AB-{magnification}-{number:03}.png"


def idc_members(count: int = 6) -> dict[str, bytes]:
    return {idc_name(x=1 + 50 * i, label=i % 2): png(picture(seed=i)) for i in range(count)}


def breakhis_members(count: int = 2) -> dict[str, bytes]:
    return {breakhis_name(number=i + 1): png(picture(700, 460, seed=i)) for i in range(count)}


def write_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return path


def write_tar(path: Path, members: dict[str, bytes], compression: str = "gz") -> Path:
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def lay_out(folder: Path, **archives: Path) -> dict[str, Path]:
    """data/raw/<source>/ as the download stage leaves it, for the given archives; the other source is absent."""
    raw = {source: folder / "data/raw" / source for source in FRAMES}
    for source, place in raw.items():
        place.mkdir(parents=True, exist_ok=True)
        archive = archives.get(source)
        about = {"source": source, "kind": "given", "present": archive is not None, "sha256": "00", "reason": None}
        about["file"] = None if archive is None else archive.name
        if archive is not None and not (place / archive.name).exists():
            (place / archive.name).symlink_to(archive.resolve())
        (place / "source.json").write_text(json.dumps(about))
    return raw


def merge(folder: Path, workers: int = 1, **archives: Path) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Manifest indexed by image id, and the pixel stores."""
    raw = lay_out(folder, **archives)
    with Decoders(350 * 230 * 3, workers) as decoders:
        ingest(raw, FRAMES, folder / "data", decoders)
    stores = {source: open_pixels(folder / f"data/pixels/{source}.npy") for source in FRAMES}
    return read_table(folder / "data/manifest.parquet").set_index("image_id", drop=False), stores


def outputs(folder: Path) -> list[str]:
    """Every file under data/ but data/raw, half written ones included."""
    data = folder / "data"
    files = [path.relative_to(data) for path in data.rglob("*") if path.is_file() or path.is_symlink()]
    return sorted(str(path) for path in files if path.parts[0] != "raw")
