"""Start weights: those of another recipe, or of ImageNet: a file from the weights folder, else timm's hub, else what
`init_missing` says.

Local files come first: timm takes 46 s to learn that its hub cannot be reached. A file
`<timm name>.imagenet.safetensors` holds the network's state under timm's key names; its metadata may say `timm_model`
(what it is for), `create_kwargs` (JSON, how the network must be built), `input_mean` and `input_std` (comma-separated)
and `batchnorm: trusted`. Without that last word the statistics of the BatchNorm layers are taken anew from training
tissue before the first step: a file may have been recovered from a folded or quantised model, and on a sound one the
pass costs seconds and harms nothing.
"""

import json
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from timm.models import get_pretrained_cfg
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from stages.contracts.errors import StageError
from stages.contracts.files import sha256_of
from stages.contracts.modelfolder import Start
from stages.contracts.networks import Headed, body_of
from stages.train.params import RANDOM, InitMissing, Recipe, stretches

HUB_FILE = "model.safetensors"
HUB_PATIENCE_S = 5.0
RETAKEN = "BatchNorm statistics taken from training tissue"


@dataclass(frozen=True)
class StartModel:
    """A network before training, and how it wants its input."""

    model: nn.Module
    start: Start
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trust_batchnorm: bool = True


def start_model(
    recipe: Recipe, classes: int, folders: Sequence[Path], init_missing: InitMissing, hub: Callable[[str], Path]
) -> StartModel:
    """Build the recipe's network with its start weights. New layers are drawn from torch's global generator.

    folders: where to look for weight files, in this order. hub: fetches a repository's weight file, raises OSError if
    it cannot. Raises StageError where there are no weights and `init_missing` is "error", or where they do not fit.
    """
    if recipe.start == RANDOM:
        return _random(recipe, classes, note=None)
    name = f"{recipe.arch}.imagenet.safetensors"
    for folder in folders:
        if (folder / name).is_file():
            return _from_file(recipe, classes, folder / name)
    config = get_pretrained_cfg(recipe.arch, allow_unregistered=True)
    tried = f"no {name} in {', '.join(map(str, folders)) or 'weights_dir (null) or STROMA_WEIGHTS (unset)'}"
    if config is not None and config.hf_hub_id:
        try:
            return _from_hub(recipe, classes, hub(config.hf_hub_id))
        except OSError as error:
            tried += f", and the hub's {config.hf_hub_id} cannot be had ({error})"
    else:
        tried += ", and timm knows no published ones"
    if init_missing == "error" or recipe.init_sha256:
        raise StageError(
            f"ImageNet weights of {recipe.arch} are missing: {tried}. Put the file into a folder and name it in "
            f"weights_dir of params.yaml or in STROMA_WEIGHTS, or set the recipe's start: {RANDOM}"
        )
    return _random(recipe, classes, note="ImageNet weights were not to be had; random start")


def weight_folders(weights_dir: Path | None, variable: str | None) -> list[Path]:
    """Where to look for start weights: the folder of params, then that of the environment variable.

    Raises StageError if one is named that is no folder.
    """
    named = (("weights_dir of params.yaml", weights_dir), ("STROMA_WEIGHTS", Path(variable) if variable else None))
    for where, folder in named:
        if folder is not None and not folder.is_dir():
            raise StageError(f"{where} = {folder} is not a folder; correct it, or leave it empty")
    return [folder for _, folder in named if folder is not None]


