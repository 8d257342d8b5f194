"""Typed graphs: an exported FP32 graph as each precision and backend wants it, and what a graph says of itself."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.contracts import Blob, CalibrationTable, ExportedModel, GraphNode, Precision, RegionId
from regiolect.errors import AlreadyQuantized, CalibrationError, InvalidSetting, MissingThreshold
from regiolect.precision import Recipe, traits, width
from regiolect.storage import Store

if TYPE_CHECKING:
    from onnx import ModelProto


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

    FP32 is the exported graph itself, the same bytes. FP16 has float16 everywhere but at its inputs and outputs, in
    the operators in `wider`, and in those that the table's ranges bring near float16's limit (`kept_wide`): these are
    float32. INT8 has QuantizeLinear and DequantizeLinear nodes around the operators of the recipe that are not in
    `wider`; the rest is FP32, or FP16 but for what comes near its limit. Same arguments, same bytes.

    A model that arrives with Q/DQ nodes keeps its own scales whatever `wider` says, but for what a recipe with
    `pairs_in_int16` has to rewrite (`regiolect.graphs.refit`). It is INT8 and nothing else: there is no FP32 or FP16
    graph of a model in which `scan_graph` counts INT8. In INT8 with an FP32 remainder, subgraphs of control flow and
    operators of other domains stay as they are.

    Args:
        model: the exported model.
        region: whom the graph is for; the table must be of this region.
        precision: the type of the graph.
        recipe: how the backend wants it written.
        table: the region's thresholds, for INT8, by any method; for FP16, and INT8 with an FP16 remainder, with a range
            for every float32 tensor; None for FP32.
        store: where the exported graph lies, and where the typed one goes.
        wider: operators of the normalized graph that are left out of the precision, by first output.

    Raises:
        AlreadyQuantized: FP32 or FP16 is asked for, and the model arrives with operators in INT8.
        InvalidSetting: the recipe does not fit the precision, or `wider` names no operator of the graph.
        CalibrationError: a table was given for FP32, which uses none.
        ForeignCalibration: the table belongs to another region, model or preprocessing.
        MissingThreshold: no table, or a tensor whose range is needed is not in it.
        InvalidOnnx: the exported or the typed graph fails ONNX's full check.
        UnsupportedOperator: nothing in the graph can be quantized, its opset cannot be raised as needed, an FP16
            graph would hold control flow, or an FP32 or FP16 one operators of other domains or of types that no
            precision stands for.
        PrecisionOverflow: a scale lies outside the range of its type.
    """
    _refuse_mismatch(precision, recipe)
    _require_table(model, region, precision, table)

    from regiolect.graphs import half, overflow, protos, quantize

    source = protos.load(store.path_of(model.graph))
    plain = protos.normalized(source)
    _require_operators(plain, wider)
    if not traits(precision).quantized:
        _refuse_quantized(plain, model, region, precision)
    if table is None:
        protos.check(source)
        return model.graph
    graph, wide = plain, set[str]()
    if recipe.remainder is Precision.FP16:
        wide.update(overflow.kept_wide(plain, table.tensors))
    if traits(precision).quantized:
        graph = quantize.quantized(plain, recipe, table.tensors, frozenset(wider))
    else:
        wide.update(wider)
    if recipe.remainder is Precision.FP16:
        graph = half.halved(graph, wide)
    protos.check(graph)
    return store.put_bytes(protos.to_bytes(graph))


def operators_of(model: ExportedModel, recipe: Recipe, store: Store) -> tuple[str, ...]:
    """First outputs of the operators that INT8 applies to, in graph order: what `wider` may name to any effect.

    Raises:
        InvalidOnnx: the exported graph fails ONNX's full check.
    """
    from regiolect.graphs import protos, quantize

    return quantize.quantizable(protos.normalized(protos.load(store.path_of(model.graph))), recipe)


def kept_wide(model: ExportedModel, table: CalibrationTable, store: Store) -> tuple[str, ...]:
    """First outputs of the operators that stay FP32 in an FP16 graph, for their ranges come near float16's limit.

    See `regiolect.graphs.overflow.kept_wide` for the rule.

    Raises:
        MissingThreshold: a float32 tensor of the graph is not in the table.
        UnsupportedOperator: control flow or operators of other domains.
        InvalidOnnx: the exported graph fails ONNX's full check.
    """
    from regiolect.graphs import overflow, protos

    return overflow.kept_wide(protos.normalized(protos.load(store.path_of(model.graph))), table.tensors)


