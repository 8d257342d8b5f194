"""How OpenVINO wants each precision written into the graph."""

from __future__ import annotations

from regiolect.contracts import Precision
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# Quantizing the inputs of Conv, Gemm and MatMul alone is faster here than quantizing residual additions as well:
# OpenVINO sums a convolution's residual in its epilogue anyway.
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(activation="int8", remainder=Precision.FP32, operators=QUANTIZED_OPERATORS),
}
