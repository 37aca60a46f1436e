"""Fetching, against a real server on loopback that misbehaves."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from loopback_server import Publisher, Turn

from stages.contracts.errors import StageError
from stages.download import transfer
from stages.download.params import Published
from stages.download.published import fetch, kaggle_login

SLICE = 300_000


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A tar of about a megabyte, so that a cut leaves something to resume."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        entry = tarfile.TarInfo("noise")
        entry.size = 1_000_000
        tar.addfile(entry, io.BytesIO(np.random.default_rng(0).bytes(entry.size)))
    return file.getvalue()


@pytest.fixture
def publisher(archive: bytes) -> Iterator[Publisher]:
    with Publisher(archive) as server:
        yield server


class Waits(list):
    """Takes the place of time.sleep."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


def wanted(publisher: Publisher, **changes: object) -> Published:
    known = {"urls": [publisher.url], "file": "A.tar", "licence": "CC0-1.0", "size": None, "slices": None}
    return Published.model_validate(known | changes)


def slices_of(body: bytes) -> dict[str, object]:
    pieces = [body[at : at + SLICE] for at in range(0, len(body), SLICE)]
    return {"bytes": SLICE, "sha256": [hashlib.sha256(piece).hexdigest() for piece in pieces]}


def get(store: Path, wish: Published, waits: Waits | None = None) -> bytes:
    path, known = fetch("idc", wish, store, {}, Waits() if waits is None else waits)
    body = path.read_bytes()
    assert known.sha256 == hashlib.sha256(body).hexdigest()
    assert known.size == len(body)
    return body