def scan_graph(path: Path) -> Mapping[Precision, int]:
    """Count a graph's compute nodes by the precision in which the graph says they compute.

    See `regiolect.graphs.scan.scan` for the rule.

    Raises:
        InvalidOnnx: the file is no valid graph, a type cannot be inferred, or nothing in it computes.
        UnsupportedOperator: a type that no precision here stands for, such as bfloat16.
    """
    from regiolect.graphs import protos, scan

    return scan.scan(protos.load(path))


def typed_nodes(path: Path) -> tuple[tuple[GraphNode, ...], Mapping[str, str]]:
    """A graph's compute nodes with their precisions, and every node's name by each name that leads to it.

    Those names are the node's own and those of its outputs; nodes of subgraphs are reached too. See
    `regiolect.graphs.scan.typed_nodes` for the rule, and `scan_graph` for what is raised.
    """
    from regiolect.graphs import protos, scan

    model = protos.load(path)
    nodes = [node for graph in protos.graphs(protos.inlined(model).graph) for node in graph.node]
    by_output = {output: node.name or node.output[0] for node in nodes for output in node.output if output}
    return scan.typed_nodes(model), by_output | {node.name: node.name for node in nodes if node.name}


def _require_table(
    model: ExportedModel, region: RegionId, precision: Precision, table: CalibrationTable | None
) -> None:
    """A table of the region's own for what uses one, and none for what does not."""
    if traits(precision).observed == "nothing" and table is not None:
        raise CalibrationError(
            expected=f"no calibration table for an {precision} graph of {model.name!r}",
            found=f"one of region {table.seal.region!r}",
            remedy=f"give table=None: {precision} uses no ranges, and an unused table would seal the graph to nothing",
        )
    if traits(precision).observed != "nothing" and table is None:
        raise MissingThreshold(
            expected=f"a calibration table of region {region!r} for an {precision} graph of {model.name!r}",
            found="none",
            remedy=f"calibrate on local data first: regiolect run MODEL --regions {region}",
        )
    if table is not None:
        from regiolect.provenance import require_own

        require_own(table.seal, region=region, model=model)


def _require_operators(graph: ModelProto, wider: Collection[str]) -> None:
    made = [node.output[0] for node in graph.graph.node]
    unknown = sorted(set(wider) - set(made))
    if unknown:
        near = difflib.get_close_matches(unknown[0], made, n=3, cutoff=0.0)
        raise InvalidSetting(
            expected=f"`wider` to name operators of graph {graph.graph.name!r} by their first outputs",
            found=f"{', '.join(map(repr, unknown[:5]))}, which none of its {len(made)} operators has",
            remedy=f"take the names from regiolect.graphs.operators_of; the nearest are {', '.join(map(repr, near))}",
        )


def _refuse_quantized(graph: ModelProto, model: ExportedModel, region: RegionId, precision: Precision) -> None:
    """Runtimes make integer kernels of 8-bit operands, of weights alone too, whatever the graph is called; and what is
    called wider is bound to no class of arithmetic and has no self-test."""
    from regiolect.graphs import scan

    nodes = scan.typed_nodes(graph)
    narrow = [node for node in nodes if traits(node.precision).quantized]
    if narrow:
        first = narrow[0]
        held = " and ".join(sorted({node.precision for node in narrow}))
        coarsest = max((node.precision for node in narrow), key=width)
        raise AlreadyQuantized(
            expected=f"a model {model.name!r} without {held} for the {precision} graph of region {region!r}",
            found=f"{len(narrow)} of its {len(nodes)} compute nodes in {held} as it arrives, the first {first.name!r}",
            remedy=f"state `precision: {coarsest}` in the policy of {region}; or make the model as it was before it "
            "was quantized the `loader` of the ModelSpec, and let each region's policy quantize it",
        )


def _refuse_mismatch(precision: Precision, recipe: Recipe) -> None:
    if traits(precision).quantized:
        fits = recipe.activation is not None and bool(recipe.operators) and not traits(recipe.remainder).quantized
        # An int32 bias counts up to millions of steps, and each is finer than float16 can tell.
        fits = fits and not (recipe.integer_bias and recipe.remainder is Precision.FP16)
        wanted = "activation and operators set, and a remainder of FP32, or of FP16 with float biases"
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


__all__ = ["kept_wide", "operators_of", "scan_graph", "typed_graph", "typed_nodes"]
