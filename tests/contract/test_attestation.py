"""What attestations prove on real engines: which types run, layer by layer, and that a wrong build is found out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import openvino
import pytest
from onnx import TensorProto, helper

from regiolect.attest import attest, read_layers
from regiolect.contracts import (
    Attestation,
    BuildRequest,
    Configuration,
    Decision,
    EngineArtifact,
    EvaluationResult,
    Execution,
    Layers,
    NamedBlob,
    Precision,
    Strength,
    Timing,
)
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.engines.openvino.runtime import PRECISION_HINTS, OpenVinoEngine
from regiolect.errors import AttestationFailed, IntegrityError
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes
from regiolect.policy import AccuracyLimit, RegionPolicy, SampleMinimum
from regiolect.precision import Recipe
from regiolect.storage import LocalStore
from tests.contract.backends import ALL_RUNS, ASKED_ALL

CPU_BACKENDS = ["openvino", "onnxruntime"]
FLOATS = [Precision.FP32, Precision.FP16]
Build = Callable[..., EngineArtifact]


class HintedOpenVino(OpenVinoBackend):
    """OpenVINO as it should not be used: with another precision hint than the product's, or with none."""

    def __init__(self, hint: str | None) -> None:
        kept = {name: value for name, value in PRECISION_HINTS.items() if name != "INFERENCE_PRECISION_HINT"}
        self._hints = kept if hint is None else kept | {"INFERENCE_PRECISION_HINT": hint}

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        core = openvino.Core()
        model = core.read_model(files["engine.xml"], openvino.Tensor(np.frombuffer(files["engine.bin"], np.uint8)))
        return OpenVinoEngine(artifact, model, core.compile_model(model, "CPU", self._hints))


class Compressing(OpenVinoBackend):
    """A builder that stores every weight as float16, which OpenVINO's own save does unless it is told not to."""

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        super()._build(graph, request, folder)
        model = openvino.Core().read_model(folder / "engine.xml")
        openvino.save_model(model, folder / "compressed.xml", compress_to_fp16=True)
        (folder / "compressed.xml").replace(folder / "engine.xml")
        (folder / "compressed.bin").replace(folder / "engine.bin")


@pytest.fixture
def build(request_for: Callable[..., BuildRequest], store: LocalStore) -> Build:
    def make(name: str, precision: Precision, **changes: object) -> EngineArtifact:
        return backend(name).build(request_for(name, precision, **changes), store)

    return make


def layers_behind(attestation: Attestation, store: LocalStore) -> Layers:
    assert attestation.layers is not None
    return read_layers(attestation, store.path_of(attestation.layers).read_bytes())


def decided(artifact: EngineArtifact, attestation: Attestation) -> tuple[Decision, tuple[str, ...]]:
    """The gate's outcome and blocking rules under a policy of the engine's own precision, on flawless results."""
    request = artifact.request
    policy = RegionPolicy(
        region=request.region,
        title="Europe",
        reason="stated here for the proof of what runs",
        precision=request.precision,
        accuracy=AccuracyLimit(metric="accuracy", limit=0.5),
        samples=SampleMinimum(gate=1),
        targets=(request.target,),
    )
    rows = PairedResults(tuple(f"s{i:05d}" for i in range(2000)), np.ones(2000), np.ones(2000))
    table = rows.to_csv()
    evaluation = EvaluationResult(
        build_key=request.build_key,
        dataset=digest_bytes(b"gate set"),
        metric="accuracy",
        samples=len(rows),
        reference_score=1.0,
        engine_score=1.0,
        results={"uri": "file:///nowhere", "digest": digest_bytes(table), "size": len(table)},
        timing=Timing(
            batch=8,
            rounds=400,
            p50_ms=3.0,
            p99_ms=4.0,
            p99_upper_ms=5.0,
            baseline_p50_ms=6.0,
            baseline_p99_ms=8.0,
            throughput=2000.0,
            speedup=2.0,
        ),
    )
    decision = decide_gate(artifact, policy, attestation, evaluation, rows)
    return decision.outcome, decision.blocked_by