def test_a_whole_file_is_fetched_verified_and_recorded(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    assert get(tmp_path, wanted(publisher, size=len(archive), slices=slices_of(archive))) == archive
    record = json.loads((tmp_path / "A.tar.verified.json").read_text())
    assert record["sha256"] == hashlib.sha256(archive).hexdigest()
    assert (record["url"], record["etag"]) == (publisher.url, '"v1"')
    assert not list(tmp_path.glob("*.partial*"))


def test_what_was_fetched_once_is_neither_fetched_nor_hashed_again(
    publisher: Publisher, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wish = wanted(publisher, slices=slices_of(archive))
    get(tmp_path, wish)
    monkeypatch.setattr("stages.download.store.digest_of", lambda *_: pytest.fail("hashed again"))
    assert get(tmp_path, wish) == archive
    assert get(tmp_path, wanted(publisher)) == archive
    assert len(publisher.requests) == 1


def test_a_cut_connection_is_resumed_where_it_broke(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    publisher.turns = [Turn(cut=600_000)]
    waits = Waits()
    assert get(tmp_path, wanted(publisher, slices=slices_of(archive)), waits) == archive
    assert publisher.ranges[0] is None
    start = int(publisher.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert 600_000 - transfer.PIECE <= start <= 600_000
    assert publisher.requests[1]["If-Range"] == '"v1"'
    assert len(waits) == 1


def test_a_line_that_breaks_at_every_attempt_still_finishes_if_it_brings_something(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    publisher.always = Turn(cut=100_000)
    assert get(tmp_path, wanted(publisher)) == archive
    assert len(publisher.requests) > transfer.TRIES


def test_a_line_that_never_brings_a_byte_is_given_up_after_growing_waits(publisher: Publisher, tmp_path: Path) -> None:
    publisher.always = Turn(cut=0)
    waits = Waits()
    with pytest.raises(StageError, match=r"(?s)127\.0\.0\.1.*5 times in a row.*profiles\.local\.idc"):
        get(tmp_path, wanted(publisher), waits)
    assert len(publisher.requests) == transfer.TRIES
    assert [0.5 * 2**n <= seconds <= 1.5 * 2**n for n, seconds in enumerate(waits)] == [True] * 4


def test_a_later_run_goes_on_from_where_an_earlier_one_gave_up(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    publisher.turns = [Turn(cut=500_000), *[Turn(status=503)] * transfer.TRIES]
    with pytest.raises(StageError, match=r"bytes came and are kept"):
        get(tmp_path, wanted(publisher))
    assert get(tmp_path, wanted(publisher, slices=slices_of(archive))) == archive
    assert publisher.ranges[-1] not in (None, "bytes=0-")


def test_a_file_that_changed_between_two_attempts_is_not_spliced(publisher: Publisher, tmp_path: Path) -> None:
    publisher.turns = [Turn(cut=500_000)]

    class Replacing(Waits):
        def __call__(self, seconds: float) -> None:
            publisher.body, publisher.etag = publisher.body[:512] + publisher.body[1024:], '"v2"'

    assert get(tmp_path, wanted(publisher), Replacing()) == publisher.body


def test_a_changed_file_is_noticed_even_where_the_server_ignores_if_range(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    part = f"bytes 500000-{len(archive) - 1}/{len(archive)}"
    publisher.turns = [
        Turn(cut=524_288),
        Turn(status=206, headers={"ETag": '"other"', "Content-Range": part.replace("500000", "524288")}),
    ]
    assert get(tmp_path, wanted(publisher)) == archive


def test_a_server_that_ignores_range_makes_a_clean_new_start(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    publisher.turns = [Turn(cut=500_000), Turn(ignores_range=True)]
    assert get(tmp_path, wanted(publisher)) == archive


def test_without_etag_and_date_nothing_is_resumed(archive: bytes, tmp_path: Path) -> None:
    with Publisher(archive, etag=None) as server:
        server.turns = [Turn(cut=500_000)]
        assert get(tmp_path, wanted(server)) == archive
        assert server.ranges == [None, None]


def test_a_weak_etag_is_not_trusted_but_the_date_is(archive: bytes, tmp_path: Path) -> None:
    date = "Mon, 06 Jan 2020 10:00:00 GMT"
    with Publisher(archive, etag=None) as server:
        server.turns = [Turn(cut=500_000, headers={"ETag": 'W/"v1"', "Last-Modified": date})]
        assert get(tmp_path, wanted(server)) == archive
        assert server.requests[1]["If-Range"] == date


def test_more_promised_than_sent_is_noticed(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    publisher.always = Turn(claims=len(archive) + 7, ignores_range=True)
    with pytest.raises(StageError, match=r"5 times in a row"):
        get(tmp_path, wanted(publisher))
    assert not (tmp_path / "A.tar").exists()


def test_a_promise_that_differs_from_params_is_refused_before_a_byte_is_fetched(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=rf"offers {len(archive):,} bytes, params.yaml expects 5"):
        get(tmp_path, wanted(publisher, size=5))
    assert len(publisher.requests) == 1


def test_less_promised_than_the_file_has_is_caught_by_the_size(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    publisher.always = Turn(claims=1000)
    with pytest.raises(StageError, match=r"offers 1,000 bytes"):
        get(tmp_path, wanted(publisher, size=len(archive)))


def test_an_unannounced_length_is_fine_and_the_size_is_checked_at_the_end(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    publisher.always = Turn(chunked=True)
    with pytest.raises(StageError, match=r"has 1,\d\d\d,\d\d\d bytes, expected 5"):
        get(tmp_path, wanted(publisher, size=5))
    (tmp_path / "A.tar.mismatch").unlink()
    assert get(tmp_path, wanted(publisher, size=len(archive))) == archive


def test_a_wrong_slice_is_named_and_the_file_kept_but_not_used(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    slices = slices_of(archive)
    slices["sha256"][1] = "0" * 64
    with pytest.raises(StageError) as caught:
        get(tmp_path, wanted(publisher, slices=slices))
    for part in ("slice 2 of 4", "third-party", "A.tar.mismatch", "profiles.local.idc", "0" * 64):
        assert part in str(caught.value)
    assert not (tmp_path / "A.tar").exists()
    assert (tmp_path / "A.tar.mismatch").read_bytes() == archive


def test_a_mismatch_is_not_fetched_again_and_is_taken_once_params_agree(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    wrong = {"bytes": SLICE, "sha256": ["0" * 64] * 4}
    for _ in range(2):
        with pytest.raises(StageError, match="slice 1 of 4"):
            get(tmp_path, wanted(publisher, slices=wrong))
    assert get(tmp_path, wanted(publisher, slices=slices_of(archive))) == archive
    assert len(publisher.requests) == 1
    assert not list(tmp_path.glob("*mismatch*"))


def test_a_file_laid_into_the_store_by_hand_is_checked_and_taken(
    publisher: Publisher, archive: bytes, tmp_path: Path
) -> None:
    (tmp_path / "A.tar").write_bytes(archive)
    assert get(tmp_path, wanted(publisher, slices=slices_of(archive))) == archive
    assert not publisher.requests


def test_a_file_that_changed_in_the_store_is_not_used(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    wish = wanted(publisher, slices=slices_of(archive))
    get(tmp_path, wish)
    (tmp_path / "A.tar").write_bytes(archive[:-512] + b"\1" * 512)
    with pytest.raises(StageError, match="slice 4 of 4"):
        get(tmp_path, wish)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_plain_no_is_not_asked_again(publisher: Publisher, tmp_path: Path, status: int) -> None:
    publisher.always = Turn(status=status)
    with pytest.raises(StageError, match=rf"answered {status}"):
        get(tmp_path, wanted(publisher))
    assert len(publisher.requests) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_in_trouble_is_asked_again(publisher: Publisher, archive: bytes, tmp_path: Path, status: int) -> None:
    publisher.turns = [Turn(status=status)]
    assert get(tmp_path, wanted(publisher)) == archive


def test_retry_after_is_honoured(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    publisher.turns = [Turn(status=429, headers={"Retry-After": "37"})]
    waits = Waits()
    assert get(tmp_path, wanted(publisher), waits) == archive
    assert waits == [37]


def test_a_server_that_asks_for_hours_is_not_waited_for(publisher: Publisher, tmp_path: Path) -> None:
    publisher.turns = [Turn(status=503, headers={"Retry-After": "7200"})]
    with pytest.raises(StageError, match=r"asks to wait 7,200 s"):
        get(tmp_path, wanted(publisher))


def test_a_login_page_is_not_taken_for_an_archive(publisher: Publisher, tmp_path: Path) -> None:
    publisher.turns = [Turn(headers={"Content-Type": "text/html; charset=utf-8"})]
    with pytest.raises(StageError, match="web page"):
        get(tmp_path, wanted(publisher))


def test_what_is_no_archive_is_not_used(tmp_path: Path) -> None:
    with Publisher(b"<!doctype html>" * 100) as server, pytest.raises(StageError, match="neither a zip nor a tar"):
        get(tmp_path, wanted(server))


def test_the_next_url_serves_where_the_first_refuses(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    with Publisher(b"") as gone:
        gone.always = Turn(status=404)
        path, known = fetch("idc", wanted(publisher, urls=[gone.url, publisher.url]), tmp_path, {}, Waits())
    assert path.read_bytes() == archive
    assert known.url == publisher.url


def test_offline_is_one_error_that_names_every_url_and_the_way_by_hand(tmp_path: Path) -> None:
    with Publisher(b"") as server:
        port = server.port
    urls = [f"http://127.0.0.1:{port}/one", f"http://127.0.0.1:{port}/two"]
    with pytest.raises(StageError) as caught:
        get(tmp_path, Published(urls=urls, file="A.tar", licence=None, size=None, slices=None))
    for part in (*urls, "refused", "profile: local", "profiles.local.idc"):
        assert part in str(caught.value)


def test_a_gzip_that_is_called_an_encoding_is_not_unpacked_on_the_way(tmp_path: Path) -> None:
    import gzip

    body = gzip.compress(b"\0" * 10240)
    with Publisher(body) as server:
        server.always = Turn(headers={"Content-Encoding": "gzip"})
        with pytest.raises(StageError):
            get(tmp_path, wanted(server, size=len(body) + 1))
        assert get(tmp_path, wanted(server, size=len(body))) == body


def test_two_processes_at_once_fetch_one_whole_file(publisher: Publisher, archive: bytes, tmp_path: Path) -> None:
    # flock belongs to the open file, so two threads that each open the lock shut one another out as processes do.
    hold = threading.Event()
    publisher.turns = [Turn(hold=hold)]
    got: list[bytes] = []
    threads = [threading.Thread(target=lambda: got.append(get(tmp_path, wanted(publisher)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    hold.set()
    for thread in threads:
        thread.join(10)
    assert got == [archive, archive]
    assert len(publisher.requests) == 1


def test_a_proxy_of_the_environment_is_used(
    publisher: Publisher, archive: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{publisher.port}")
    monkeypatch.setenv("no_proxy", "")
    assert get(tmp_path, wanted(publisher, urls=["http://archive.invalid/A.tar"])) == archive
    assert publisher.requests[0]["Host"] == "archive.invalid"


def test_a_login_is_sent_to_its_host_and_not_along_a_redirect(archive: bytes, tmp_path: Path) -> None:
    with Publisher(archive) as storage, Publisher(b"") as kaggle:
        target = f"http://localhost:{storage.port}/signed?token=hidden"
        kaggle.always = Turn(status=302, headers={"Location": target})
        partial = transfer.Partial.find(tmp_path / "A.tar", kaggle.url, None)
        transfer.download(partial, None, None, ("user", "secret"), Waits())
        assert partial.path.read_bytes() == archive
        assert "Authorization" in kaggle.requests[0]
        assert "Authorization" not in storage.requests[0]


def test_neither_a_key_nor_a_signed_address_is_ever_shown(
    publisher: Publisher, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Publisher(b"") as gone:
        port = gone.port
    publisher.always = Turn(status=302, headers={"Location": f"http://localhost:{port}/x?token=hidden"})
    partial = transfer.Partial.find(tmp_path / "A.tar", publisher.url, None)
    with pytest.raises(transfer.Refusal) as caught:
        transfer.download(partial, None, None, ("user", "secret"), Waits())
    shown = str(caught.value) + "".join(capsys.readouterr())
    assert "hidden" not in shown
    assert "secret" not in shown


def test_kaggle_gets_credentials_from_the_environment_then_from_its_file_then_none(tmp_path: Path) -> None:
    url = "https://www.kaggle.com/api/v1/datasets/download/a/b"
    home = {"HOME": str(tmp_path)}
    assert kaggle_login(url, home) is None
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text('{"username": "u", "key": "k"}')
    assert kaggle_login(url, home) == ("u", "k")
    assert kaggle_login(url, home | {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "mine"}) == ("me", "mine")
    (tmp_path / ".kaggle/kaggle.json").write_text("{")
    with pytest.raises(StageError, match=r"kaggle\.json"):
        kaggle_login(url, home)


@pytest.mark.parametrize(
    "url", ["http://www.kaggle.com/a", "https://kaggle.com.evil.org/a", "https://example.org/www.kaggle.com"]
)
def test_no_other_host_gets_kaggles_credentials(url: str) -> None:
    assert kaggle_login(url, {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": "mine"}) is None
