"""Fingerprints of the sources: equal content, equal bytes; another content is seen, and acted on."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import ROOT
from loopback_server import Publisher, Turn

from stages.contracts.errors import StageError
from stages.contracts.files import read_json
from stages.download.fingerprint import TRIES, Fingerprint, of_published
from stages.download.params import Published
from stages.download.place import place


def tar_of(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo("8863/0/a.png")
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


@pytest.fixture
def publisher() -> Iterator[Publisher]:
    with Publisher(tar_of(b"first")) as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STROMA_CACHE", str(tmp_path / "cache"))
    (tmp_path / "repository").mkdir()
    monkeypatch.chdir(tmp_path / "repository")
    return tmp_path / "repository"


def published(*urls: str) -> dict[str, object]:
    idc = {"urls": list(urls), "file": "A.tar", "licence": None, "size": None, "slices": None}
    return {"profile": "full", "threads": 1, "profiles": {"full": {"idc": idc}}}


def given(path: str | None) -> dict[str, object]:
    return {"profile": "local", "threads": 1, "profiles": {"local": {"idc": path}}}


def refresh(workspace: Path, params: dict[str, object], status: int = 0, **environment: str) -> tuple[str, bytes]:
    """What the door said, and the bytes that it left."""
    (workspace / "params.yaml").write_text(yaml.safe_dump(params))
    done = subprocess.run(
        [sys.executable, "-m", "stages.download.refresh", "idc"],
        cwd=workspace,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout + done.stderr
    file = workspace / "sources/idc.json"
    return done.stdout + done.stderr, file.read_bytes() if file.exists() else b""


def laid_out(workspace: Path) -> bytes:
    return (workspace / "data/raw/idc/A.tar").read_bytes()


def test_the_fingerprints_in_git_are_those_of_a_fresh_clone() -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    if params["profile"] != "demo":
        pytest.skip("params.yaml is set to another profile")
    for source in ("idc", "breakhis"):
        assert Fingerprint.read(source, ROOT / "sources") == Fingerprint(source, "drawn")


def test_a_publishers_archive_is_known_by_etag_and_size_without_fetching_it(
    workspace: Path, publisher: Publisher
) -> None:
    said, first = refresh(workspace, published(publisher.url))
    assert "idc has changed" in said
    assert read_json(workspace / "sources/idc.json") == {
        "source": "idc",
        "kind": "published",
        "url": publisher.url,
        "etag": '"v1"',
        "size": len(publisher.body),
        "sha256": None,
    }
    said, second = refresh(workspace, published(publisher.url))
    assert "idc is as it was" in said
    assert first == second
    assert publisher.methods == ["HEAD", "HEAD"]


def test_an_archive_that_changed_at_the_publisher_is_fetched_anew_beside_the_old_one(
    workspace: Path, publisher: Publisher
) -> None:
    params = published(publisher.url)
    refresh(workspace, params)
    old = (workspace / "sources/idc.json").read_bytes()
    place(params, "idc")
    place(params, "idc")
    assert publisher.methods == ["HEAD", "GET"]
    before = laid_out(workspace)

    publisher.body, publisher.etag = tar_of(b"second"), '"v2"'
    place(params, "idc")
    assert laid_out(workspace) == before, "what was not looked at is not fetched"
    refresh(workspace, params)
    place(params, "idc")
    assert laid_out(workspace) == publisher.body
    place(params, "idc")
    assert publisher.methods == ["HEAD", "GET", "HEAD", "GET"]

    (workspace / "sources/idc.json").write_bytes(old)
    place(params, "idc")
    assert laid_out(workspace) == before, "an older commit finds its own archive"
    assert publisher.methods == ["HEAD", "GET", "HEAD", "GET"]


def test_an_archive_laid_down_by_hand_is_never_replaced(workspace: Path, publisher: Publisher, tmp_path: Path) -> None:
    mine = tmp_path / "cache/archives/A.tar"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(tar_of(b"mine"))
    refresh(workspace, published(publisher.url))
    place(published(publisher.url), "idc")
    assert laid_out(workspace) == mine.read_bytes()


def test_a_mirror_answers_where_the_first_url_does_not(workspace: Path, publisher: Publisher) -> None:
    with Publisher(tar_of(b"mirror"), etag='"m"') as mirror:
        publisher.always = Turn(status=404)
        refresh(workspace, published(publisher.url, mirror.url))
        assert Fingerprint.read("idc").url == mirror.url
        publisher.always = None
        said, _ = refresh(workspace, published(publisher.url, mirror.url))
        assert "as it was" in said, "a mirror does not come and go"


def test_no_answer_is_one_line_and_leaves_the_last_fingerprint(workspace: Path, publisher: Publisher) -> None:
    _, before = refresh(workspace, published(publisher.url))
    publisher.always = Turn(status=403)
    said, after = refresh(workspace, published(publisher.url), status=1)
    assert before == after
    errors = [line for line in said.splitlines() if "error" in line]
    assert len(errors) == 1
    assert "answered 403" in errors[0]
    assert "Run again when the network is back" in errors[0]


def test_a_blip_is_waited_for_and_a_dead_publisher_given_up(publisher: Publisher) -> None:
    wish = Published.model_validate(published(publisher.url)["profiles"]["full"]["idc"])
    publisher.turns = [Turn(status=503)]
    waits: list[float] = []
    assert of_published("idc", wish, None, lambda _: None, waits.append).etag == '"v1"'
    assert len(waits) == 1
    publisher.always = Turn(status=503)
    with pytest.raises(StageError, match="answered 503"):
        of_published("idc", wish, None, lambda _: None, waits.append)
    assert len(waits) == TRIES


def test_a_given_archive_is_known_by_its_bytes_and_neither_by_its_time_nor_its_place(
    workspace: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.tar"
    mine.write_bytes(tar_of(b"mine"))
    _, first = refresh(workspace, given("../mine.tar"))
    assert read_json(workspace / "sources/idc.json")["sha256"] == hashlib.sha256(mine.read_bytes()).hexdigest()
    assert str(tmp_path).encode() not in first
    os.utime(mine, (1, 1))
    _, touched = refresh(workspace, given("../mine.tar"))
    mine.rename(tmp_path / "moved.tar")
    _, moved = refresh(workspace, given("../moved.tar"))
    assert first == touched == moved
    (tmp_path / "moved.tar").write_bytes(tar_of(b"ours"))
    assert refresh(workspace, given("../moved.tar"))[1] != first


def test_a_change_inside_a_given_folder_is_seen(workspace: Path, tmp_path: Path) -> None:
    image = tmp_path / "images/8863/0/a.png"
    image.parent.mkdir(parents=True)
    image.write_bytes(b"one")
    _, first = refresh(workspace, given("../images"))
    os.utime(image, (1, 1))
    assert refresh(workspace, given("../images"))[1] == first
    image.write_bytes(b"two")
    assert refresh(workspace, given("../images"))[1] != first


def test_relative_paths_start_at_the_checkout_that_a_worktree_was_made_from(workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main/mine.tar").write_bytes(tar_of(b"mine"))
    refresh(workspace, given("mine.tar"), STROMA_ROOT=str(tmp_path / "main"))
    assert Fingerprint.read("idc").size


def test_a_source_that_is_not_given_is_known_as_such(workspace: Path) -> None:
    refresh(workspace, given(None))
    assert Fingerprint.read("idc") == Fingerprint("idc", "given")