# ------------------------------------------------------------------------------------------------ no BF16, no TF32


def require_own_bf16() -> None:
    able = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in able:
        pytest.skip(f"OpenVINO does not choose BF16 by itself on this processor, which is capable of {', '.join(able)}")


@pytest.mark.parametrize("precision", FLOATS)
def test_left_alone_openvino_runs_bf16_here_and_the_gate_fails_it(
    precision: Precision, build: Build, store: LocalStore
) -> None:
    require_own_bf16()
    artifact = build("openvino", precision)
    alone = attest(HintedOpenVino(None), artifact, store)
    assert alone.executed
    assert alone.executed[Execution.BF16] >= 3
    assert "INFERENCE_PRECISION_HINT=bf16" in alone.source
    assert decided(artifact, alone) == (Decision.FAILED, ("precision",))


@pytest.mark.parametrize("precision", FLOATS)
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_float_engines_run_nothing_but_fp32_whatever_the_processor_would_choose(
    name: str, precision: Precision, build: Build, store: LocalStore
) -> None:
    artifact = build(name, precision)
    attestation = attest(backend(name), artifact, store)
    assert set(attestation.executed or {}) == {Execution.FP32}
    layers = layers_behind(attestation, store)
    assert not [layer for layer in layers.engine if "bf16" in layer.told or "bfloat16" in layer.told]
    wide = {
        "openvino": {"INFERENCE_PRECISION_HINT": "f32"},
        "onnxruntime": {"providers": "CPUExecutionProvider", "mlas.enable_gemm_fastmath_arm64_bfloat16": "0"},
    }
    assert wide[name].items() <= layers.settings.items()
    assert decided(artifact, attestation) == (Decision.APPROVED, ())


@pytest.mark.parametrize("precision", FLOATS)
def test_an_engine_compiled_to_bf16_is_failed_by_the_gate(
    precision: Precision, build: Build, store: LocalStore
) -> None:
    require_own_bf16()
    artifact = build("openvino", precision)
    wrong = attest(HintedOpenVino("bf16"), artifact, store)
    assert decided(artifact, wrong) == (Decision.FAILED, ("precision",))


def test_bf16_beside_int8_is_seen_even_where_the_runtime_calls_the_layer_u8(build: Build, store: LocalStore) -> None:
    require_own_bf16()
    attestation = attest(HintedOpenVino("bf16"), build("openvino", Precision.INT8), store)
    assert Execution.BF16 in (attestation.executed or {})
    layers = layers_behind(attestation, store)
    narrow = [layer for layer in layers.engine if "_bf16" in layer.told]
    assert narrow
    assert {layer.precision for layer in narrow} == {Execution.BF16}


def test_weights_that_the_builder_rounded_fail_an_fp32_region(
    request_for: Callable[..., BuildRequest], store: LocalStore
) -> None:
    artifact = Compressing().build(request_for("openvino", Precision.FP32), store)
    attestation = attest(backend("openvino"), artifact, store)
    assert attestation.graph[Precision.FP16] == 0
    assert (attestation.executed or {})[Execution.FP16] >= 2
    assert decided(artifact, attestation) == (Decision.FAILED, ("precision",))


# ------------------------------------------------------------------------------------------------ layer by layer


