"""Several processes train one model: as one process would, in step, and all or none."""

import json
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import BASELINE, Workspace
from hypothesis import given
from hypothesis import strategies as st
from in_step import failing, together
from safetensors.torch import load_file

from stages.contracts.errors import StageError
from stages.contracts.sections import read_params
from stages.train.__main__ import work
from stages.train.devices import cut, fabric_of, launched
from stages.train.params import Recipe, TrainProfile

SMALL_VIT = {
    **BASELINE,
    "sources": ["idc", "breakhis"],
    "arch": "vit_tiny_patch16_224",
    "image_size": 32,
    "optimizer": "adamw",
    "lr": 0.0005,
    "clip": 1.0,
    "ema": 0.9,
    "label_smoothing": 0.1,
    "class_weights": True,
    "sampler": "weighted",
    "mixup": 0.4,
    "cutmix": 1.0,
    "batch_size": 13,  # neither it nor its halves can be halved
    "accumulate": 2,
    "dropout": 0.0,
}
"""All that could differ between one process and two, but for dropout and BatchNorm."""
NORMED = {**BASELINE, "arch": "mobilenetv3_small_050", "image_size": 32, "ema": 0.9, "batch_size": 12}


def profile(devices: int) -> dict:
    return {"init_missing": "random", "accelerator": "cpu", "devices": devices}


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_two_processes_make_what_one_makes_and_a_kill_leaves_none_of_them_nor_harm(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48, "breakhis": 48})
    workspace.write_params({"mine": SMALL_VIT}, profile(1))
    monkeypatch.chdir(workspace.root)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    work(read_params(), "mine")
    weights = load_file("models/mine/model.safetensors")
    curves = pd.read_csv("reports/curves/mine.csv")

    workspace.write_params({"mine": SMALL_VIT}, profile(2))
    door = partial(subprocess.Popen, workspace.command("mine"), env=workspace.environment({}), text=True)
    running = door()
    checkpoints = Path(".stroma/checkpoints/mine")
    while not list(checkpoints.glob("*.safetensors")) and running.poll() is None:
        time.sleep(0.01)
    processes = children_of(running.pid)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    assert len(processes) >= 2
    patience = time.monotonic() + 20
    while not all(map(gone, processes)) and time.monotonic() < patience:
        time.sleep(0.05)
    assert all(map(gone, processes))

    running = door(stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    assert [line.split(":")[0] for line in said.splitlines()] == ["train@mine"] * 2, said
    assert "trained on 2 devices" in said
    assert len(list(Path(".stroma/runs").iterdir())) == 1
    assert not checkpoints.exists()
    for name, value in load_file("models/mine/model.safetensors").items():
        assert torch.allclose(value, weights[name], atol=1e-5, rtol=0), name
    assert np.allclose(pd.read_csv("reports/curves/mine.csv"), curves, atol=1e-5, equal_nan=True)
    assert json.loads(Path("models/mine/recipe.json").read_text())["notes"] == ["trained on 2 devices"]


def test_processes_stay_in_step(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With BatchNorm, on frozen features, after an interruption, and where one of them runs out of memory."""
    workspace.write_data({"idc": 48})
    monkeypatch.chdir(workspace.root)
    assert launched(fabric_of(TrainProfile(**profile(2)), "32-true"), partial(together, recipe=NORMED)) == ""


@pytest.mark.parametrize(
    ("how", "part"), [("killed", "device 1 was ended .SIGKILL"), ("refused", "^the disk is\nfull$")]
)
def test_one_process_that_fails_ends_all_with_its_reason(how: str, part: str) -> None:
    with pytest.raises(StageError, match=part):
        launched(fabric_of(TrainProfile(**profile(2)), "32-true"), partial(failing, how=how))


def test_a_step_too_small_for_the_devices_is_an_error() -> None:
    from stages.train.fit import check_shares

    class Four:
        world_size = 4

    with pytest.raises(StageError, match="a step of 7 images leaves less than 2 of them for each of 4 devices"):
        check_shares(Four(), Recipe.model_validate(NORMED), 7)


def test_more_machines_than_were_told_of_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NODE_RANK", raising=False)
    with pytest.raises(StageError, match=r"num_nodes: 2 needs .*NODE_RANK"):
        fabric_of(TrainProfile(**profile(1), num_nodes=2), "32-true")


@given(st.integers(1, 40), st.integers(1, 5), st.booleans())
def test_a_step_is_cut_into_even_parts_that_leave_out_nothing_and_part_no_pair(
    count: int, parts: int, paired: bool
) -> None:
    pieces = cut(count, parts, paired=paired)
    assert sorted(np.concatenate(pieces)) == list(range(count))
    assert max(map(len, pieces)) - min(map(len, pieces)) <= (3 if paired else 1)
    for piece in pieces:
        assert list(piece) == sorted(piece)
        if paired:
            assert list(count - 1 - piece[::-1]) == list(piece)
