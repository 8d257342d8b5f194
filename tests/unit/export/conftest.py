"""A tiny torch net, real enough to be exported: convolutions with batch norms, a residual, a pooled head."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.data import Samples
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

SHAPE = (1, 12, 12)


class TinyNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.body, self.body_norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem_norm(self.stem(image)))
        x = torch.relu(self.body_norm(self.body(x)) + x)
        logits: torch.Tensor = self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def tiny_net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        net = TinyNet()
        for norm in (net.stem_norm, net.body_norm):
            norm.running_mean = torch.randn(4)
            norm.running_var = torch.rand(4) + 0.5
    return net.eval()


@pytest.fixture(scope="session")
def net() -> Callable[[], nn.Module]:
    return tiny_net


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture(scope="session")
def samples() -> Samples:
    rng = np.random.default_rng(3)
    ids = np.asarray([f"eu-{index:03d}" for index in range(40)])
    return Samples(
        ids=ids,
        regions=np.full(40, "eu"),
        inputs={"image": rng.integers(0, 256, (40, *SHAPE), dtype=np.uint8)},
        targets=rng.integers(0, 3, 40),
    )


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., ModelSpec]:
    def make(loader: Callable[[], nn.Module] | Path, **changes: Any) -> ModelSpec:
        settings: dict[str, Any] = {
            "name": "tiny",
            "loader": loader,
            "sources": () if isinstance(loader, Path) else (Path(__file__),),
            "inputs": (TensorSpec(name="image", shape=("batch", *SHAPE)),),
            "outputs": ("logits",),
            "metrics": {"accuracy": lambda outputs, targets: outputs["logits"].argmax(1) == targets},
            "data": {},
            "preprocessing": Preprocessing(scale=1 / 255, mean=(0.3,), std=(0.35,)),
        }
        return ModelSpec(**{**settings, **changes})

    return make


@pytest.fixture
def spec_of(make_spec: Callable[..., ModelSpec], tmp_path: Path) -> Callable[..., ModelSpec]:
    """The spec of a file with the interface of `onnx_files.conv_net`."""

    def spec(model: onnx.ModelProto | bytes, **changes: Any) -> ModelSpec:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        settings = {
            "inputs": (TensorSpec(name="x", shape=("batch", 2, 6, 6)),),
            "outputs": ("y",),
            "preprocessing": Preprocessing(),
        }
        return make_spec(path, **{**settings, **changes})

    return spec