@pytest.mark.parametrize(("name", "precision"), ALL_RUNS)
def test_every_layer_is_kept_by_name_and_counts_up(
    name: str, precision: Precision, build: Build, store: LocalStore
) -> None:
    artifact = build(name, precision)
    attestation = attest(backend(name), artifact, store)
    layers = layers_behind(attestation, store)
    assert layers.build_key == artifact.request.build_key
    assert (layers.graph_counts(), layers.executed()) == (attestation.graph, attestation.executed)
    assert {node.name for node in layers.graph} == {f"{output}/{kind}" for output, kind in compute_nodes(precision)}
    assert attestation.nodes == 8
    assert attestation.kernels == sum(layer.precision is not None for layer in layers.engine)
    if name in CPU_BACKENDS and precision is not Precision.INT8:
        assert attestation.kernels < attestation.nodes  # Conv and Relu, Add and Relu run as one
    assert attestation.strength == {"openvino": "kernels", "onnxruntime": "graph"}.get(name, attestation.strength)
    assert attestation.strength in get_args(Strength)
    assert attest(backend(name), artifact, store).layers == attestation.layers


def compute_nodes(precision: Precision) -> list[tuple[str, str]]:
    last = "y.half" if precision is Precision.FP16 else "y"
    return [
        *(("c1", "Conv"), ("r1", "Relu"), ("c2", "Conv"), ("sum", "Add"), ("r2", "Relu")),
        *(("pooled", "MaxPool"), ("mean", "GlobalAveragePool"), (last, "Gemm")),
    ]


def test_openvino_tells_which_nodes_it_fused(build: Build, store: LocalStore) -> None:
    layers = layers_behind(attest(backend("openvino"), build("openvino", Precision.FP32), store), store)
    fused = {layer.name: layer.nodes for layer in layers.engine if layer.precision is not None}
    assert fused["c1/Conv/WithoutBiases"] == ("c1/Conv", "r1/Relu")
    assert fused["sum/Add"] == ("sum/Add", "r2/Relu")
    assert {node for nodes in fused.values() for node in nodes} >= {node.name for node in layers.graph}


@pytest.mark.parametrize("name", ASKED_ALL)
def test_nodes_without_names_are_told_by_what_they_make(
    name: str, build: Build, store: LocalStore, write_graph: Callable[[Recipe], onnx.ModelProto]
) -> None:
    model = write_graph(Recipe())
    for node in model.graph.node:
        node.name = ""
    artifact = build(name, Precision.FP32, graph=store.put_bytes(model.SerializeToString()))
    layers = layers_behind(attest(backend(name), artifact, store), store)
    assert [node.name for node in layers.graph] == ["c1", "r1", "c2", "sum", "r2", "pooled", "mean", "y"]
    told = {node for layer in layers.engine if layer.precision is Execution.FP32 for node in layer.nodes}
    assert {"c2", "pooled", "mean", "y"} <= told


def test_an_engine_that_cannot_run_here_keeps_the_nodes_of_its_graph(build: Build, store: LocalStore) -> None:
    if (obstacle := backend("tensorrt-rtx").obstacle()) is None:
        pytest.skip("plans run here")
    attestation = attest(backend("tensorrt-rtx"), build("tensorrt-rtx", Precision.INT8), store)
    layers = layers_behind(attestation, store)
    assert (attestation.executed, attestation.kernels, attestation.strength, layers.engine) == (None, None, None, ())
    assert sum(node.precision is Precision.INT8 for node in layers.graph) == attestation.graph[Precision.INT8] > 0
    assert obstacle.found in layers.source


def test_layers_that_tell_other_counts_are_refused(build: Build, store: LocalStore) -> None:
    attestation = attest(backend("openvino"), build("openvino", Precision.FP32), store)
    assert attestation.layers is not None
    data = store.path_of(attestation.layers).read_bytes()
    for other in (
        attestation.model_copy(update={"executed": {Execution.FP32: 1}}),
        attestation.model_copy(update={"graph": {**attestation.graph, Precision.INT8: 1}}),
    ):
        with pytest.raises(IntegrityError, match="other counts"):
            read_layers(other, data)
    with pytest.raises(IntegrityError, match="format 1"):
        read_layers(attestation, data[:-9])


# ------------------------------------------------------------------------------------------------ special layers


