"""Several processes train one model: as one process would, in step, and all or none."""

import json
import os
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
from lightning_fabric import Fabric
from safetensors.torch import load_file

from stages.contracts.errors import StageError
from stages.contracts.index import read_index
from stages.contracts.pixels import open_pixels
from stages.contracts.sections import read_params
from stages.train import session, step
from stages.train.__main__ import work
from stages.train.devices import anywhere, cut, fabric_of, launched
from stages.train.params import Recipe, TrainProfile
from stages.train.training import Surroundings, Trained, train_recipe

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


def trained(fabric: Fabric, **changes: object) -> Trained:
    """A training in this process, with the others, in the present folder."""
    recipe = Recipe.model_validate({**NORMED, **changes})
    rows, _ = read_index(Path("data/index/case.parquet"), 0)
    around = Surroundings("mine", 1, [], "random", "demo", "0", features_gb=1)
    return train_recipe(recipe, rows, {"idc": open_pixels(Path("data/pixels/idc.npy"))}, around, fabric=fabric)


def alike(fabric: Fabric, one: Trained) -> bool:
    """Whether all processes hold the same network and the same figures."""
    # How often BatchNorm was run counts for nothing, and is more where memory ran out late.
    held = [value for value in one.model.state_dict().values() if value.is_floating_point()]
    losses = torch.tensor([row["val_loss"] for row in one.curves])
    flat = torch.cat([value.double().reshape(-1) for value in [*held, losses]])
    others = flat.clone()
    torch.distributed.broadcast(others, 0)
    return not anywhere(fabric, not torch.equal(flat, others))


def cleared(done: Trained) -> Trained:
    if done.checkpoint:
        done.checkpoint.clear()
    return done


def together(fabric: Fabric) -> str:
    """Trainings of two processes that must stay in step; says what went wrong."""
    faults = []
    whole = trained(fabric)
    if not alike(fabric, whole):
        faults.append("BatchNorm drifts apart")
    cleared(whole)
    save = session.Session.save

    def cut_short(under_way: session.Session) -> None:
        save(under_way)
        raise InterruptedError

    session.Session.save = cut_short
    try:
        trained(fabric)
    except InterruptedError:
        session.Session.save = save
    resumed = cleared(trained(fabric))
    same = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    if not all(torch.equal(one, other) for one, other in same) or whole.curves != resumed.curves:
        faults.append("a resumed training ends elsewhere")

    if not alike(fabric, trained(fabric, freeze="blocks.1", augment={"flip": True}, sampler="weighted")):
        faults.append("frozen features drift apart")

    gradients = step.Step._gradients

    def too_large(self: step.Step, *values: object) -> torch.Tensor:
        if fabric.global_rank == 1 and values[-1] == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients(self, *values)

    step.Step._gradients = too_large
    small = trained(fabric)
    if not alike(fabric, small) or "micro-batches of 3 images" not in " ".join(small.record.notes):
        faults.append(f"memory is not halved in step: {small.record.notes}")
    return ", ".join(faults)


def test_processes_stay_in_step(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """With BatchNorm, on frozen features, after an interruption, and where one of them runs out of memory."""
    workspace.write_data({"idc": 48})
    monkeypatch.chdir(workspace.root)
    assert launched(fabric_of(TrainProfile(**profile(2)), "32-true"), together) == ""


def failing(fabric: Fabric, how: str) -> str:
    if fabric.global_rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise StageError("the disk is\nfull")
    anywhere(fabric, False)
    return "never"


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
