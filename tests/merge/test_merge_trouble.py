"""Archives that cannot be used, disks that are full, processes that are killed: one error, no half output."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import psutil
import pytest
import yaml
from tiny_archives import breakhis_members, idc_members, idc_name, lay_out, merge, outputs, png, write_tar, write_zip
from tiny_archives import picture as drawn

from stages.contracts.errors import StageError


def _expect(tmp_path: Path, match: str, **archives: Path) -> None:
    with pytest.raises(StageError, match=match):
        merge(tmp_path, **archives)
    assert outputs(tmp_path) == []


def test_no_archive_at_all_says_what_to_set(tmp_path: Path) -> None:
    _expect(tmp_path, "no archive given: set profiles.local.idc")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.999])
def test_a_truncated_zip_is_named_as_cut_short(tmp_path: Path, kept: float) -> None:
    path = write_zip(tmp_path / "idc.zip", idc_members())
    os.truncate(path, int(path.stat().st_size * kept))
    _expect(tmp_path, r"idc\.zip.*(cut short|damaged).*fetch it again", idc=path)


@pytest.mark.parametrize("compression", ["", "gz", "bz2", "xz"])
@pytest.mark.parametrize("kept", [0.5, 0.95])
def test_a_truncated_tar_is_named_as_cut_short(tmp_path: Path, compression: str, kept: float) -> None:
    path = write_tar(tmp_path / "b.tar", breakhis_members(), compression)
    os.truncate(path, int(path.stat().st_size * kept))
    _expect(tmp_path, r"b\.tar ends or breaks in the middle", breakhis=path)


def test_a_tar_cut_between_two_members_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "b.tar", {"a.png": bytes(512), "b.png": bytes(512)}, "")
    os.truncate(path, 1024)
    _expect(tmp_path, "blocks that end a tar are missing", breakhis=path)


def test_a_gzip_that_lost_only_its_last_bytes_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "b.tar.gz", breakhis_members())
    os.truncate(path, path.stat().st_size - 4)
    _expect(tmp_path, "the gzip stream has no end", breakhis=path)


def test_a_flipped_bit_in_a_gzip_is_noticed(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "b.tar.gz", breakhis_members())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    _expect(tmp_path, "ends or breaks in the middle", breakhis=path)


def test_an_empty_archive_is_an_error(tmp_path: Path) -> None:
    _expect(tmp_path / "zip", "holds no files", idc=write_zip(tmp_path / "idc.zip", {}))
    _expect(tmp_path / "tar", "holds no files", idc=write_tar(tmp_path / "idc.tar.gz", {}))
    (tmp_path / "nothing").touch()
    _expect(tmp_path / "none", "neither a zip nor a tar", idc=tmp_path / "nothing")


def test_the_other_publishers_archive_is_recognised(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "BreaKHis_v1.tar.gz", breakhis_members())
    _expect(tmp_path, r"named as idc names.*It holds BreaKHis_v1/.*expected .*8863/0/8863_idx5", idc=path)


def test_an_archive_without_one_readable_image_is_an_error(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "idc.zip", {idc_name(): b"junk"})
    _expect(tmp_path, "readable image, for example 8863/0/.*not a PNG", idc=path)


def test_a_link_that_leads_nowhere_says_which_stage_to_run(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "idc.zip", idc_members())
    lay_out(tmp_path, idc=path)
    path.unlink()
    done = _stage(tmp_path)
    assert done.returncode == 1
    assert "Run `dvc repro download@idc` again" in done.stderr
    assert outputs(tmp_path) == []


@pytest.mark.slow
def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    try:
        members = {idc_name(x=1 + 50 * i): png(drawn(seed=i)) for i in range(400)}
        lay_out(disk, idc=write_zip(tmp_path / "idc.zip", members))
        done = _stage(disk)
        assert done.returncode == 1
        assert "the disk is full" in done.stderr
        assert "Traceback" not in done.stderr
        assert outputs(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.slow
def test_a_merge_killed_midway_leaves_nothing_whole_and_no_process_and_the_next_gives_the_same_bytes(
    tmp_path: Path,
) -> None:
    path = tmp_path / "b.tar.gz"
    names = {f"x/SOB_B_A-14-22549AB-100-{i:03}.png": None for i in range(60)}
    image = png(drawn(700, 460))
    folder = "benign/SOB/adenosis/SOB_B_A_14-22549AB/100X"
    write_tar(path, {f"{folder}/{Path(name).name}": image for name in names}, "")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for workspace in (whole, broken):
        lay_out(workspace, breakhis=path)
    assert _stage(whole).returncode == 0
    process = subprocess.Popen(_COMMAND, cwd=_ready(broken), env=_ENVIRONMENT, stdout=subprocess.DEVNULL)
    part = broken / "data/pixels/.breakhis.npy.part"
    while not (part.exists() and part.stat().st_size > 1 << 20):
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.005)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not [name for name in outputs(broken) if not Path(name).name.startswith(".")]
    assert psutil.wait_procs(workers, timeout=5)[1] == []
    assert _stage(broken).returncode == 0
    assert _hashes(broken) == _hashes(whole)


def test_an_interrupted_write_names_no_half_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("stages.merge.ingest.write_manifest", full)
    with pytest.raises(OSError, match="No space left"):
        merge(tmp_path, idc=write_zip(tmp_path / "idc.zip", idc_members(), zipfile.ZIP_DEFLATED))
    assert outputs(tmp_path) == []


_ROOT = Path(__file__).resolve().parents[2]
_COMMAND = [sys.executable, "-m", "stages.merge"]
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_ROOT)}


def _ready(workspace: Path) -> Path:
    sizes = {"breakhis": {"height": 230, "width": 350}, "idc": {"height": 50, "width": 50}}
    (workspace / "params.yaml").write_text(yaml.safe_dump({"threads": 1, "merge": sizes}))
    return workspace


def _stage(workspace: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _COMMAND, cwd=_ready(workspace), env=_ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False
    )


def _hashes(workspace: Path) -> dict[str, str]:
    data = workspace / "data"
    return {name: hashlib.sha256((data / name).read_bytes()).hexdigest() for name in outputs(workspace)}