def rewritten(
    write_graph: Callable[[Recipe], onnx.ModelProto], nodes: list[onnx.NodeProto], *constants: onnx.TensorProto
) -> bytes:
    """The network with `nodes` between its last residual, r2, and the pooling, which reads `chosen` instead."""
    model = write_graph(Recipe())
    place = next(index for index, node in enumerate(model.graph.node) if node.op_type == "MaxPool")
    model.graph.node[place].input[0] = "chosen"
    for node in reversed(nodes):
        model.graph.node.insert(place, node)
    model.graph.initializer.extend(constants)
    return model.SerializeToString()


@pytest.mark.parametrize("name", ASKED_ALL)
def test_a_mask_is_no_integer_arithmetic(
    name: str, build: Build, store: LocalStore, write_graph: Callable[[Recipe], onnx.ModelProto]
) -> None:
    nodes = [
        helper.make_node("Greater", ["r2", "one"], ["high"], "high"),
        helper.make_node("Less", ["r2", "two"], ["low"], "low"),
        helper.make_node("And", ["high", "low"], ["between"], "between"),
        helper.make_node("Where", ["between", "r2", "one"], ["chosen"], "choose"),
    ]
    numbers = [helper.make_tensor(key, TensorProto.FLOAT, [], [value]) for key, value in (("one", 1.0), ("two", 2.0))]
    graph = store.put_bytes(rewritten(write_graph, nodes, *numbers))
    attestation = attest(backend(name), build(name, Precision.FP32, graph=graph), store)
    assert set(attestation.executed or {}) == {Execution.FP32}


def control_flow(write_graph: Callable[[Recipe], onnx.ModelProto]) -> bytes:
    def branch(kind: str) -> onnx.GraphProto:
        made = helper.make_tensor_value_info(f"of {kind}", TensorProto.FLOAT, None)
        return helper.make_graph([helper.make_node(kind, ["r2"], [f"of {kind}"], f"in {kind}")], kind, [], [made])

    nodes = [
        helper.make_node("ReduceMax", ["r2"], ["largest"], "largest", keepdims=0),
        helper.make_node("Greater", ["largest", "one"], ["high"], "high"),
        helper.make_node(
            "If", ["high"], ["chosen"], "choose", then_branch=branch("Tanh"), else_branch=branch("Sigmoid")
        ),
    ]
    return rewritten(write_graph, nodes, helper.make_tensor("one", TensorProto.FLOAT, [], [1000.0]))


def test_onnxruntime_tells_of_branches_that_its_run_did_not_take(
    build: Build, store: LocalStore, write_graph: Callable[[Recipe], onnx.ModelProto]
) -> None:
    artifact = build("onnxruntime", Precision.FP32, graph=store.put_bytes(control_flow(write_graph)))
    told = {layer.name: layer for layer in layers_behind(attest(backend("onnxruntime"), artifact, store), store).engine}
    assert told["in Tanh"].precision is told["in Sigmoid"].precision is Execution.FP32
    assert ("inferred" in told["in Tanh"].told, "inferred" in told["in Sigmoid"].told) == (True, False)
    assert told["choose"].precision is None


def test_openvino_is_not_attested_where_it_hides_layers(
    build: Build, store: LocalStore, write_graph: Callable[[Recipe], onnx.ModelProto]
) -> None:
    artifact = build("openvino", Precision.FP32, graph=store.put_bytes(control_flow(write_graph)))
    with pytest.raises(AttestationFailed, match="inner layers"):
        attest(backend("openvino"), artifact, store)


def test_an_engine_file_that_was_exchanged_is_not_attested(build: Build, store: LocalStore) -> None:
    artifact = build("onnxruntime", Precision.FP32)
    other = build("onnxruntime", Precision.INT8).files[0].blob
    forged = artifact.model_copy(update={"files": (NamedBlob(path="engine.onnx", blob=other),)})
    with pytest.raises(IntegrityError, match="origin"):
        attest(backend("onnxruntime"), forged, store)
