"""An .onnx file of the user's, used as it is: read, checked, and its batch made dynamic where that is safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper, version_converter

from regiolect.errors import InvalidModelSpec, InvalidOnnx, ParityFailed
from regiolect.export.branches import without_settled_branches
from regiolect.export.cleanup import (
    NEWEST_OPSET,
    OPSET,
    infer_and_check,
    opset_of,
    quiet,
    refuse_control_flow,
    refuse_foreign_operators,
    refuse_moved_batch,
    set_interface,
)
from regiolect.export.external import all_tensors, load_external, not_whole
from regiolect.export.functions import without_functions
from regiolect.export.parity import Batch, Runner, compare, last_line, ort_runner
from regiolect.export.resized import say_how
from regiolect.export.sparse import make_dense
from regiolect.graphs.protos import drop_unread, graphs, infer_shapes
from regiolect.graphs.qdq import Names
from regiolect.host.files import PROTOBUF, cannot_read, open_file
from regiolect.model import ModelSpec

# The IR version from which on weights need not be inputs.
_WEIGHTS_APART = 4
# The newest that ONNX Runtime 1.31 reads, and one that runtimes of the last years read.
_NEWEST_IR = 13
_WRITTEN = 10


@dataclass(frozen=True)
class OnnxSource:
    """A file's graph, ready for clean-up.

    Attributes:
        model: opset at least 20, weights inside, batch dynamic.
        run: the file as it came, in ONNX Runtime; accepts any batch.
        size: bytes of the file and of its external data.
    """

    model: ModelProto
    run: Runner
    size: int


def read(spec: ModelSpec, batch: Batch) -> OnnxSource:
    """Read the spec's .onnx file.

    Args:
        spec: its loader is the file's path.
        batch: samples on which a file with a fixed batch is compared with its dynamic form.

    Raises:
        InvalidOnnx: unreadable, inconsistent, of an opset outside 7 to 23, or with a batch that must stay fixed.
        InvalidModelSpec: the interface is not that of the spec, or external data are missing in `sources`.
        UnsupportedOperator: custom domains or control flow.
    """
    path = Path(str(spec.loader))
    model = parse(path)
    size = path.stat().st_size + load_external(spec, path, model)
    model = without_functions(path, model)
    refuse_foreign_operators(model)
    _check(path, model)
    make_dense(model)
    # Thousands that no output needs would cost every step minutes.
    drop_unread(model.graph)
    drop_initializers_from_inputs(model)
    _name_apart(model)
    original = model.SerializeToString()
    model = without_settled_branches(model)
    refuse_control_flow(model)
    fixed = _fixed_batch(spec, model)
    run = ort_runner(spec, original)
    model = _upgrade(path, model)
    if fixed is None:
        set_interface(spec, model)
        return OnnxSource(model, run, size)
    run = _padded(run, fixed)
    return OnnxSource(_free_batch(spec, model, fixed, run, batch), run, size)


def parse(path: Path) -> ModelProto:
    """The file as it stands, without the weights beside it.

    Raises:
        InvalidOnnx: it cannot be read, is damaged or of an IR version that nothing here reads.
    """
    try:
        with open_file(path, PROTOBUF) as file:
            model = onnx.load_model(file, format="protobuf", load_external_data=False)
    except OSError as error:
        raise not_whole(path, cannot_read(error)) from error
    except DecodeError as error:
        raise not_whole(path, f"{path.stat().st_size} bytes that do not parse") from error
    if model.ir_version > _NEWEST_IR:
        raise InvalidOnnx(
            expected=f"an ONNX model of IR version {_NEWEST_IR} or earlier in {path}",
            found=f"IR version {model.ir_version}",
            remedy=f"export it with ir_version={_WRITTEN} and opset {OPSET}; or take a newer Regiolect",
        )
    if not model.graph.node or not opset_of(model):
        raise not_whole(path, "no nodes or no opset in it")
    return model


def _check(path: Path, model: ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
        for tensor in all_tensors(model):
            numpy_helper.to_array(tensor)
    except KeyError as error:
        raise not_whole(path, f"a tensor of data type {error}, which ONNX lacks") from error
    except (onnx.checker.ValidationError, ValueError, TypeError) as error:
        raise not_whole(path, last_line(error)) from error


def _name_apart(model: ModelProto) -> None:
    """Give nodes of one name names of their own: ONNX allows them, ONNX Runtime and steps that go by names do not."""
    names, seen = Names(model.graph), set[str]()
    for graph in graphs(model.graph):
        for node in graph.node:
            if node.name in seen:
                node.name = names.new(node.name)
            seen.update(filter(None, (node.name,)))


def drop_initializers_from_inputs(model: ModelProto) -> None:
    """Weights have to be inputs as well in files of IR version 3, for callers to replace; from 4 on they need not."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    del model.graph.input[:]
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, _WEIGHTS_APART)


