"""An .onnx file is cleaned, checked and kept, or refused by what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import TensorSpec
from regiolect.data import Samples
from regiolect.errors import InvalidModelSpec, InvalidOnnx, UnsupportedOperator
from regiolect.export import export_model
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import HEAD, conv_net, operators, outputs, samples_of_conv_net


@pytest.fixture
def samples() -> Samples:
    return samples_of_conv_net()


def test_file_is_cleaned_and_stays_equal(spec_of, store: LocalStore, samples):
    original = conv_net()
    model = export_model(spec_of(original), store, samples)
    assert model.reference == model.graph
    path = store.path_of(model.graph)
    assert "BatchNormalization" not in operators(onnx.load(path))
    assert (model.nodes_before, model.nodes_after) == (6, 4)
    assert model.bytes_before == len(original.SerializeToString())
    assert model.parity is not None
    assert model.parity.samples == 20
    images = samples.inputs["x"]
    for batch in (1, 7):
        np.testing.assert_allclose(
            outputs(path, images[:batch]), outputs(original.SerializeToString(), images[:batch]), atol=1e-4
        )
    assert b"someone" not in path.read_bytes()
    assert export_model(spec_of(original), store, samples).graph == model.graph


def test_without_samples_there_is_no_report(spec_of, store, samples):
    bare = export_model(spec_of(conv_net()), store, None)
    assert bare.parity is None
    assert bare.graph == export_model(spec_of(conv_net()), store, samples).graph


def test_pruned_weights_stay_pruned(spec_of, store, samples):
    model = conv_net()
    pruned = np.where(np.abs(HEAD) < 1, 0, HEAD)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(pruned, "h"))
    graph = onnx.load(store.path_of(export_model(spec_of(model), store, samples).graph))
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    np.testing.assert_array_equal(kept["h"], pruned)


def test_old_opset_is_raised(spec_of, store, samples):
    assert export_model(spec_of(conv_net(opset=13)), store, samples).opset == 20
    with pytest.raises(InvalidOnnx, match="opset 25"):
        export_model(spec_of(conv_net(opset=25)), store, samples)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_truncated_file_is_named(spec_of, store, samples, share):
    whole = conv_net().SerializeToString()
    with pytest.raises(InvalidOnnx, match=r"model\.onnx"):
        export_model(spec_of(whole[: int(len(whole) * share)]), store, samples)
    assert not store.root.exists()


def test_text_instead_of_a_model_is_named(spec_of, store, samples):
    with pytest.raises(InvalidOnnx):
        export_model(spec_of(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"), store, samples)


@pytest.mark.parametrize(
    ("operator", "domain"),
    [("Gelu", "com.microsoft"), ("MyOwnOp", "com.example"), ("FancyNewOp", ""), ("Scaler", "ai.onnx.ml")],
)
def test_foreign_operator_is_named_with_its_node_and_domain(spec_of, store, samples, operator, domain):
    foreign = helper.make_node(operator, ["m"], ["y"], name="odd_one", domain=domain)
    with pytest.raises(UnsupportedOperator) as failure:
        export_model(spec_of(conv_net(extra=(foreign,))), store, samples)
    for part in (operator, domain or "ai.onnx", "odd_one"):
        assert repr(part) in failure.value.found


def test_control_flow_is_refused(spec_of, store, samples):
    def branch(name: str) -> onnx.GraphProto:
        value = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node("Identity", ["m"], [name])], name, [], [value])

    extra = (
        helper.make_node("ReduceMax", ["m"], ["top"], keepdims=0),
        helper.make_node("Cast", ["top"], ["condition"], to=TensorProto.BOOL),
        helper.make_node("If", ["condition"], ["y"], "choice", then_branch=branch("one"), else_branch=branch("other")),
    )
    with pytest.raises(UnsupportedOperator, match="'choice'"):
        export_model(spec_of(conv_net(extra=extra)), store, samples)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": (TensorSpec(name="picture", shape=("batch", 2, 6, 6)),)}, "picture"),
        ({"inputs": (TensorSpec(name="x", shape=("batch", 3, 6, 6)),)}, r"\('n', 2, 6, 6\)"),
        ({"inputs": (TensorSpec(name="x", shape=("batch", 2, "height", 6)),)}, "dynamic_shapes"),
        ({"outputs": ("scores",)}, "scores"),
    ],
)
def test_interface_other_than_the_specs_is_refused(spec_of, store, changes, said):
    with pytest.raises(InvalidModelSpec, match=said):
        export_model(spec_of(conv_net(), **changes), store, None)


def test_input_of_another_type_is_refused(spec_of, store):
    model = conv_net()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    model.graph.node[0].input[0] = "x_float"
    model.graph.node.insert(0, helper.make_node("Cast", ["x"], ["x_float"], to=TensorProto.FLOAT))
    with pytest.raises(InvalidModelSpec, match="int32"):
        export_model(spec_of(model), store, None)


@pytest.mark.parametrize(("batch", "target"), [(1, 1), (4, 4), (1, -1)])
def test_fixed_batch_is_freed_where_rows_stay_apart(spec_of, store, samples, batch, target):
    original = conv_net(batch, target=target)
    model = export_model(spec_of(original), store, samples)
    images = samples.inputs["x"]
    expected = outputs(conv_net().SerializeToString(), images[:9])
    np.testing.assert_allclose(outputs(store.path_of(model.graph), images[:9]), expected, atol=1e-4)


def mixing_rows() -> tuple[Any, ...]:
    return (
        helper.make_node("ReduceMax", ["m", "axis"], ["top"], keepdims=1),
        helper.make_node("Sub", ["m", "top"], ["y"]),
    )


@pytest.mark.parametrize("case", ["constant", "reduction"])
def test_fixed_batch_that_must_stay_is_refused_with_the_way_out(spec_of, store, samples, case):
    extra = mixing_rows() if case == "reduction" else (helper.make_node("Add", ["m", "offset"], ["y"]),)
    model = conv_net(4, target=-1, extra=extra)
    offset = np.ones((4, 3), np.float32)
    model.graph.initializer.extend(
        [numpy_helper.from_array(offset, "offset"), numpy_helper.from_array(np.asarray([0]), "axis")]
    )
    with pytest.raises(InvalidOnnx, match="batch fixed at 4") as failure:
        export_model(spec_of(model), store, samples)
    assert "dynamic_shapes" in failure.value.remedy


def test_half_precision_file_is_refused(spec_of, store):
    extra = (
        helper.make_node("Cast", ["m"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT),
    )
    with pytest.raises(InvalidOnnx, match="FP16"):
        export_model(spec_of(conv_net(extra=extra)), store, None)


def test_weights_that_are_kept_in_half_and_cast_are_widened(spec_of, store, samples):
    model = conv_net()
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            name, kept = tensor.name, f"{tensor.name}_half"
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), kept))
            casts.append(helper.make_node("Cast", [kept], [name], to=TensorProto.FLOAT))
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*casts, *nodes])
    path = store.path_of(export_model(spec_of(model), store, samples).graph)
    assert {tensor.data_type for tensor in onnx.load(path).graph.initializer} == {TensorProto.FLOAT, TensorProto.INT64}
    images = samples.inputs["x"]
    np.testing.assert_allclose(outputs(str(path), images), outputs(model.SerializeToString(), images), atol=1e-4)


def with_external_weights(folder: Path) -> bytes:
    model = conv_net()
    onnx.save(model, folder / "full.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    return (folder / "full.onnx").read_bytes()


def test_external_weights_are_taken_in_when_the_spec_lists_them(spec_of, store, samples, tmp_path):
    content, weights = with_external_weights(tmp_path), tmp_path / "weights.bin"
    with pytest.raises(InvalidModelSpec, match=r"weights\.bin"):
        export_model(spec_of(content), store, samples)
    model = export_model(spec_of(content, sources=(weights,)), store, samples)
    assert model.graph == export_model(spec_of(conv_net()), store, samples).graph
    assert model.bytes_before == len(content) + weights.stat().st_size

    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InvalidOnnx, match=r"weights\.bin"):
        export_model(spec_of(content, sources=(weights,)), store, samples)
    weights.unlink()
    with pytest.raises(InvalidOnnx, match="no weights file"):
        export_model(spec_of(content), store, samples)


def test_external_weights_outside_of_the_folder_are_refused(spec_of, store, samples, tmp_path):
    model = onnx.ModelProto.FromString(with_external_weights(tmp_path))
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../etc/passwd"
    with pytest.raises(InvalidOnnx, match="outside of its folder"):
        export_model(spec_of(model), store, samples)


@pytest.mark.parametrize("opset", [7, 8, 9])
@pytest.mark.parametrize("batch", ["n", 1, 4])
def test_a_file_of_ir_version_3_whose_weights_are_inputs_is_taken(spec_of, store, samples, opset, batch):
    model = conv_net(batch, target=-1 if batch == "n" else batch, opset=opset)
    model.ir_version = 3
    weights = model.graph.initializer
    model.graph.input.extend(helper.make_tensor_value_info(each.name, each.data_type, each.dims) for each in weights)
    exported = export_model(spec_of(model), store, samples)
    assert [tensor.name for tensor in exported.inputs] == ["x"]
    assert exported.parity is not None and exported.parity.worst_error < 1e-4
    kept = onnx.load(store.path_of(exported.graph))
    assert [value.name for value in kept.graph.input] == ["x"]
    whole = {"x": samples.inputs["x"][:batch] if batch != "n" else samples.inputs["x"]}
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], whole)[0]
    np.testing.assert_allclose(outputs(str(store.path_of(exported.graph)), whole["x"]), found, atol=1e-4)
