"""The frozen part of a network that comes before all that trains, cut off so that it need not be run again.

Networks of timm are chains: their children, and those of each Sequential, are called one after the other on what the
last returned. So the prefix is run by calling its links in order, and the rest by running the whole network with the
prefix's links turned into doors that let everything pass. Whether a network is such a chain is not believed but tried:
`cut` compares both ways on real images, bit for bit. Where a chain does not hold (a transformer adds its positions
between two links), timm's own halves, forward_features and forward_head, are tried.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from timm.layers import DropPath
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from stages.contracts.networks import Headed, body_of
from stages.train.freeze import head_modules, layers


@dataclass(frozen=True)
class Prefix:
    """Calls that turn images into the features at the freeze boundary."""

    fabric: Fabric
    calls: list[Callable[[torch.Tensor], torch.Tensor]]
    doors: list[tuple[nn.Module, str]]
    """Methods that let everything pass while the rest is run."""

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """The features of images (n, 3, S, S): (n, ...), without a gradient."""
        with torch.no_grad(), self.fabric.autocast():
            for call in self.calls:
                images = call(images)
        return images

    def rest(self, model: nn.Module, features: torch.Tensor) -> torch.Tensor:
        """The logits for features. model: the network as Fabric runs it."""
        with self._open():
            return model(features)

    @contextmanager
    def _open(self) -> Iterator[None]:
        for module, method in self.doors:
            setattr(module, method, _passing)
        try:
            yield
        finally:
            for module, method in self.doors:
                delattr(module, method)


def cut(fabric: Fabric, module: nn.Module, model: nn.Module, images: torch.Tensor) -> Prefix | None:
    """The longest frozen prefix that gives the very bits of the whole network; None if there is none.

    module: with its frozen weights marked and in train mode. model: as Fabric runs it. images: a batch of real ones, as
    large as those that will be run. What the prefix says of an image must not depend on the place in the batch either:
    features are kept from one batch and used in another.
    """
    candidates = [Prefix(fabric, links, [(link, "forward") for link in links]) for links in [_frozen_chain(module)]]
    if not any(weight.requires_grad for _, layer in layers(module) for weight in layer.parameters(recurse=False)):
        body = body_of(module)
        candidates.append(Prefix(fabric, [body.forward_features], [(body, "forward_features")]))
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    found = next((one for one in candidates if one.calls and _exact(one, model, images)), None)
    for one, mode in modes:
        one.training = mode
    return found


def _passing(features: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
    return features


def _exact(prefix: Prefix, model: nn.Module, images: torch.Tensor) -> bool:
    with torch.no_grad():
        expected = model(images)
        try:
            features = prefix(images)
            backwards = prefix(images.flip(0).contiguous(memory_format=_layout(images))).flip(0)
            # A copy: what follows may work in place.
            found = prefix.rest(model, features.clone())
        except (AttributeError, IndexError, RuntimeError, TypeError, ValueError):
            return False  # the links of something that is no chain take what they were not made for
    return torch.equal(features, backwards) and torch.equal(found, expected)


def _layout(images: torch.Tensor) -> torch.memory_format:
    last = images.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _frozen_chain(module: nn.Module) -> list[nn.Module]:
    """Links from the input on without a weight that trains and without dropout that draws; of layers, at least one."""
    head = {id(one) for one in head_modules(module)}
    links: list[nn.Module] = []
    for link in _chain(module):
        if id(link) in head or any(weight.requires_grad for weight in link.parameters()) or _draws(link):
            break
        links.append(link)
    return links if any(True for link in links for _ in link.parameters()) else []


def _chain(module: nn.Module) -> Iterator[nn.Module]:
    for child in module.children():
        if isinstance(child, nn.Sequential) or (isinstance(module, Headed) and child is module.body):
            yield from _chain(child)
        else:
            yield child


def _draws(link: nn.Module) -> bool:
    dropouts = [one for one in link.modules() if isinstance(one, _DropoutNd | DropPath) and one.training]
    return any((one.drop_prob if isinstance(one, DropPath) else one.p) for one in dropouts)