def _upgrade(path: Path, model: ModelProto) -> ModelProto:
    opset = opset_of(model)
    remedy = f"export the model again with opset {OPSET}"
    if opset > NEWEST_OPSET:
        raise not_whole(path, f"opset {opset}; the backends are known to read up to {NEWEST_OPSET}", remedy)
    if opset >= OPSET:
        return model
    try:
        with quiet():
            raised = version_converter.convert_version(model, OPSET)
        say_how(model, raised)
        return raised
    except (version_converter.ConvertError, RuntimeError, ValueError) as error:
        found = f"opset {opset}, which does not convert to {OPSET}: {last_line(error)}"
        raise not_whole(path, found, remedy) from error


# ------------------------------------------------------------------------------------------------ fixed batch


def _fixed_batch(spec: ModelSpec, model: ModelProto) -> int | None:
    """The batch size if the spec's inputs all have one fixed first dimension in the file, else None."""
    wanted = {tensor.name for tensor in spec.inputs}
    sizes = set()
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        if value.name in wanted and dimensions:
            sizes.add(dimensions[0].dim_value if dimensions[0].HasField("dim_value") else None)
    return sizes.pop() if len(sizes) == 1 else None


def _padded(run: Runner, size: int) -> Runner:
    """Let a runner of fixed batch take any batch: split, pad with the last row, trim."""

    def any_batch(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        count = len(next(iter(inputs.values())))
        parts = []
        for start in range(0, count, size):
            rows = np.minimum(np.arange(start, start + size), count - 1)
            parts.append(run({name: array[rows] for name, array in inputs.items()}))
        return [np.concatenate(pieces)[:count] for pieces in zip(*parts, strict=True)]

    return any_batch


def _free_batch(spec: ModelSpec, model: ModelProto, fixed: int, run: Runner, batch: Batch) -> ModelProto:
    """The graph with a dynamic batch, proved equal to the file, row by row, at other batch sizes."""
    freed = ModelProto()
    freed.CopyFrom(model)
    _free_reshapes(freed, fixed)
    for value in freed.graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    set_interface(spec, freed)
    # That an output begins with time, say, is no fault of a fixed batch.
    refuse_moved_batch(spec, infer_shapes(freed))
    try:
        freed = infer_and_check(spec, freed)
        compare(spec, run, ort_runner(spec, freed.SerializeToString()), batch)
    except (InvalidOnnx, InvalidModelSpec, ParityFailed) as error:
        raise InvalidOnnx(
            expected=f"a dynamic batch in the graph of {spec.name!r}",
            found=f"a batch fixed at {fixed}, and the graph changes its results with any other ({error.found})",
            remedy="export it again with a dynamic batch: torch.onnx.export(..., dynamic_shapes=({0: 'batch'},)), "
            "or dynamic_axes={'input': {0: 'batch'}} with older exporters",
        ) from error
    return freed


def _free_reshapes(model: ModelProto, fixed: int) -> None:
    """Let reshapes to (fixed batch, ...) copy the batch from their input instead, where that is their first dimension.

    0 in a target shape means just that. Whether it was right to do so is proved by comparing, not here.
    """
    inferred = infer_shapes(model)
    leading = {
        value.name: value.type.tensor_type.shape.dim[0].dim_value
        for value in (*inferred.graph.value_info, *inferred.graph.input)
        if value.type.tensor_type.shape.dim
    }
    shapes = {tensor.name: tensor for tensor in model.graph.initializer}
    shapes |= {
        node.output[0]: attribute.t
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    }
    names = Names(model.graph)
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in shapes or leading.get(node.input[0]) != fixed:
            continue
        target = numpy_helper.to_array(shapes[node.input[1]]).copy()
        literal_zero = any(attribute.name == "allowzero" and attribute.i for attribute in node.attribute)
        if target.size and target[0] == fixed and not literal_zero:
            target[0] = 0
            name = names.new(f"{node.input[1]}_batch")
            model.graph.initializer.append(numpy_helper.from_array(target, name))
            node.input[1] = name
