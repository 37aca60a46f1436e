"""Merge as a whole on tiny archives: rows, stores, repeats, defects."""

import hashlib
import io
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_archives import (
    breakhis_members,
    breakhis_name,
    idc_members,
    idc_name,
    merge,
    picture,
    png,
    write_tar,
    write_zip,
)

from stages.merge.member import MAX_BYTES
from stages.merge.pool import CHUNK_BYTES


def test_each_image_has_one_row_and_its_pixels_stand_where_the_row_says(tmp_path: Path) -> None:
    idc = write_zip(tmp_path / "idc.zip", idc_members())
    breakhis = write_tar(tmp_path / "b.tar.gz", breakhis_members())
    manifest, stores = merge(tmp_path, idc=idc, breakhis=breakhis)
    assert len(manifest) == 8
    assert manifest["decode_error"].isna().all()
    for index, member in enumerate(idc_members()):
        row = manifest.loc[f"idc-{Path(member).stem}"]
        assert row["pixel_row"] == index
        assert np.array_equal(stores["idc"][index], picture(seed=index))
    assert stores["breakhis"].shape == (2, 230, 350, 3)
    row = manifest.loc["breakhis-SOB_B_A-14-22549AB-100-001"]
    assert (row["case_id"], row["slide_id"], row["label"], row["subtype"]) == (
        "breakhis-14-22549",
        "14-22549AB",
        0,
        "A",
    )
    assert (row["width"], row["height"], row["mode"], row["padded"]) == (700, 460, "RGB", False)


def test_hashes_are_of_the_file_and_of_size_and_rgb_bytes(tmp_path: Path) -> None:
    data = png(picture())
    manifest, _ = merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", {idc_name(): data}))
    row = manifest.iloc[0]
    assert row["sha256"] == hashlib.sha256(data).hexdigest()
    assert row["pixel_sha256"] == hashlib.sha256(struct.pack(">II", 50, 50) + picture().tobytes()).hexdigest()
    assert row["bytes"] == len(data)


@pytest.mark.parametrize("kind", ["zip", "deflated", "tar", "tar.gz", "tar.bz2", "tar.xz"])
def test_every_kind_of_archive_gives_the_same_rows_and_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "named-without-meaning"
    if kind in ("zip", "deflated"):
        write_zip(path, idc_members(), zipfile.ZIP_DEFLATED if kind == "deflated" else zipfile.ZIP_STORED)
    else:
        write_tar(path, idc_members(), kind.removeprefix("tar").removeprefix("."))
    manifest, stores = merge(tmp_path, idc=path)
    assert np.array_equal(stores["idc"], [picture(seed=index) for index in range(6)])
    assert manifest["decode_error"].isna().all()


def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    names = [idc_name(x=1 + 50 * (i % 70), y=1 + 50 * (i // 70)) for i in range(900)]  # four chunks
    members = {name: png(picture(seed=index % 9)) for index, name in enumerate(names)}
    members[names[400]] = b"no image"
    archives = {
        "idc": write_zip(tmp_path / "idc.zip", members),
        "breakhis": write_tar(tmp_path / "b.tar.gz", breakhis_members(6)),
    }
    seen = []
    for workers in (1, 2, 5):
        folder = tmp_path / str(workers)
        merge(folder, workers, **archives)
        seen.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("data/**/*.npy"))])
        seen[-1].append(hashlib.sha256((folder / "data/manifest.parquet").read_bytes()).hexdigest())
    assert seen[0] == seen[1] == seen[2]


def test_the_nested_duplicate_is_counted_and_not_decoded_again(tmp_path: Path) -> None:
    once = idc_members(3)
    members = {**once, **{f"IDC_regular_ps50_idx5/{name}": data for name, data in once.items()}}
    for index, path in enumerate([write_zip(tmp_path / "a.zip", members), write_tar(tmp_path / "a.tar.gz", members)]):
        manifest, stores = merge(tmp_path / str(index), idc=path)
        assert manifest["copies"].tolist() == [2, 2, 2]
        assert manifest["member"].tolist() == sorted(once)
        assert len(stores["idc"]) == 3


