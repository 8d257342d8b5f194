"""Weights that lie beside an ONNX file, brought into its graph."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.external_data_helper import uses_external_data

from regiolect.errors import InvalidModelSpec, InvalidOnnx
from regiolect.graphs.protos import attribute_graphs
from regiolect.host.files import PROTOBUF, cannot_read, open_file
from regiolect.model import ModelSpec

_TWO_IN_A_BYTE = (TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT4E2M1)

# Characters of what a file says that are repeated in an error.
_TOLD = 100


@dataclass(frozen=True)
class _Piece:
    """Where a tensor's bytes are."""

    tensor: TensorProto
    file: Path
    offset: int
    length: int


def load_external(spec: ModelSpec, path: Path, model: ModelProto) -> int:
    """Bring external weights into the graph.

    Links are followed, for the caches of model hubs are made of them; only files that the spec lists are read.

    Returns:
        The bytes of their files.

    Raises:
        InvalidOnnx: a place that is none or that lies outside of the model's folder, or more than 2 GiB in all.
        InvalidModelSpec: a file that is not in the spec's `sources`.
    """
    pieces = [_piece(path, tensor) for tensor in all_tensors(model) if uses_external_data(tensor)]
    listed = {source.resolve() for source in spec.sources}
    files = {piece.file.resolve(): piece.file for piece in pieces}
    for real, file in files.items():
        if real not in listed:
            raise InvalidModelSpec(
                expected=f"the weights file {file} in `sources` of {spec.name!r}",
                found="it is not there",
                remedy="list it: without it a change of weights could not be noticed",
            )
    whole = sum(piece.length for piece in pieces)
    if whole > PROTOBUF:
        raise InvalidOnnx(
            expected=f"weights of {path} of at most 2 GiB",
            found=f"{whole / 2**30:.1f} GiB beside it",
            remedy="split or prune the model; ONNX keeps at most 2 GiB in one file",
        )
    for piece in pieces:
        _take_in(path, piece)
    return sum(file.stat().st_size for file in files)


def weights_files(path: Path, model: ModelProto) -> tuple[Path, ...]:
    """Files beside the model that hold weights of it.

    Raises:
        InvalidOnnx: a place that is none or that lies outside of the model's folder.
    """
    return tuple(
        dict.fromkeys(_piece(path, tensor).file for tensor in all_tensors(model) if uses_external_data(tensor))
    )


def all_tensors(model: ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model, those of subgraphs and local functions among them."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterable[NodeProto]) -> Iterator[TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in attribute_graphs(node):
            yield from _of_graph(inner)


def _piece(path: Path, tensor: TensorProto) -> _Piece:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _file(path, tensor, entries.get("location", ""))
    offset = _number(path, tensor, "offset", entries.get("offset", "0"))
    size = _bytes_of(path, tensor)
    length = _number(path, tensor, "length", entries.get("length", str(size)))
    if length != size:
        raise not_whole(path, f"{length} bytes of weights for tensor {tensor.name!r}, which has {size}")
    there = file.stat().st_size
    if there < offset + length:
        raise not_whole(path, f"{there} of at least {offset + length} bytes in {file}")
    return _Piece(tensor, file, offset, length)


def _file(path: Path, tensor: TensorProto, location: str) -> Path:
    """The file that a tensor names, as it names it: not where links lead to."""
    folder = path.parent.resolve()
    kinds = (PurePosixPath(location), PureWindowsPath(location))
    if any(kind.anchor or ".." in kind.parts for kind in kinds):
        remedy = "save the model again with its weights beside it, or inside it (external_data=False)"
        raise not_whole(path, f"weights of {tensor.name!r} outside of its folder, at {_told(location)}", remedy)
    file = folder / location
    try:
        found = file.is_file()
    except OSError as error:
        raise not_whole(path, f"weights of {tensor.name!r} in {_told(location)}: {cannot_read(error)}") from error
    if not found:
        raise not_whole(path, f"no weights file {str(file)!r}", "copy it beside the .onnx file")
    return file


def _told(text: str) -> str:
    return repr(text) if len(text) <= _TOLD else f"{text[:_TOLD]!r} and {len(text) - _TOLD:,} characters more"


def _number(path: Path, tensor: TensorProto, what: str, text: str) -> int:
    # Python reads "1_000", " 7" and digits of other scripts as numbers too.
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise not_whole(path, f"{what} {_told(text)} of the weights of {tensor.name!r}, which is no number of bytes")
    return int(text)


def _bytes_of(path: Path, tensor: TensorProto) -> int:
    try:
        width: int = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError as error:
        raise not_whole(path, f"tensor {tensor.name!r} of data type {tensor.data_type}, which ONNX lacks") from error
    if any(extent < 0 for extent in tensor.dims):
        raise not_whole(path, f"tensor {tensor.name!r} of shape {tuple(tensor.dims)}")
    count: int = math.prod(tensor.dims)
    return (count + 1) // 2 if tensor.data_type in _TWO_IN_A_BYTE else count * width


def _take_in(path: Path, piece: _Piece) -> None:
    try:
        with open_file(piece.file) as file:
            file.seek(piece.offset)
            data = file.read(piece.length)
    except OSError as error:
        raise not_whole(path, f"weights of {piece.tensor.name!r} in {piece.file}: {cannot_read(error)}") from error
    if len(data) != piece.length:
        raise not_whole(path, f"{len(data)} of {piece.length} bytes of {piece.tensor.name!r} in {piece.file}")
    piece.tensor.raw_data = data
    piece.tensor.data_location = TensorProto.DEFAULT
    del piece.tensor.external_data[:]


def not_whole(path: Path, found: str, remedy: str = "export or copy the file again") -> InvalidOnnx:
    """The error of a file that is damaged, incomplete or made wrong."""
    return InvalidOnnx(expected=f"a complete ONNX model in {path}", found=found, remedy=remedy)
