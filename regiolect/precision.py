"""The precision table: what is true of each precision, what is wider than what, and how a backend wants one written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from regiolect.contracts import Contract, Execution, Precision

# Types of kernels, widest first. BF16 stands behind FP16: it keeps 8 bits of significand against 11.
# TF32 keeps 11 as well, but has FP32's exponent, so it stands before FP16.
WIDEST_FIRST: tuple[Execution, ...] = (
    Execution.FP32,
    Execution.TF32,
    Execution.FP16,
    Execution.BF16,
    Execution.INT8,
)


@dataclass(frozen=True)
class Traits:
    """What is true of a precision, wherever that matters.

    executes: types in which kernels of its engines may compute, widest first; the last is its own.
    stored: ONNX's names of the element types in which its values are held, weights among them. A graph that holds one
        of them counts as of this precision, so each belongs to one row.
    quantized: weights and activations are integers, clipped at thresholds that a method of calibration chooses.
    observed: what a graph of it, and the wider ones that may take its place, need to know of a region's activations.
    by_arithmetic: processors of two classes may answer differently, so that an engine is approved in one class, and
        answers its self-test where it is loaded.
    alike: how far the answers of two configurations of an engine may lie apart, as a share of their size: other kernels
        round otherwise, and in coarser types more so.
    faithful: how far an engine's answers may lie from those of its own graph, likewise, wherever the graph is close to
        the model in FP32 (docs/adr/0031).
    """

    executes: tuple[Execution, ...]
    stored: tuple[str, ...]
    quantized: bool
    observed: Literal["nothing", "ranges", "histograms"]
    by_arithmetic: bool
    alike: float
    faithful: float

    @property
    def execution(self) -> Execution:
        """The type of the kernels that are its own, which a policy may forbid."""
        return self.executes[-1]


# One row a precision, the widest first: a row's place is its width. `regiolect.contracts.Precision` has their names.
_TRAITS: Mapping[Precision, Traits] = {
    Precision.FP32: Traits(
        executes=(Execution.FP32,),
        stored=("FLOAT",),
        quantized=False,
        observed="nothing",
        by_arithmetic=False,
        alike=1e-3,
        faithful=1e-3,
    ),
    Precision.FP16: Traits(
        executes=(Execution.FP32, Execution.TF32, Execution.FP16),
        stored=("FLOAT16",),
        quantized=False,
        # It must not overflow.
        observed="ranges",
        by_arithmetic=False,
        alike=2e-2,
        faithful=2e-2,
    ),
    Precision.INT8: Traits(
        executes=(Execution.FP32, Execution.TF32, Execution.FP16, Execution.BF16, Execution.INT8),
        stored=("INT8", "UINT8"),
        quantized=True,
        observed="histograms",
        by_arithmetic=True,
        alike=1e-1,
        faithful=5e-2,
    ),
}


def traits(precision: Precision) -> Traits:
    """The row of a precision."""
    return _TRAITS[precision]


def coarser_than(executed: Execution, floor: Precision) -> bool:
    """Whether a kernel of type `executed` computes more coarsely than a policy's precision allows."""
    return executed not in traits(floor).executes


def differs_by_arithmetic(executed: Execution) -> bool:
    """Whether kernels of type `executed` may answer differently in another class of arithmetic."""
    return any(row.by_arithmetic and row.execution is executed for row in _TRAITS.values())


def stored_in(*, quantized: bool) -> Mapping[str, Precision]:
    """ONNX's names of the element types in which values are held, with the precision that each stands for.

    Args:
        quantized: those that are quantized values, or those that are not.
    """
    rows = [(each, row) for each, row in _TRAITS.items() if row.quantized is quantized]
    return {name: each for each, row in rows for name in row.stored}


def width(precision: Precision) -> int:
    """Place of a precision, widest first: 0 for FP32."""
    return list(_TRAITS).index(precision)


def wider_or_equal(precision: Precision, than: Precision) -> bool:
    """Whether `precision` is at least as wide as `than`."""
    return width(precision) <= width(than)


class Recipe(Contract):
    """How one backend wants one precision written into an ONNX graph.

    activation: integer type of quantized activations. int8 is symmetric with zero point 0; uint8 covers what was seen
        of the range, with its zero point where zero lies in it.
    remainder: float type of everything that is not quantized, and of the scales.
    operators: operators whose data inputs are quantized. Weights are int8, symmetric, per output channel; biases
        stay float.
    integer_bias: the kernels add biases as int32, so those of quantized Gemms are written as such all the same, and a
        channel's scale is one at which its bias is exact; with a remainder of FP32 only.
    residual_add: quantize the inputs of Add where a quantized operator feeds it, so that backends can fuse it.
    columns_of_batches: a weight of a MatMul that is a batch of matrices has a scale for each column too; otherwise one
        scale in all, where the kernels take scales of columns beside two dimensions alone.
    pairs_in_int16: keep weights so small that the products of any two weights of an output channel with uint8 values
        fit into int16 together, as kernels need that add such products in pairs.
    """

    activation: Literal["int8", "uint8"] | None = None
    remainder: Precision = Precision.FP32
    operators: Annotated[tuple[str, ...], Field(description="ONNX operator types")] = ()
    residual_add: bool = False
    integer_bias: bool = False
    columns_of_batches: bool = True
    pairs_in_int16: bool = False


FLOAT_RECIPES: dict[Precision, Recipe] = {
    Precision.FP32: Recipe(remainder=Precision.FP32),
    Precision.FP16: Recipe(remainder=Precision.FP16),
}
QUANTIZED_OPERATORS = ("Conv", "Gemm", "MatMul")
