"""How TensorRT wants each precision written into the graph, and which versions of it are used."""

from __future__ import annotations

from packaging.version import Version

from regiolect.contracts import Precision
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# The parser takes zero point 0 only. FP16 scales make the part that is not quantized FP16, for the tensor cores.
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(
        activation="int8", remainder=Precision.FP16, operators=QUANTIZED_OPERATORS, residual_add=True
    ),
}

LEAN = "REGIOLECT_TENSORRT_LEAN"
"""The environment's name for the path of a lean runtime: a machine has it, no bundle does."""

_OLDEST, _FIRST_UNKNOWN = Version("10.12"), Version("12")


def supported(version: str) -> bool:
    """Whether plans are built and run with that version of plain TensorRT: 10.12 and later, 11 included.

    Before 10.12 strongly typed graphs with Q/DQ miss what the recipes ask for.
    """
    return _OLDEST <= Version(version) < _FIRST_UNKNOWN


def dotted(capability: str) -> str:
    """`SM89` as CUDA tells it: `8.9`."""
    digits = capability.removeprefix("SM")
    return f"{digits[:-1]}.{digits[-1]}"
