from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.data import Samples
from regiolect.errors import InvalidModelSpec, InvalidOnnx, UnsupportedOperator
from regiolect.export import export_model
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

Make = Callable[..., ModelSpec]
RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
HEAD = RNG.normal(size=(4 * 36, 3)).astype(np.float32)
NORM = {"gamma": RNG.random(4), "beta": RNG.random(4), "mean": RNG.random(4), "var": RNG.random(4) + 0.5}


def conv_net(batch: int | str = "n", *, target: int = -1, opset: int = 20, extra: tuple[Any, ...] = ()) -> Any:
    """Conv, batch norm, Relu, Reshape to (target, 144) with a constant, MatMul. Traces of an exporter included."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1], doc_string="/home/someone/net.py, line 7"),
        node("BatchNormalization", ["c", *NORM], ["b"], name="norm"),
        node("Relu", ["b"], ["r"], name="relu"),
        node("Reshape", ["r", "shape"], ["f"], name="flat"),
        node("MatMul", ["f", "h"], ["m"], name="head"),
        *(extra or (node("Identity", ["m"], ["y"], name="out"),)),
    ]
    weights = {"w": WEIGHT, "h": HEAD, "shape": np.asarray([target, 144]), **NORM}
    initializers = [
        numpy_helper.from_array(value.astype(np.float32) if name in NORM else value, name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, producer_version="/home/someone/venv")
    helper.set_model_props(model, {"source": "/home/someone/net.py"})
    return model


@pytest.fixture
def samples() -> Samples:
    images = np.random.default_rng(1).normal(size=(20, 2, 6, 6)).astype(np.float32)
    ids = np.asarray([f"s{index}" for index in range(20)])
    return Samples(ids=ids, regions=np.full(20, "eu"), inputs={"x": images}, targets=np.zeros(20))


@pytest.fixture
def spec_of(make_spec: Make, tmp_path: Path) -> Callable[..., ModelSpec]:
    def spec(model: onnx.ModelProto | bytes, **changes: Any) -> ModelSpec:
        path = tmp_path / "model.onnx"
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        settings = {
            "inputs": (TensorSpec(name="x", shape=("batch", 2, 6, 6)),),
            "outputs": ("y",),
            "preprocessing": Preprocessing(),
        }
        return make_spec(path, **{**settings, **changes})

    return spec


def outputs(model: bytes | str, images: Any) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["y"], {"x": images})[0]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


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


def quantized(opset: int) -> tuple[onnx.ModelProto, dict[str, Any]]:
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        node("DequantizeLinear", ["xq", "sx", "zx"], ["xd"]),
        node("DequantizeLinear", ["w", "sw", "zw"], ["wd"], axis=0),
        node("Conv", ["xd", "wd"], ["c"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["c", *NORM], ["b"]),
        node("Relu", ["b"], ["r"]),
        node("QuantizeLinear", ["r", "sr", "zx"], ["rq"]),
        node("DequantizeLinear", ["rq", "sr", "zx"], ["rd"]),
        node("ReduceMax" if opset < 18 else "GlobalMaxPool", ["rd"], ["y"], **({"axes": [2, 3]} if opset < 18 else {})),
    ]
    values = {
        "w": RNG.integers(-127, 128, (4, 2, 3, 3)).astype(np.int8),
        "sw": (RNG.random(4) / 50 + 0.01).astype(np.float32),
        "zw": np.zeros(4, np.int8),
        "sx": np.float32(0.03),
        "zx": np.int8(0),
        "sr": np.float32(0.03),
    }
    floats = {name: value.astype(np.float32) for name, value in NORM.items()}
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, 1, 1])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in {**values, **floats}.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), values


def fp32_original() -> onnx.ModelProto:
    """What `quantized` was made from, but for rounding: the same weights, scaled back, and no Q/DQ nodes."""
    model, values = quantized(20)
    nodes = [node for node in model.graph.node if "Linear" not in node.op_type]
    nodes[0].input[:] = ["x", "w"]
    nodes[-1].input[:] = ["r"]
    kept = [tensor for tensor in model.graph.initializer if tensor.name in NORM]
    weight = (values["w"] * values["sw"].reshape(-1, 1, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        nodes, "main", model.graph.input, model.graph.output, [*kept, numpy_helper.from_array(weight, "w")]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8)


@pytest.fixture
def reference_file(tmp_path: Path) -> Path:
    path = tmp_path / "fp32.onnx"
    path.write_bytes(fp32_original().SerializeToString())
    return path


def test_quantized_file_alone_is_refused(spec_of, store, samples):
    with pytest.raises(InvalidModelSpec, match="cannot be its own reference") as failure:
        export_model(spec_of(quantized(20)[0]), store, samples)
    assert "5 quantized nodes" in failure.value.found
    assert "reference=" in failure.value.remedy
    assert not store.root.exists()


def test_quantized_file_is_compared_with_its_original(spec_of, store, samples, reference_file):
    model = export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    assert not {"QuantizeLinear", "DequantizeLinear"} & set(operators(onnx.load(store.path_of(model.reference))))
    images = samples.inputs["x"]
    wanted = outputs(reference_file.read_bytes(), images)
    np.testing.assert_allclose(outputs(store.path_of(model.reference), images), wanted, atol=1e-4)
    # The original answers otherwise than the quantized model, so the two cannot have been mixed up.
    assert np.abs(outputs(store.path_of(model.graph), images) - wanted).max() > 1e-3


def weights_in_eight_bits() -> onnx.ModelProto:
    """Constant weights behind a DequantizeLinear, activations in floats: clean-up must not fold that out of sight."""
    model = conv_net()
    integers = np.clip(np.round(HEAD * 40), -127, 127).astype(np.int8)
    model.graph.initializer[1].CopyFrom(numpy_helper.from_array(integers, "h8"))
    model.graph.initializer.extend([numpy_helper.from_array(np.float32(1 / 40), "sh")])
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", ["h8", "sh"], ["h"]))
    return model


def integer_head() -> onnx.ModelProto:
    """A MatMulInteger, with nothing but casts around it."""
    extra = (
        helper.make_node("Cast", ["m"], ["m8"], to=TensorProto.INT8),
        helper.make_node("MatMulInteger", ["m8", "eye"], ["y32"]),
        helper.make_node("Cast", ["y32"], ["y"], to=TensorProto.FLOAT),
    )
    model = conv_net(extra=extra)
    model.graph.initializer.extend([numpy_helper.from_array(np.eye(3, dtype=np.int8), "eye")])
    return model


@pytest.mark.parametrize("make", [weights_in_eight_bits, integer_head])
def test_whatever_is_quantized_in_a_file_is_noticed(spec_of, store, samples, make):
    with pytest.raises(InvalidModelSpec, match="1 quantized node in the model"):
        export_model(spec_of(make()), store, samples)


def test_a_reference_that_is_quantized_too_is_refused(spec_of, store, samples, tmp_path):
    path = tmp_path / "also.onnx"
    path.write_bytes(quantized(20)[0].SerializeToString())
    with pytest.raises(InvalidModelSpec, match=r"also\.onnx.*before it was quantized"):
        export_model(spec_of(quantized(20)[0], reference=path), store, samples)
    assert not store.root.exists()


def test_a_reference_has_to_pass_the_same_checks(spec_of, store, samples, reference_file):
    reference_file.write_bytes(reference_file.read_bytes()[:300])
    with pytest.raises(InvalidOnnx, match=r"fp32\.onnx"):
        export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    other = fp32_original()
    other.graph.input[0].name = other.graph.node[0].input[0] = "picture"
    reference_file.write_bytes(other.SerializeToString())
    with pytest.raises(InvalidModelSpec, match="picture"):
        export_model(spec_of(quantized(20)[0], reference=reference_file), store, samples)
    assert not store.root.exists()


def test_a_reference_that_nothing_needs_is_refused(spec_of, store, samples, reference_file):
    with pytest.raises(InvalidModelSpec, match="is not quantized"):
        export_model(spec_of(conv_net(), reference=reference_file), store, samples)
    assert not store.root.exists()


@pytest.mark.parametrize("opset", [13, 20])
def test_quantized_file_keeps_its_nodes_scales_and_integers(spec_of, store, samples, opset, reference_file):
    original, values = quantized(opset)
    model = export_model(spec_of(original, reference=reference_file), store, samples)
    graph = onnx.load(store.path_of(model.graph))
    found = operators(graph)
    assert (found.count("QuantizeLinear"), found.count("DequantizeLinear")) == (2, 3)
    kept = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
    for name, value in values.items():
        assert kept[name].dtype == np.asarray(value).dtype
        np.testing.assert_array_equal(kept[name], value)
    assert model.opset == 20
    assert model.parity is not None
    assert model.parity.worst_error == 0


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
        helper.make_node("If", ["condition"], ["y"], "choice", then_branch=branch("a"), else_branch=branch("b")),
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
