"""A small ResNet for 28x28 grey images: 124 thousand parameters, 25 million multiplications per image."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Block(nn.Module):
    """Two 3x3 convolutions and a shortcut. Source: He et al., "Deep Residual Learning", 2015, the basic block."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Maps (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        y = torch.relu(self.norm1(self.conv1(x)))
        return torch.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class FashionNet(nn.Module):
    """Images (n, 1, 28, 28), preprocessed, to logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.blocks = nn.Sequential(Block(32, 32, stride=1), Block(32, 48, stride=2), Block(48, 64, stride=2))
        self.classifier = nn.Linear(64, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Maps (n, 1, 28, 28) to (n, 10)."""
        logits: Tensor = self.classifier(self.blocks(self.stem(image)).mean(dim=(2, 3)))
        return logits


def load_network(weights: Path) -> FashionNet:
    """The trained network in eval mode, so that an exporter can fold its batch-norms."""
    network = FashionNet()
    network.load_state_dict(load_file(weights))
    return network.eval()
