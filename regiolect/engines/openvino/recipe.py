"""How OpenVINO wants each precision written into the graph."""

from __future__ import annotations

from regiolect.contracts import Arithmetic, Precision
from regiolect.host.arithmetic import sums_in_int32
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

# Unsigned activations and quantized residual additions: 3.4 times FP32 on a ResNet-50-sized network at batch 1, against
# 3.1 with signed activations and 3.2 with float additions, with AVX512-VNNI (benchmarks/results/recipes.md).
# With a scale for each column of a weight that is a batch of matrices, OpenVINO 2026.4 computes the first product alone
# where it uses AMX (docs/adr/0031).
RECIPES = {
    **FLOAT_RECIPES,
    Precision.INT8: Recipe(
        activation="uint8",
        remainder=Precision.FP32,
        operators=QUANTIZED_OPERATORS,
        residual_add=True,
        columns_of_batches=False,
    ),
}


def for_arithmetic(recipe: Recipe, arithmetic: Arithmetic | None) -> Recipe:
    """A recipe of RECIPES as it is where OpenVINO's kernels have that arithmetic.

    Where they add pairs of products in int16 there are no others (docs/adr/0019).
    """
    if recipe.activation is None or sums_in_int32(arithmetic):
        return recipe
    return recipe.model_copy(update={"pairs_in_int16": True})
