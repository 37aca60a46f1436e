"""Networks of our own, registered with timm, so that they are built, saved and loaded like every other architecture.

Importing this module imports torch and timm: rooms do so where they build a model, not at their top. A new network is
one class and one `@register_model` function here; its name is then valid as a recipe's `arch`.
"""

from collections.abc import Sequence
from typing import Any

import timm
import torch
from timm.layers import ClassifierHead
from timm.models import VGG, build_model_with_cfg, generate_default_cfgs, model_entrypoint, register_model
from torch import nn

__all__ = ["BaselineCNN", "Headed", "body_of"]


class _Classified(nn.Module):
    """A network whose last layer is `classifier`, of `num_features` inputs, as timm asks for it."""

    num_classes: int
    num_features: int
    classifier: nn.Module

    def get_classifier(self) -> nn.Module:
        """The last layer, as timm asks for it."""
        return self.classifier

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer by one for `num_classes` classes. global_pool is timm's and has no use here."""
        self.num_classes = num_classes
        self.classifier = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()


class BaselineCNN(_Classified):
    """Three convolutions and a small head: the baseline that the idc-recall project starts from, for 50x50 patches.

    Each stage is a 3x3 convolution, ReLU and a 2x2 maximum; the head sees the mean of the last map, so that any image
    size of at least 8 px works. No batch normalisation, as in the original.

    num_classes: length of the logits, 0 for features. in_chans: channels of the input. drop_rate: dropout before the
    classifier, 0-1. widths: channels of the three stages.
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_chans: int = 3,
        drop_rate: float = 0.0,
        widths: tuple[int, int, int] = (32, 64, 128),
        hidden: int = 128,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.num_features = self.head_hidden_size = hidden
        layers: list[nn.Module] = []
        before = in_chans
        for width in widths:
            layers += [nn.Conv2d(before, width, kernel_size=3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
            before = width
        self.features = nn.Sequential(*layers)
        self.hidden = nn.Linear(before, hidden)
        self.drop = nn.Dropout(drop_rate)
        self.classifier = nn.Linear(hidden, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) float -> (n, width, s // 8, s // 8) float."""
        return self.features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The last maps -> (n, num_classes) logits, or (n, num_features) where pre_logits is set."""
        hidden = self.drop(torch.relu(self.hidden(maps.mean(dim=(2, 3)))))
        return hidden if pre_logits else self.classifier(hidden)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) normalised float -> (n, num_classes) logits."""
        return self.forward_head(self.forward_features(images))


class Headed(_Classified):
    """Any network of timm with fully connected layers of our own in place of its classifier.

    After `import stages.contracts.networks` plain timm loads it from a model folder: what it is built of stands in
    config.json's `model_args`. VGG's own two layers of 4,096, which hold nine tenths of its weights, give way as well:
    the head then sees the mean of the last map.

    body: name of the network. hidden: width of each layer. head_drop_rate: dropout after each of them, 0-1.
    body_args: how the body is built beside that.
    """

    def __init__(
        self,
        body: str,
        hidden: Sequence[int],
        num_classes: int = 2,
        in_chans: int = 3,
        head_drop_rate: float = 0.0,
        **body_args: Any,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.replaced: tuple[str, ...] = ()
        """Parts of the body beside its classifier that gave way."""
        if model_entrypoint(body).__module__ == VGG.__module__:
            body_args = {"mlp_ratio": 1 / 4096, **body_args}  # its own layers are built before they give way
        self.body = timm.create_model(body, num_classes=0, in_chans=in_chans, **body_args)
        if isinstance(self.body, VGG):
            self.replaced = ("pre_logits",)
            self.body.pre_logits = nn.Identity()
            self.body.head = ClassifierHead(self.body.num_features, 0)
        layers: list[nn.Module] = []
        before = self.body.num_features if isinstance(self.body, VGG) else self.body.head_hidden_size
        for width in hidden:
            layers += [nn.Linear(before, width), nn.ReLU(), nn.Dropout(head_drop_rate)]
            before = width
        self.num_features = self.head_hidden_size = before
        self.hidden = nn.Sequential(*layers)
        self.classifier = nn.Linear(before, num_classes) if num_classes else nn.Identity()

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """The last maps, or tokens, of the body."""
        return self.body.forward_features(images)

    def forward_head(self, maps: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """The last maps -> (n, num_classes) logits, or (n, num_features) where pre_logits is set."""
        hidden = self.hidden(self.body.forward_head(maps))
        return hidden if pre_logits else self.classifier(hidden)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(n, 3, s, s) normalised float -> (n, num_classes) logits."""
        return self.classifier(self.hidden(self.body(images)))


def body_of(model: nn.Module) -> nn.Module:
    """The network that holds what was learned from other images: the model itself, or what stands under its head."""
    return model.body if isinstance(model, Headed) else model


default_cfgs = generate_default_cfgs(
    {
        "headed": {"classifier": "classifier"},
        "baseline_cnn": {
            "input_size": (3, 50, 50),
            "pool_size": None,
            "num_classes": 2,
            "crop_pct": 1.0,
            "interpolation": "bilinear",
            "mean": (0.5, 0.5, 0.5),
            "std": (0.5, 0.5, 0.5),
            "first_conv": "features.0",
            "classifier": "classifier",
        },
    }
)


@register_model
def baseline_cnn(pretrained: bool = False, **kwargs: Any) -> BaselineCNN:
    """Baseline of the idc-recall project: 0.1 M parameters, no published weights."""
    return build_model_with_cfg(BaselineCNN, "baseline_cnn", pretrained, **kwargs)


@register_model
def headed(pretrained: bool = False, **kwargs: Any) -> Headed:
    """Any network under a head of fully connected layers; its `body` is loaded, not it."""
    return build_model_with_cfg(Headed, "headed", pretrained, **kwargs)
