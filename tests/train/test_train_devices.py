"""Several processes train one model: as one process would, in step, and all or none."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import BASELINE, Workspace
from safetensors.torch import load_file

from stages.train.devices import cut

VIT = {
    **BASELINE,
    "sources": ["idc", "breakhis"],
    "arch": "vit_tiny_patch16_224",
    "image_size": 32,
    "optimizer": "adamw",
    "lr": 0.0005,
    "ema": 0.9,
    "clip": 1.0,
    "label_smoothing": 0.1,
    "class_weights": True,
    "sampler": "weighted",
    "mixup": 0.4,
    "cutmix": 1.0,
    "batch_size": 13,  # neither it nor its micro-batches can be halved
    "accumulate": 2,
    "dropout": 0.0,
}
"""All that could differ between one process and two, but for dropout and BatchNorm."""


def train(workspace: Workspace, devices: int, **more: str) -> subprocess.CompletedProcess[str]:
    said = workspace.root / "params.yaml"
    said.write_text(said.read_text().replace("devices: 1", f"devices: {devices}"))
    return subprocess.run(
        workspace.command("mine"),
        cwd=workspace.root,
        env=workspace.environment(more),
        capture_output=True,
        text=True,
        timeout=120,
    )
