"""A network of ResNet-50's size and shape (He et al., 2015), with random weights: for times, not for answers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.evaluate.metrics import top1
from regiolect.model import ModelSpec


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions around a shortcut; the stride sits in the 3x3.

    The last normalization is scaled down, so that activations stay in a usual range from block to block.
    """

    def __init__(self, channels_in: int, width: int, stride: int) -> None:
        super().__init__()
        channels_out = 4 * width
        first, second = _convolution(channels_in, width, 1), _convolution(width, width, 3, stride)
        last, normalization = _convolution(width, channels_out, 1)
        nn.init.constant_(normalization.weight, 0.25)
        self.body = nn.Sequential(*first, nn.ReLU(), *second, nn.ReLU(), last, normalization)
        same = stride == 1 and channels_in == channels_out
        self.shortcut = nn.Identity() if same else nn.Sequential(*_convolution(channels_in, channels_out, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def _convolution(channels_in: int, channels_out: int, size: int, stride: int = 1) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    convolution = nn.Conv2d(channels_in, channels_out, size, stride, padding=size // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels_out)


def resnet50(seed: int = 0) -> nn.Module:
    """The network in eval mode: input (n, 3, 224, 224), output (n, 1000)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers: list[nn.Module] = [*_convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for index in range(blocks):
                layers.append(Bottleneck(channels, width, stride if index == 0 else 1))
                channels = 4 * width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000)).eval()


def spec(preprocessing: Preprocessing | None = None) -> ModelSpec:
    """The network as a model of input `image` and output `logits`, whose samples the benchmarks hand over themselves.

    preprocessing: from the images as they are to float32; none for images that are float32 already.
    """
    return ModelSpec(
        name="resnet50",
        loader=resnet50,
        sources=(Path(__file__),),
        inputs=(TensorSpec(name="image", shape=("batch", 3, 224, 224)),),
        outputs=("logits",),
        metrics={"accuracy": top1},
        data={},
        preprocessing=preprocessing or Preprocessing(),
        parity_tolerance=1e-3,
    )
