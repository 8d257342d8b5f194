"""How ONNX Runtime's providers want each precision written into the graph."""

from __future__ import annotations

from regiolect.contracts import Precision
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# A convolution becomes an integer kernel only if its output is quantized too, so residual additions have to be.
# int8 activations would leave most convolutions in float kernels on x86. A ResNet-50-sized network runs 3.3 times as
# fast as FP32 by this recipe, 1.6 with float additions, 0.8 with int8 activations (benchmarks/results/recipes.md).
# It holds for every arithmetic class: where 8 x 8 bit products saturate, the session takes exact kernels
# (`session.CPU`), so that weights keep their 8 bits (docs/adr/0019).
# Without an integer bias a Gemm stays float and has its weights dequantized in every run.
# Its integer products take a scale for each column in the shape of the weight, which no DequantizeLinear has where that
# is a batch of matrices: the session opens, and every run fails (ONNX Runtime 1.31).
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(
        activation="uint8",
        remainder=Precision.FP32,
        operators=QUANTIZED_OPERATORS,
        residual_add=True,
        integer_bias=True,
        columns_of_batches=False,
    ),
}

# The CUDA provider has no integer convolution: it computes what is quantized in the scales' type, and more slowly than
# that type alone (benchmarks/results/gpu.md). So the recipe is that of the tensor cores, for the comparison to show it.
CUDA_RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(
        activation="int8", remainder=Precision.FP16, operators=QUANTIZED_OPERATORS, residual_add=True
    ),
}
