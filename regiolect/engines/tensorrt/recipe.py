"""How TensorRT-RTX wants each precision written into the graph, and which GPUs it is built for."""

from __future__ import annotations

from regiolect.contracts import Precision
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# The parser takes zero point 0 only. FP16 scales make the part that is not quantized FP16, for the tensor cores.
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(
        activation="int8", remainder=Precision.FP16, operators=QUANTIZED_OPERATORS, residual_add=True
    ),
}

_AMPERE_AND_LATER = ("SM80", "SM86", "SM89", "SM120", "SM121")
# One plan runs on every GPU it lists. Turing has no FP32 matrix kernels in TensorRT-RTX.
COMPUTE_CAPABILITIES = {
    Precision.FP32: _AMPERE_AND_LATER,
    Precision.FP16: ("SM75", *_AMPERE_AND_LATER),
    Precision.INT8: ("SM75", *_AMPERE_AND_LATER),
}
