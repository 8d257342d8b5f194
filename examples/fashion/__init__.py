"""The example model: garments in nine regions, each seen through its own SIMULATED camera."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from examples.fashion.data import sources
from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.evaluate.metrics import top1
from regiolect.model import ModelSpec

if TYPE_CHECKING:
    import torch

_HERE = Path(__file__).parent
WEIGHTS = _HERE / "weights.safetensors"


def load() -> torch.nn.Module:
    """The trained network in eval mode."""
    from examples.fashion.model import load_network

    return load_network(WEIGHTS)


MODEL = ModelSpec(
    name="fashion",
    loader=load,
    sources=(WEIGHTS,),
    inputs=(TensorSpec(name="image", dtype="float32", shape=("batch", 1, 28, 28)),),
    outputs=("logits",),
    # Mean and standard deviation of the 60,000 clean training images.
    preprocessing=Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.2860,), std=(0.3530,)),
    metrics={"accuracy": top1},
    data=sources(),
    note="The regions' cameras are SIMULATED (examples/fashion/README.md): no figure speaks of a real place.",
)

__all__ = ["MODEL", "load"]
