"""Archives that the user gives: linked, never touched."""

import hashlib
import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from stages.contracts.errors import StageError
from stages.contracts.files import read_json
from stages.download.given import given_archive
from stages.download.place import place


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository to stand in, with the store beside it."""
    monkeypatch.setenv("STROMA_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "repository"
    root.mkdir()
    monkeypatch.chdir(root)
    return root


def params(idc: object) -> dict[str, object]:
    return {"profile": "local", "profiles": {"local": {"idc": idc, "breakhis": None}}}


def make_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("8863/0/8863_idx5_x1_y1_class0.png", b"not looked at here")
    return path


def make_folder(root: Path) -> Path:
    for name in ("9/1/b.png", "9/0/a.png", "10/0/c.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode() * 700)
    return root


def state(path: Path) -> tuple[bytes, int, int]:
    return path.read_bytes(), path.stat().st_mtime_ns, path.stat().st_mode


def test_a_given_archive_is_linked_under_its_own_name_and_left_as_it_is(workspace: Path, tmp_path: Path) -> None:
    mine = make_zip(tmp_path / "my own.zip")
    mine.chmod(0o640)
    before = state(mine)
    place(params("../my own.zip"), "idc")
    link = workspace / "data/raw/idc/my own.zip"
    assert link.is_symlink()
    assert link.samefile(mine)
    assert state(mine) == before
    record = read_json(workspace / "data/raw/idc/source.json")
    assert record == {
        "source": "idc",
        "kind": "given",
        "present": True,
        "file": "my own.zip",
        "url": None,
        "licence": None,
        "size": mine.stat().st_size,
        "sha256": hashlib.sha256(mine.read_bytes()).hexdigest(),
        "reason": None,
    }


def test_a_second_archive_takes_the_first_ones_place_and_harms_neither(workspace: Path, tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        make_zip(tmp_path / name)
        place(params(f"../{name}"), "idc")
    assert sorted(path.name for path in (workspace / "data/raw/idc").iterdir()) == ["source.json", "two.zip"]
    assert (tmp_path / "one.zip").is_file()


def test_null_is_an_absent_source_with_its_reason(workspace: Path) -> None:
    said = place(params(None), "idc")
    assert "profiles.local.idc is null" in said
    assert [path.name for path in (workspace / "data/raw/idc").iterdir()] == ["source.json"]
    record = read_json(workspace / "data/raw/idc/source.json")
    assert (record["present"], record["reason"]) == (False, "profiles.local.idc is null")


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    mine = make_zip(tmp_path / "a.zip")
    assert given_archive("profiles.local.idc", "~/a.zip", Path("/nowhere"), tmp_path / "store") == mine


def test_a_folder_is_packed_into_one_sorted_tar_and_not_again(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images")
    before = state(folder / "9/0/a.png")
    store = tmp_path / "store"
    archive = given_archive("k", str(folder), workspace, store)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["10/0/c.png", "9/0/a.png", "9/1/b.png"]
        assert tar.extractfile("9/0/a.png").read() == before[0]
    made = archive.stat().st_mtime_ns
    assert given_archive("k", str(folder), workspace, store).stat().st_mtime_ns == made
    assert state(folder / "9/0/a.png") == before


def test_equal_folders_give_equal_tars_whatever_their_times_and_place(workspace: Path, tmp_path: Path) -> None:
    first, second = make_folder(tmp_path / "one/images"), make_folder(tmp_path / "two/images")
    os.utime(second / "9/0/a.png", (1, 1))
    tars = [given_archive("k", str(folder), workspace, tmp_path / "store") for folder in (first, second)]
    assert tars[0] != tars[1]
    assert tars[0].read_bytes() == tars[1].read_bytes()


def test_a_folder_that_changed_is_packed_again(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images")
    given_archive("k", str(folder), workspace, tmp_path / "store")
    (folder / "9/0/new.png").write_bytes(b"new")
    with tarfile.open(given_archive("k", str(folder), workspace, tmp_path / "store")) as tar:
        assert "9/0/new.png" in tar.getnames()


def test_a_pack_that_was_interrupted_is_not_taken_for_whole(workspace: Path, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "images")
    archive = given_archive("k", str(folder), workspace, tmp_path / "store")
    whole = archive.read_bytes()
    archive.with_name(f"{archive.name}.json").unlink()
    archive.write_bytes(whole[:100])
    assert given_archive("k", str(folder), workspace, tmp_path / "store").read_bytes() == whole


def make_trouble(where: Path) -> dict[str, str]:
    """What may stand behind the key, and a word of the error it must give."""
    (where / "empty").mkdir()
    (where / "text.zip").write_text("<html>")
    (where / "nothing.zip").touch()
    (where / "page.tar.gz").write_bytes(__import__("gzip").compress(b"<html>"))
    (where / "dangling").mkdir()
    (where / "dangling/a.png").symlink_to("gone")
    (where / "circle").mkdir()
    (where / "circle/again").symlink_to(where / "circle")
    return {
        "missing.zip": "does not exist",
        "empty": "without a file",
        "text.zip": "neither a zip nor a tar",
        "nothing.zip": "neither a zip nor a tar",
        "page.tar.gz": "neither a zip nor a tar",
        "dangling": "leads nowhere",
        "circle": "link to a folder",
    }


@pytest.mark.parametrize(
    "name", ["missing.zip", "empty", "text.zip", "nothing.zip", "page.tar.gz", "dangling", "circle"]
)
def test_what_cannot_be_used_is_one_error_that_names_key_and_path(workspace: Path, tmp_path: Path, name: str) -> None:
    word = make_trouble(tmp_path)[name]
    with pytest.raises(StageError, match=word) as caught:
        place(params(f"../{name}"), "idc")
    assert f"profiles.local.idc: {tmp_path / name}" in str(caught.value)
    assert not (workspace / "data/raw/idc").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_an_error(workspace: Path, tmp_path: Path) -> None:
    make_zip(tmp_path / "a.zip").chmod(0)
    with pytest.raises(StageError, match="cannot be read"):
        place(params("../a.zip"), "idc")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_tars_are_taken_gzipped_or_not(workspace: Path, tmp_path: Path, mode: str) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as tar:
        tar.addfile(tarfile.TarInfo("x.png"), io.BytesIO())
    place(params("../a.tar"), "idc")
    assert (workspace / "data/raw/idc/a.tar").exists()


@pytest.mark.real
def test_the_real_sample_is_linked_as_it_is(workspace: Path) -> None:
    sample = Path(__file__).parents[3] / "shared/data/idc_sample.zip"
    if not sample.exists():
        pytest.skip("the real images are not on this machine")
    place(params(str(sample)), "idc")
    link = workspace / "data/raw/idc/idc_sample.zip"
    assert link.samefile(sample)
    assert read_json(workspace / "data/raw/idc/source.json")["size"] == sample.stat().st_size
