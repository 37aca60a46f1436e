"""Which part of a network keeps its weights, and how it is kept.

A layer is whatever holds weights of its own, in the order in which timm lists them, which is that of computation; what
hangs on the network itself (a transformer's class token and positions) comes first. The head is never frozen.
"""

import difflib

from torch import nn

from stages.contracts.errors import StageError
from stages.contracts.networks import Headed, body_of


def freeze(model: nn.Module, what: float | str) -> None:
    """Let all weights of the model be trained but those that `what` names, a recipe's `freeze`.

    Raises StageError where it names no layer or block of the body.
    """
    kept = {id(weight) for layer in _frozen_layers(model, what) for weight in layer.parameters(recurse=False)}
    for weight in model.parameters():
        weight.requires_grad_(id(weight) not in kept)


def train_mode(model: nn.Module) -> None:
    """Train mode for all but the frozen parts: their BatchNorm keeps its statistics, their dropout draws nothing."""
    model.train()
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            module.eval()


def frozen_state(model: nn.Module) -> list[str]:
    """Names of the weights and statistics that do not move while the model trains."""
    names = []
    for name, module in model.named_modules():
        own = list(module.parameters(recurse=False))
        if own and not any(weight.requires_grad for weight in own):
            held = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            names += [f"{name}.{key}".lstrip(".") for key, _ in held]
    return names


def counted(model: nn.Module) -> tuple[int, int]:
    """Number of weights that train, and of all."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in model.parameters()]
    return sum(size for size, trains in sizes if trains), sum(size for size, _ in sizes)


def head_modules(model: nn.Module) -> list[nn.Module]:
    """What stands on top of the body: the classifier, of a headed network its hidden layers too."""
    if isinstance(model, Headed):
        return [model.hidden, model.classifier]
    classifier = model.get_classifier()
    return list(classifier) if isinstance(classifier, tuple | list) else [classifier]


def layers(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Name and module of each layer of the body, in the order of computation."""
    head = {id(module) for top in head_modules(model) for module in top.modules()}
    return [
        (name, module)
        for name, module in body_of(model).named_modules()
        if id(module) not in head and next(module.parameters(recurse=False), None) is not None
    ]


def _frozen_layers(model: nn.Module, what: float | str) -> list[nn.Module]:
    held = layers(model)
    if isinstance(what, str):
        count = len(held) if what == "all" else _count_up_to(what, model, held)
    else:
        count = round(what * len(held))
    return [module for _, module in held[:count]]


def _count_up_to(name: str, model: nn.Module, held: list[tuple[str, nn.Module]]) -> int:
    """How many layers there are up to and with the named layer or block."""
    places = [place for place, (layer, _) in enumerate(held) if f"{layer}.".startswith(f"{name}.")]
    if not places:
        known = [layer for layer, _ in body_of(model).named_modules() if layer]
        close = difflib.get_close_matches(name, known, n=3) or [layer for layer, _ in model.named_children()]
        raise StageError(f"freeze: {name!r} holds no layer of the network; there are {', '.join(close)}, or all")
    return places[-1] + 1