def fetch_from_hub(repository: str) -> Path:
    """The weight file of a hub repository: from the local cache, else downloaded. Raises OSError if it cannot be had.

    Asks once, briefly, before it lets the hub's client try: that one repeats itself for 46 s without a network.
    """
    import huggingface_hub

    cached = huggingface_hub.try_to_load_from_cache(repository, HUB_FILE)
    if isinstance(cached, str):
        return Path(cached)
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        raise OSError("HF_HUB_OFFLINE is set")
    address = huggingface_hub.hf_hub_url(repository, HUB_FILE)
    with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=HUB_PATIENCE_S):  # noqa: S310  the hub's own address
        pass
    try:
        return Path(huggingface_hub.hf_hub_download(repository, HUB_FILE))
    except huggingface_hub.errors.HfHubHTTPError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _create(recipe: Recipe, classes: int, **options: Any) -> nn.Module:
    """The network, built for the recipe's image size where its architecture fixes one at birth."""
    config = get_pretrained_cfg(recipe.arch, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options = {"img_size": recipe.image_size, **options}
    if recipe.head is not None:
        model = timm.create_model(
            "headed", body=recipe.arch, hidden=recipe.head.hidden, head_drop_rate=recipe.head.dropout,
            num_classes=classes, **options,
        )  # fmt: skip
    else:
        model = timm.create_model(recipe.arch, num_classes=classes, drop_rate=recipe.dropout, **options)
    redraw(model.get_classifier())
    return model


def redraw(classifier: nn.Module) -> None:
    """Draw a classifier anew as torch does.

    timm draws those of its MobileNets and EfficientNets from +-1 / sqrt(classes): with two classes and 1,280 features
    the first loss is 7 instead of 0.7, and a short training is spent on unlearning it.
    """
    if isinstance(classifier, nn.Linear):
        classifier.reset_parameters()


def _random(recipe: Recipe, classes: int, note: str | None) -> StartModel:
    model = _create(recipe, classes)
    config: dict[str, Any] = body_of(model).pretrained_cfg
    # Frozen layers never see their statistics while they train, and those of a new network are nobody's.
    frozen = any(phase.freeze != 0 for phase in stretches(recipe))
    if frozen:
        note = f"{note}, also of what is frozen" if note else "what is frozen stays random"
    start = Start(init="random", note=note)
    return StartModel(model, start, tuple(config["mean"]), tuple(config["std"]), trust_batchnorm=not frozen)


def _from_hub(recipe: Recipe, classes: int, file: Path) -> StartModel:
    """Weights as timm publishes them; it knows how to read and adapt them."""
    sha256 = _pinned(recipe, file)
    options = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(file), "custom_load": False}}
    if recipe.head is None:
        model = _create(recipe, classes, **options)
    else:
        model = _create(recipe, classes)
        whole = _create(recipe.model_copy(update={"head": None}), classes, **options).state_dict()
        own = model.body.state_dict()
        model.body.load_state_dict({key: value for key, value in whole.items() if key in own})
    config: dict[str, Any] = body_of(model).pretrained_cfg
    return StartModel(model, Start(init="imagenet", sha256=sha256), tuple(config["mean"]), tuple(config["std"]))


def _from_file(recipe: Recipe, classes: int, file: Path) -> StartModel:
    """Weights from a file of the weights folder, told apart by its metadata."""
    sha256 = _pinned(recipe, file)
    try:
        with safe_open(file, framework="pt") as opened:
            about = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118  not a mapping
    except SafetensorError as error:
        raise StageError(f"{file} is not a safetensors file ({error}); fetch it again") from None
    meant = about.get("timm_model", recipe.arch)
    if meant.partition(".")[0] != recipe.arch.partition(".")[0]:
        raise StageError(f"{file} says that it holds {meant}, not {recipe.arch}; rename it to what it holds")
    model = _create(recipe, classes, **json.loads(about.get("create_kwargs", "{}")))
    _load(model, state, file)
    config: dict[str, Any] = body_of(model).pretrained_cfg
    trusted = about.get("batchnorm") == "trusted"
    return StartModel(
        model,
        Start(init="imagenet", sha256=sha256, note=None if trusted else RETAKEN),
        mean=_numbers(about, "input_mean", config["mean"]),
        std=_numbers(about, "input_std", config["std"]),
        trust_batchnorm=trusted,
    )


def _load(model: nn.Module, state: dict[str, torch.Tensor], file: Path) -> None:
    """Load all but the classifier, whose classes are others. Raises StageError if anything else does not fit."""
    body = body_of(model)
    classifier = body.pretrained_cfg["classifier"]
    replaced = [classifier] if isinstance(classifier, str) else list(classifier)
    if isinstance(model, Headed):
        replaced += model.replaced
    left = tuple(f"{name}." for name in replaced)
    given = {key: value for key, value in state.items() if not key.startswith(left)}
    own = {key: value.shape for key, value in body.state_dict().items() if not key.startswith(left)}
    shapes = {key: value.shape for key, value in given.items()}
    wrong = sorted(key for key in shapes.keys() | own.keys() if shapes.get(key) != own.get(key))
    if wrong:
        raise StageError(
            f"{file} does not fit {type(body).__name__}: {len(wrong)} of {len(own)} tensors are missing, unknown or "
            f"of another shape ({', '.join(wrong[:3])}); it must hold timm's key names"
        )
    body.load_state_dict(given, strict=False)


def _pinned(recipe: Recipe, file: Path) -> str:
    """The file's sha256; raises StageError where the recipe pins another."""
    sha256 = sha256_of(file)
    if recipe.init_sha256 not in (None, sha256):
        raise StageError(
            f"{file} has sha256 {sha256}, but init_sha256 of the recipe pins {recipe.init_sha256}: "
            "fetch the pinned file, or pin this one"
        )
    return sha256


def _numbers(about: dict[str, str], key: str, otherwise: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(part) for part in about[key].split(",")) if key in about else tuple(otherwise)


def reestimate_batchnorm(model: nn.Module, forward: Callable[[], None]) -> None:
    """Take the statistics of all BatchNorm layers anew: the plain mean over all batches that `forward` runs.

    forward: runs the model over some batches of training tissue. Only these layers are in train mode meanwhile, so
    that dropout draws nothing; momentum None makes torch average cumulatively.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    model.eval()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
        layer.train()
    with torch.no_grad():
        forward()
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