@pytest.mark.parametrize("kind", ["zip", "", "gz"])
def test_one_name_with_two_contents_is_a_conflict_and_the_first_is_kept(tmp_path: Path, kind: str) -> None:
    members = {idc_name(): png(picture(seed=1)), f"again/{idc_name()}": png(picture(seed=2))}
    path = tmp_path / "archive"
    manifest, stores = merge(
        tmp_path, idc=write_zip(path, members) if kind == "zip" else write_tar(path, members, kind)
    )
    assert manifest["decode_error"].item() == f"name_conflict: again/{idc_name()} has other bytes"
    assert np.array_equal(stores["idc"], [picture(seed=1)])


def test_what_cannot_be_read_has_a_row_and_uses_no_pixels(tmp_path: Path) -> None:
    members = {
        "__MACOSX/8863/._junk": b"junk",
        "README.txt": b"read me",
        idc_name(x=1): png(picture(seed=1)),
        idc_name(x=51): b"no image at all",
        idc_name(x=101): png(picture(seed=2))[:-60],
        "8863/1/8863_idx5_x151_y1_class0.png": png(picture(seed=3)),
        idc_name(x=201): png(picture(60, 50)),
        idc_name(x=251): png(picture(seed=4)),
    }
    manifest, stores = merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", members))
    assert np.array_equal(stores["idc"], [picture(seed=1), picture(seed=4)])
    assert manifest.loc["idc-8863_idx5_x251_y1_class0", "pixel_row"] == 1
    errors = manifest["decode_error"].dropna()
    assert errors["idc-README.txt"].startswith("name does not match")
    assert errors["idc-._junk"].startswith("name does not match")
    assert errors["idc-8863_idx5_x51_y1_class0"] == "unreadable: not a PNG"
    assert errors["idc-8863_idx5_x101_y1_class0"].startswith("unreadable: ")
    assert errors["idc-8863_idx5_x151_y1_class0"].startswith("name and folder disagree")
    assert errors["idc-8863_idx5_x201_y1_class0"] == "60x50 pixels, at most 50x50 are published"
    assert len(errors) == 6
    assert manifest.loc[errors.index, "pixel_row"].isna().all()
    assert manifest.loc[errors.index, "sha256"].notna().all()


def test_edge_patches_are_padded_and_flagged(tmp_path: Path) -> None:
    members = {idc_name(x=1): png(picture(50, 42)), idc_name(x=51): png(picture(2, 1)), idc_name(x=101): png(picture())}
    manifest, stores = merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", members))
    by_row = manifest.sort_values("pixel_row")
    assert by_row["padded"].tolist() == [True, True, False]
    assert by_row["width"].tolist() == [50, 2, 50]
    assert np.array_equal(stores["idc"][0][:42], picture(50, 42))


def test_an_absent_source_has_an_empty_store_and_no_rows(tmp_path: Path) -> None:
    manifest, stores = merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", idc_members()))
    assert stores["breakhis"].shape == (0, 230, 350, 3)
    assert set(manifest["source"]) == {"idc"}


def test_a_hostile_zip_is_refused_member_by_member(tmp_path: Path) -> None:
    good = idc_name(x=1)
    path = tmp_path / "hostile.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"../../{good}", png(picture(seed=1)))
        archive.writestr(f"/etc/{good}", png(picture(seed=1)))
        link = zipfile.ZipInfo(idc_name(x=51))
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr(idc_name(x=101), bytes(5 << 20), zipfile.ZIP_DEFLATED)
        archive.writestr(idc_name(x=151), bytes(MAX_BYTES + 1))
        archive.writestr(idc_name(x=201), png(picture()), zipfile.ZIP_BZIP2)
        archive.writestr(good, png(picture(seed=1)))
        archive.writestr("secret.png", b"x")
    data = path.read_bytes()
    at = data.rindex(b"PK\1\2")
    path.write_bytes(data[: at + 8] + b"\1" + data[at + 9 :])  # the encryption flag of the last entry
    manifest, stores = merge(tmp_path, idc=path)
    errors = manifest["decode_error"]
    assert np.array_equal(stores["idc"], [picture(seed=1)])
    assert errors.isna().sum() == 1
    refused = {member: errors[f"idc-/{member}"] for member in manifest.loc[errors.notna(), "member"]}
    assert "leads out" in refused[f"../../{good}"]
    assert "absolute" in refused[f"/etc/{good}"]
    assert "symbolic link" in refused[idc_name(x=51)]
    assert "decompression bomb" in refused[idc_name(x=101)]
    assert f"more than the {MAX_BYTES:,}" in refused[idc_name(x=151)]
    assert "compression method 12" in refused[idc_name(x=201)]
    assert "encrypted" in refused["secret.png"]
    assert all(text.startswith("refused: ") for text in refused.values())


