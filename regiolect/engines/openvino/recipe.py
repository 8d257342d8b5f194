"""How OpenVINO wants each precision written into the graph."""

from __future__ import annotations

from regiolect.contracts import Precision
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# Residual additions stay float: OpenVINO does them in the epilogue of the convolution, where quantizing gains nothing.
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(activation="int8", remainder=Precision.FP32, operators=QUANTIZED_OPERATORS),
}
