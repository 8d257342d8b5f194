"""Files with sparse weights, and with outputs that are one tensor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, SparseTensorProto, TensorProto, helper, numpy_helper

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.errors import InvalidOnnx
from regiolect.export import export_model
from regiolect.export.sparse import make_dense
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

DENSE = np.zeros((8, 4), np.float32)
DENSE[::3, ::2] = np.arange(1, 7).reshape(3, 2)


def sparse(by_dimension: bool, dims: tuple[int, ...] = DENSE.shape) -> SparseTensorProto:
    places = np.argwhere(DENSE) if by_dimension else np.flatnonzero(DENSE)
    values = numpy_helper.from_array(DENSE[DENSE != 0], "w")
    return helper.make_sparse_tensor(values, numpy_helper.from_array(places.astype(np.int64)), list(dims))


def network(
    nodes: list[NodeProto], outputs: tuple[str, ...], weights: list[SparseTensorProto], **held: np.ndarray[Any, Any]
) -> ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in outputs],
        [numpy_helper.from_array(value, name) for name, value in held.items()],
        sparse_initializer=weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.fixture
def exported(make_spec: Callable[..., ModelSpec], tmp_path: Path, store: LocalStore) -> Callable[..., ModelProto]:
    def _exported(model: ModelProto) -> ModelProto:
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        spec = make_spec(
            path,
            inputs=(TensorSpec(name="x", shape=("batch", 8)),),
            outputs=tuple(value.name for value in model.graph.output),
            preprocessing=Preprocessing(),
        )
        return onnx.load(store.path_of(export_model(spec, store, None).graph))

    return _exported


@pytest.mark.parametrize("by_dimension", [False, True])
@pytest.mark.parametrize("constant", [False, True])
def test_sparse_weights_become_dense(exported: Callable[..., ModelProto], constant: bool, by_dimension: bool) -> None:
    """A Constant of them ended in a stack trace, and an initializer was called a damaged file."""
    weight = sparse(by_dimension)
    product = helper.make_node("MatMul", ["x", "w"], ["y"])
    before = [helper.make_node("Constant", [], ["w"], sparse_value=weight)] if constant else []
    found = exported(network([*before, product], ("y",), [] if constant else [weight]))
    (held,) = found.graph.initializer
    np.testing.assert_array_equal(numpy_helper.to_array(held), DENSE)


def test_what_is_too_large_when_dense_is_refused_by_name() -> None:
    model = network([], (), [sparse(by_dimension=True, dims=(2**20, 2**20))])
    with pytest.raises(InvalidOnnx, match="at most 2 GiB when it is dense"):
        make_dense(model)


def test_two_outputs_of_one_tensor_keep_their_names(exported: Callable[..., ModelProto]) -> None:
    """They were called others than the spec names, and the model was refused."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["y"], ["again"])]
    found = exported(network(nodes, ("y", "again"), [], w=DENSE))
    assert [value.name for value in found.graph.output] == ["y", "again"]