@pytest.mark.parametrize("compression", ["", "gz"])
def test_a_hostile_tar_is_refused_member_by_member(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "hostile"
    with tarfile.open(path, f"w:{compression}") as archive:
        for name, kind in {"link.png": tarfile.SYMTYPE, "hard.png": tarfile.LNKTYPE, "null": tarfile.CHRTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        for name, size in {f"../{breakhis_name()}": 3, "/abs.png": 3, "huge.png": MAX_BYTES + 1}.items():
            info = tarfile.TarInfo(name)
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
        info = tarfile.TarInfo(breakhis_name())
        data = png(picture(700, 460))
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    manifest, stores = merge(tmp_path, breakhis=path)
    errors = manifest["decode_error"].dropna().to_dict()
    assert len(stores["breakhis"]) == 1
    assert "symbolic link" in errors["breakhis-/link.png"]
    assert "hard link" in errors["breakhis-/hard.png"]
    assert "device" in errors["breakhis-/null"]
    assert "absolute" in errors["breakhis-//abs.png"]
    assert "more than" in errors["breakhis-/huge.png"]
    assert "leads out" in errors[f"breakhis-/../{breakhis_name()}"]


def test_a_zip_member_whose_bytes_do_not_match_its_crc_is_an_error_of_that_member(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "idc.zip", idc_members(3))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 9] ^= 1
    path.write_bytes(data)
    manifest, stores = merge(tmp_path, idc=path)
    assert "CRC differs" in manifest["decode_error"].dropna().item()
    assert len(stores["idc"]) == 2


@pytest.mark.real
def test_the_real_sample_is_read_whole(tmp_path: Path, real_data: Path) -> None:
    idc, breakhis = real_data / "idc_sample.zip", real_data / "breakhis_sample.tar.gz"
    manifest, stores = merge(tmp_path, 2, idc=idc, breakhis=breakhis)
    assert manifest["decode_error"].isna().all()
    assert manifest.groupby("source").size().to_dict() == {"breakhis": 165, "idc": 17_753}
    patches = manifest[manifest["source"] == "idc"]
    assert patches["padded"].mean() == pytest.approx(0.0094, abs=0.0005)  # counted by the publishers' users: 0.94 %
    twins = manifest.loc[[f"breakhis-SOB_M_{subtype}-14-13412-100-003" for subtype in ("DC", "LC")]]
    assert twins["sha256"].nunique() == 2
    assert twins["pixel_sha256"].nunique() == 1
    first, second = (stores["breakhis"][row] for row in twins["pixel_row"])
    assert np.array_equal(first, second)
    with zipfile.ZipFile(idc) as archive:
        row = patches[~patches["padded"].astype(bool)].iloc[-1]
        expected = np.asarray(Image.open(io.BytesIO(archive.read(row["member"]))).convert("RGB"))
    assert np.array_equal(stores["idc"][row["pixel_row"]], expected)


def test_a_foreign_file_named_as_an_image_without_suffix_is_a_row_of_its_own(tmp_path: Path) -> None:
    members = {idc_name(): png(picture()), idc_name().removesuffix(".png"): b"notes"}
    manifest, _ = merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", members))
    assert manifest["image_id"].is_unique
    assert manifest["decode_error"].isna().sum() == 1


def test_streamed_images_larger_than_a_slot_are_decoded_too(tmp_path: Path) -> None:
    noise = picture(1200, 900)
    members = {**breakhis_members(3), breakhis_name(number=9): png(noise, compress_level=0)}
    manifest, stores = merge(tmp_path, breakhis=write_tar(tmp_path / "b.tar.gz", members))
    assert manifest["decode_error"].isna().all()
    assert manifest["bytes"].max() > CHUNK_BYTES
    assert len(stores["breakhis"]) == 4
