"""Plans of TensorRT-RTX for both examples, built here for real: what is in them, without a GPU to run them."""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import numpy_helper

from benchmarks.plans import Example
from examples.fashion import MODEL as FASHION
from examples.ocr import MODEL as OCR
from regiolect.contracts import Precision
from regiolect.engines.origin import metadata_of
from regiolect.storage import LocalStore
from tests.rtx import tensorrt_rtx

rtx = tensorrt_rtx()

ONE, EVERY = {"compute_capabilities": ("SM89",)}, dict[str, Any]()
GRAPHS = [(name, precision) for name in ("fashion", "ocr") for precision in Precision]
PLANS = [(name, precision, single) for single in (True, False) for name, precision in GRAPHS]
# Of the larger example one plan, in which a width varies beside the batch; the others belong to the full count.
SOME = {plan for plan in PLANS if plan[0] == "fashion"} | {("ocr", Precision.INT8, True)}
Plan = Callable[[str, Precision, bool], bytes]


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Example]:
    store = LocalStore(tmp_path_factory.mktemp("plans"))
    return {spec.name: Example(spec, store) for spec in (FASHION, OCR)}


@pytest.fixture(scope="module")
def plan_of(examples: dict[str, Example]) -> Plan:
    """Makes a plan, once, of a model in a precision, for one GPU only or for every one."""

    @cache
    def make(name: str, precision: Precision, single: bool) -> bytes:
        (file,) = examples[name].build(precision, ONE if single else EVERY).files
        return examples[name].store.path_of(file.blob).read_bytes()

    return make


def parsed(graph: Path) -> Any:
    """The network as TensorRT-RTX parses it, with what must outlive it."""
    logger = rtx.Logger(rtx.Logger.INTERNAL_ERROR)
    builder = rtx.Builder(logger)
    network = builder.create_network(1 << int(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = rtx.OnnxParser(network, logger)
    assert parser.parse(graph.read_bytes()), [parser.get_error(place).desc() for place in range(parser.num_errors)]
    return network, (parser, builder, logger)


def computed_in(network: Any) -> Counter[str]:
    """Output types of convolutions and matrix products."""
    layers = [network.get_layer(place) for place in range(network.num_layers)]
    kinds = (rtx.LayerType.CONVOLUTION, rtx.LayerType.MATRIX_MULTIPLY)
    return Counter(layer.get_output(0).dtype.name for layer in layers if layer.type in kinds)


def operands_of(network: Any) -> Counter[str]:
    """What feeds convolutions: types that are dequantized to them, or their own."""
    makers = {}
    for place in range(network.num_layers):
        layer = network.get_layer(place)
        for index in range(layer.num_outputs):
            makers[layer.get_output(index).name] = layer
    found: Counter[str] = Counter()
    for layer in [network.get_layer(place) for place in range(network.num_layers)]:
        if layer.type == rtx.LayerType.CONVOLUTION:
            before = makers.get(layer.get_input(0).name)
            quantized = before is not None and before.type == rtx.LayerType.DEQUANTIZE
            found[before.get_input(0).dtype.name if quantized else layer.get_input(0).dtype.name] += 1
    return found


@pytest.mark.parametrize(("name", "precision"), GRAPHS)
def test_the_network_is_strongly_typed_and_computes_in_the_types_of_its_precision(
    name: str, precision: Precision, examples: dict[str, Example]
) -> None:
    example = examples[name]
    network, _alive = parsed(example.store.path_of(example.graphs[precision]))
    assert network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    wanted = "FLOAT" if precision is Precision.FP32 else "HALF"
    assert set(computed_in(network)) == {wanted}
    operands = operands_of(network)
    assert operands.total() > 5
    if precision is Precision.INT8:
        assert operands["INT8"] == operands.total()
    else:
        assert set(operands) == {wanted}
    # What goes in and comes out stays as the model has it, whatever the precision.
    assert [network.get_input(0).dtype.name, network.get_output(0).dtype.name] == ["FLOAT", "FLOAT"]
    assert network.get_input(0).shape[0] == -1
    assert (network.get_input(0).shape[3] == -1) is (name == "ocr")


@pytest.mark.parametrize(
    ("name", "precision", "single"),
    [pytest.param(*plan, marks=() if plan in SOME else pytest.mark.acceptance) for plan in PLANS],
)
def test_a_plan_holds_its_origin_and_its_profile(
    name: str, precision: Precision, single: bool, examples: dict[str, Example], plan_of: Plan
) -> None:
    plan = plan_of(name, precision, single)
    start = plan.index(b'{"build_key":')
    told = json.loads(plan[start : plan.index(b"}", start) + 1])
    assert told == metadata_of(examples[name].request(precision, {}))
    assert (told["region"], told["precision"]) == ("jp", precision.value)
    batch, width = examples[name].policy.batch, examples[name].policy.shapes["width"]
    smallest, best, largest = {
        "fashion": [(size, 1, 28, 28) for size in (batch.min, batch.opt, batch.max)],
        "ocr": [
            (batch.min, 3, 48, width.min),
            (batch.opt, 3, 48, width.opt),
            (batch.max, 3, 48, width.max),
        ],
    }[name]
    # Reading a plan takes a GPU; its profile lies in it as plain numbers.
    assert all(struct.pack("<4q", *shape) in plan for shape in (smallest, best, largest))


@pytest.mark.parametrize("name", ["fashion", pytest.param("ocr", marks=pytest.mark.acceptance)])
def test_plans_are_of_the_size_of_their_weights(name: str, examples: dict[str, Example], plan_of: Plan) -> None:
    example = examples[name]
    for precision in Precision:
        held = onnx.load(example.store.path_of(example.graphs[precision])).graph.initializer
        weights = sum(numpy_helper.to_array(tensor).nbytes for tensor in held)
        assert len(plan_of(name, precision, True)) > 0.95 * weights
        assert len(plan_of(name, precision, True)) <= len(plan_of(name, precision, False))
    # INT8 plans hold kernels of their own, which outweigh what a small network saves.
    for single in (True, False):
        assert len(plan_of(name, Precision.FP16, single)) < len(plan_of(name, Precision.FP32, single))


@pytest.mark.parametrize("which", [SOME, pytest.param(PLANS, marks=pytest.mark.acceptance)], ids=["some", "all"])
def test_plans_for_one_gpu_and_for_several_are_other_plans(which: Any, plan_of: Plan) -> None:
    assert len({plan_of(*plan) for plan in which}) == len(which)
