"""Typed graphs: an exported FP32 graph as each precision and backend wants it, and what a graph says of itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from regiolect.contracts import Blob, CalibrationTable, ExportedModel, Precision, RegionId
from regiolect.errors import CalibrationError, InvalidSetting, MissingThreshold
from regiolect.precision import Recipe
from regiolect.storage import Store


def typed_graph(
    model: ExportedModel,
    region: RegionId,
    precision: Precision,
    recipe: Recipe,
    table: CalibrationTable | None,
    store: Store,
    wider: Collection[str] = (),
) -> Blob:
    """Keep `model`'s graph, typed as `precision` in the way `recipe` asks for.

    FP32 is the exported graph itself, the same bytes. FP16 has float16 everywhere but at its inputs and outputs,
    which stay float32 behind Casts. INT8 has QuantizeLinear and DequantizeLinear nodes around the operators of the
    recipe; the rest is FP32 or FP16. Same arguments, same bytes.

    Args:
        model: the exported model.
        region: whom the graph is for; the table must be of this region.
        precision: the type of the graph.
        recipe: how the backend wants it written.
        table: the region's thresholds, for INT8; None for anything else.
        store: where the exported graph lies, and where the typed one goes.
        wider: first outputs of operators of the normalized graph that are left out of the precision.

    Raises:
        InvalidSetting: the recipe does not fit the precision.
        CalibrationError: a table was given for a precision that uses none.
        ForeignCalibration: the table belongs to another region, model or preprocessing.
        MissingThreshold: no table, or a tensor to quantize is not in it.
        InvalidOnnx: the exported or the typed graph fails ONNX's full check.
        UnsupportedOperator: nothing in the graph can be quantized, or its opset cannot be raised as needed.
        PrecisionOverflow: a weight or scale lies outside the range of its new type.
    """
    _refuse_mismatch(precision, recipe)
    if precision is Precision.INT8:
        if table is None:
            raise MissingThreshold(
                expected=f"a calibration table of region {region!r} for an INT8 graph of {model.name!r}",
                found="none",
                remedy=f"calibrate on local data first: regiolect run MODEL --regions {region}",
            )
        from regiolect.calibrate import require_own

        require_own(table.seal, region=region, model=model)
    elif table is not None:
        raise CalibrationError(
            expected=f"no calibration table for an {precision} graph of {model.name!r}",
            found=f"one of region {table.seal.region!r}",
            remedy="give table=None: only INT8 uses thresholds, and an unused one would seal the graph to nothing",
        )

    from regiolect.graphs import half, protos, quantize

    source = protos.load(store.path_of(model.graph))
    if precision is Precision.FP32:
        protos.check(source)
        return model.graph
    graph = protos.normalized(source)
    if precision is Precision.INT8 and table is not None:
        graph = quantize.quantized(graph, recipe, table.tensors)
    if recipe.remainder is Precision.FP16:
        graph = half.halved(graph)
    protos.check(graph)
    return store.put_bytes(protos.to_bytes(graph))


def scan_graph(path: Path) -> Mapping[Precision, int]:
    """Count a graph's compute nodes by the precision in which the graph says they compute.

    See `regiolect.graphs.scan.scan` for the rule.

    Raises:
        InvalidOnnx: the file is no valid graph, a type cannot be inferred, or nothing in it computes.
        UnsupportedOperator: a type that no precision here stands for, such as bfloat16.
    """
    from regiolect.graphs import protos, scan

    return scan.scan(protos.load(path))


def _refuse_mismatch(precision: Precision, recipe: Recipe) -> None:
    if precision is Precision.INT8:
        fits = recipe.activation is not None and bool(recipe.operators) and recipe.remainder is not Precision.INT8
        wanted = "activation and operators set, and a remainder of FP32 or FP16"
    else:
        quantizes = recipe.activation is not None or recipe.operators or recipe.residual_add
        fits = not quantizes and recipe.remainder is precision
        wanted = f"remainder={precision} and nothing quantized"
    if not fits:
        raise InvalidSetting(
            expected=f"a recipe for {precision}: {wanted}",
            found=repr(recipe),
            remedy="correct the backend's recipe; regiolect.precision.FLOAT_RECIPES holds those of FP32 and FP16",
        )


__all__ = ["scan_graph", "typed_graph"]
