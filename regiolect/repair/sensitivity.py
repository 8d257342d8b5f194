"""Which operators quantization hurts most, from one extra pass: each beside its own twin, on true inputs.

docs/adr/0010-sensitivity.md says how well this finds the operators that matter, and what else was tried.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import CalibrationTable, ExportedModel, SensitiveOperator
from regiolect.data import Samples, model_inputs
from regiolect.errors import InvalidOnnx, InvalidSamples
from regiolect.graphs.protos import infer_shapes
from regiolect.precision import Recipe
from regiolect.storage import Store

if TYPE_CHECKING:
    from onnx import ModelProto

    from regiolect.engines.reference import Session
    from regiolect.graphs.quantize import Twin

Progress = Callable[[int, int], None]
"""(samples done, samples in all)."""

# Enough to tell a sensitive operator from others: their errors differ by orders of magnitude.
MOST_SAMPLES = 32
# What the float tensors of one batch may take, twins and squares not counted: they live for one operator only.
_BATCH_BYTES = 64 << 20


def rank_operators(
    model: ExportedModel,
    table: CalibrationTable,
    recipe: Recipe,
    samples: Samples,
    store: Store,
    progress: Progress | None = None,
) -> tuple[SensitiveOperator, ...]:
    """Every operator that INT8 applies to, the one that it hurts most first; none in a model that arrives quantized
    throughout, which keeps its own scales.

    In one graph, beside each operator stands a twin that reads the true FP32 inputs of its operator, quantized and
    dequantized as the recipe writes it: activations by the table's thresholds, weights per channel. The error is the
    power of their difference over the power of the operator's output, summed in float64 over all samples. One that is
    always zero has error 0, or infinity in effect (1e300) if its twin is not. Equal errors keep the graph's order.

    Args:
        model: the exported model.
        table: the region's thresholds.
        recipe: how the backend wants INT8 written.
        samples: raw samples of the table's region; at most MOST_SAMPLES of them are used, evenly spaced.
        store: where the model's graph lies.
        progress: called after each batch.

    Raises:
        ForeignCalibration: the table is of another model, or of another region than the samples.
        MissingThreshold: an activation is not in the table.
        UnsupportedOperator: nothing in the graph can be quantized.
        InvalidSamples: the samples do not fit the model's inputs.
        InvalidOnnx: ONNX Runtime does not load the graph.
    """
    from regiolect.graphs import protos, quantize
    from regiolect.provenance import require_own

    for region in np.unique(samples.regions):
        require_own(table.seal, region=str(region), model=model)
    used = samples.take(np.unique(np.linspace(0, len(samples) - 1, MOST_SAMPLES).astype(int)))
    graph = protos.normalized(protos.load(store.path_of(model.graph)))
    size = _fitting_batch(graph, _feeds(used.take(slice(0, 1)), model))
    paired, twins = quantize.with_twins(graph, recipe, table.tensors)
    if not twins:
        return ()
    session = _open(_measured(paired, twins), model)
    sums = np.zeros((len(twins), 2))
    for start in range(0, len(used), size):
        part = used.take(slice(start, start + size))
        sums += _run(session, _feeds(part, model)).reshape(-1, 2)
        if progress is not None:
            progress(start + len(part), len(used))
    operators = [
        SensitiveOperator(output=twin.output, kind=twin.kind, error=_ratio(lost, there))
        for twin, (lost, there) in zip(twins, sums.tolist(), strict=True)
    ]
    return tuple(sorted(operators, key=lambda operator: -operator.error))


def _ratio(lost: float, there: float) -> float:
    """Neither infinity nor NaN, which JSON cannot hold."""
    if lost == 0:
        return 0.0
    return min(lost / there, 1e300) if there > 0 else 1e300


def _measured(paired: ModelProto, twins: Sequence[Twin]) -> ModelProto:
    """The graph with two scalars per operator for outputs: sums of squares of the difference and of the output."""
    from onnx import TensorProto, helper

    from regiolect.graphs.qdq import Names

    graph, outputs = paired.graph, []
    names = Names(graph)

    def add(kind: str, inputs: list[str], **attributes: Any) -> str:
        output = names.new(f"{inputs[0]}_{kind.lower()}")
        graph.node.append(helper.make_node(kind, inputs, [output], name=names.new(f"{output}_node"), **attributes))
        return output

    for twin in twins:
        # In float64 before the square: squares of float32 reach infinity at 1.8e19 and lose small errors much sooner.
        for values in (add("Sub", [twin.output, twin.quantized]), twin.output):
            exact = add("Cast", [values], to=TensorProto.DOUBLE)
            outputs.append(add("ReduceSumSquare", [exact], keepdims=0))
    del graph.output[:]
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.DOUBLE, []) for name in outputs)
    return paired


def _open(graph: ModelProto, model: ExportedModel) -> Session:
    from regiolect.engines.reference import BASIC, FAILURES, LIBRARY, open_graph, session_options
    from regiolect.export.parity import last_line

    options = session_options()
    # Beyond the basic ones, optimizations would replace twins by integer kernels that round in ways of their own.
    options.graph_optimization_level = BASIC
    try:
        return open_graph(graph.SerializeToString(), options)
    except FAILURES as error:
        raise InvalidOnnx(
            expected=f"a graph of {model.name!r} that {LIBRARY} loads",
            found=last_line(error),
            remedy="export the model again, in an opset that this version reads",
        ) from error


def _run(session: Session, feeds: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    from regiolect.engines.reference import FAILURES
    from regiolect.export.parity import last_line

    try:
        return np.asarray(session.run(None, dict(feeds)), np.float64)
    except FAILURES as error:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in feeds.items())
        raise InvalidSamples(
            expected="samples that the model's graph runs on",
            found=f"inputs {shapes}: {last_line(error)}",
            remedy="check the samples' shapes",
        ) from error


def _feeds(samples: Samples, model: ExportedModel) -> dict[str, NDArray[Any]]:
    prepared = model_inputs(samples, model.preprocessing)
    missing = [tensor.name for tensor in model.inputs if tensor.name not in prepared]
    if missing:
        raise InvalidSamples(
            expected=f"samples with the inputs of {model.name!r}: {', '.join(tensor.name for tensor in model.inputs)}",
            found=f"{', '.join(samples.inputs)}",
            remedy="name the arrays of the region's samples like the model's inputs",
        )
    return {tensor.name: prepared[tensor.name] for tensor in model.inputs}


def _fitting_batch(graph: ModelProto, one: Mapping[str, NDArray[Any]]) -> int:
    """How many samples at a time keep the float tensors, all alive at once, within _BATCH_BYTES."""
    from onnx import ModelProto

    sized = ModelProto()
    sized.CopyFrom(graph)
    del sized.graph.value_info[:]
    for value in sized.graph.input:
        # Samples of another rank are refused when they are run.
        for dim, extent in zip(value.type.tensor_type.shape.dim, one[value.name].shape, strict=False):
            dim.dim_value = extent
    inferred = infer_shapes(sized)
    count = sum(
        np.prod([dim.dim_value for dim in value.type.tensor_type.shape.dim], dtype=np.float64)
        for value in inferred.graph.value_info
    )
    return int(np.clip(_BATCH_BYTES // max(4 * count, 1), 1, 16))
