"""What the verdicts rest on: DVC's own first lines, pinned on the version that is installed."""

import subprocess
from pathlib import Path

import pytest
import toy

from flows.stage import first_verdict, without_bars


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stages = {"a": toy.stage("a", ["in/a"]), "b": {"foreach": ["x.1"], "do": toy.stage("b", ["out/a"])}}
    return toy.make(tmp_path_factory.mktemp("words") / "toy", stages)


def first_line(workspace: Path, stage: str) -> str:
    return toy.dvc(workspace, "--wait-for-lock", "repro", "--single-item", stage).splitlines()[0]


def test_the_first_lines_of_dvc_are_the_ones_we_read(workspace: Path) -> None:
    for stage in ("a", "b@x.1"):
        assert first_verdict(stage, first_line(workspace, stage)) == "ran"
        assert first_verdict(stage, first_line(workspace, stage)) == "unchanged"
        (workspace / f"out/{stage[0]}").unlink()
        assert first_verdict(stage, first_line(workspace, stage)) == "restored"


def test_data_pulled_from_a_remote_counts_as_restored(workspace: Path) -> None:
    far = toy.twin(workspace, "far")
    toy.dvc(far, "remote", "add", "-d", "store", str(far.parent / "store"))
    toy.dvc(far, "repro")
    toy.dvc(far, "push")
    (far / "out/a").unlink()
    toy.shutil.rmtree(far / ".dvc/cache")
    said = toy.dvc(far, "repro", "--pull", "--single-item", "a").splitlines()
    assert "restored" in {first_verdict("a", line) for line in said}
    assert (far / "out/a").exists()


def test_what_a_stage_itself_prints_is_no_verdict() -> None:
    assert first_verdict("a", "Running stage 'ab':") is None
    assert first_verdict("a", "we said: Running stage 'a':") is None
    assert first_verdict("a.b", "Running stage 'axb':") is None


def test_progress_bars_and_colours_do_not_reach_the_log() -> None:
    bars = subprocess.run(
        ["python3", "-c", "from tqdm import tqdm; [0 for _ in tqdm(range(3))]"], capture_output=True
    ).stderr
    assert b"100%|" in bars
    assert without_bars(bars) is None
    assert without_bars(b"\r 10%|#   | 1/9\r done\n") == " done"
    assert without_bars(b"\x1b[31mred\x1b[0m\r\n") == "red"
    assert without_bars(b"50% of the rows\n") == "50% of the rows"
