from __future__ import annotations

import os
import subprocess
import sys

import pytest

from regiolect.contracts import Precision
from regiolect.errors import AlreadyQuantized, CalibrationError, ForeignCalibration, InvalidSetting, MissingThreshold
from regiolect.graphs import protos, quantize, scan_graph, typed_graph
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

U8 = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS, residual_add=True)


def test_fp32_is_the_exported_graph_itself(residual_net, keep, store):
    model = keep(residual_net())
    assert typed_graph(model, "de", Precision.FP32, FLOAT_RECIPES[Precision.FP32], None, store) == model.graph


def test_each_precision_scans_as_itself(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}))
    half = typed_graph(model, "na", Precision.FP16, FLOAT_RECIPES[Precision.FP16], table, store)
    packed = typed_graph(model, "na", Precision.INT8, U8, table, store)
    mixed_recipe = Recipe(activation="int8", operators=QUANTIZED_OPERATORS, remainder=Precision.FP16)
    mixed = typed_graph(model, "na", Precision.INT8, mixed_recipe, table, store)
    assert scan_graph(store.path_of(half)) == {Precision.FP32: 0, Precision.FP16: 7, Precision.INT8: 0}
    assert scan_graph(store.path_of(packed)) == {Precision.FP32: 3, Precision.FP16: 0, Precision.INT8: 4}
    assert scan_graph(store.path_of(mixed)) == {Precision.FP32: 0, Precision.FP16: 4, Precision.INT8: 3}


@pytest.fixture
def arrives_quantized(residual_net, images, ranges_of):
    """The network as somebody else quantized it; by its weights alone, its activations are floats."""

    def made(weights_alone: bool):
        plain = protos.normalized(residual_net())
        graph = quantize.quantized(plain, U8, ranges_of(residual_net(), {"x": images}))
        if weights_alone:
            floats = {node.output[0]: node.input[0] for node in graph.graph.node if node.op_type == "QuantizeLinear"}
            made_of = {node.output[0]: floats[node.input[0]] for node in graph.graph.node if node.input[0] in floats}
            for node in graph.graph.node:
                node.input[:] = [made_of.get(name, name) for name in node.input]
            kept = [node for node in graph.graph.node if not {*node.output} & {*floats, *made_of}]
            copies = [type(node).FromString(node.SerializeToString()) for node in kept]
            del graph.graph.node[:]
            graph.graph.node.extend(copies)
        return graph

    return made


@pytest.mark.parametrize(("weights_alone", "narrow"), [(False, 4), (True, 3)])
@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP16])
def test_a_model_that_arrives_in_int8_has_no_wider_graph(
    arrives_quantized, weights_alone, narrow, precision, keep, store, images, ranges_of, table_of
):
    """Runtimes make integer kernels of it, whatever the graph is called."""
    graph = arrives_quantized(weights_alone)
    model = keep(graph)
    table = table_of(model, ranges_of(graph, {"x": images}))
    asked = (precision, FLOAT_RECIPES[precision], None if precision is Precision.FP32 else table)
    with pytest.raises(AlreadyQuantized) as caught:
        typed_graph(model, "na", *asked, store)
    assert f"the {precision} graph of region 'na'" in caught.value.expected
    assert caught.value.found == f"{narrow} of its 7 compute nodes in INT8 as it arrives, the first 'node_0'"
    assert "state `precision: INT8` in the policy of na; or make the model as it was" in caught.value.remedy
    assert scan_graph(store.path_of(typed_graph(model, "na", Precision.INT8, U8, table, store)))[Precision.INT8] >= 3


def test_the_same_inputs_give_the_same_bytes(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    ranges = ranges_of(residual_net(), {"x": images})
    backwards = dict(reversed(list(ranges.items())))
    first = typed_graph(model, "na", Precision.INT8, U8, table_of(model, ranges), store)
    assert typed_graph(model, "na", Precision.INT8, U8, table_of(model, backwards), store).digest == first.digest


PROGRAM = """
import sys
from pathlib import Path
from regiolect.graphs import half, protos, quantize
from regiolect.contracts import Precision, TensorRange
from regiolect.integrity import digest_bytes
from regiolect.precision import QUANTIZED_OPERATORS, Recipe
recipe = Recipe(activation="int8", operators=QUANTIZED_OPERATORS, residual_add=True, remainder=Precision.FP16)
model = protos.normalized(protos.load(Path(sys.argv[1])))
one = TensorRange(threshold=1.0, minimum=-1.0, maximum=1.0)
ranges = {name: one for name in ("x", "relu1", "conv2", "flat")}
print(digest_bytes(protos.to_bytes(half.halved(quantize.quantized(model, recipe, ranges)))))
"""


def test_another_process_gives_the_same_bytes(residual_net, keep, store):
    path = store.path_of(keep(residual_net()).graph)
    digests = set()
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, "-c", PROGRAM, str(path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.add(done.stdout)
    assert len(digests) == 1


def test_int8_and_fp16_need_a_table_and_fp32_takes_none(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}))
    for precision, recipe in ((Precision.INT8, U8), (Precision.FP16, FLOAT_RECIPES[Precision.FP16])):
        with pytest.raises(MissingThreshold, match=f"calibration table of region 'na' for an {precision} graph"):
            typed_graph(model, "na", precision, recipe, None, store)
    with pytest.raises(CalibrationError, match="no calibration table"):
        typed_graph(model, "na", Precision.FP32, FLOAT_RECIPES[Precision.FP32], table, store)


def test_a_table_of_another_region_or_model_is_refused(residual_net, keep, store, images, ranges_of, table_of):
    model = keep(residual_net())
    table = table_of(model, ranges_of(residual_net(), {"x": images}), region="sea")
    with pytest.raises(ForeignCalibration, match="sea"):
        typed_graph(model, "na", Precision.INT8, U8, table, store)
    other = keep(residual_net(opset=19))
    with pytest.raises(ForeignCalibration):
        typed_graph(other, "sea", Precision.INT8, U8, table, store)


@pytest.mark.parametrize(
    ("precision", "recipe"),
    [
        (Precision.FP16, FLOAT_RECIPES[Precision.FP32]),
        (Precision.FP32, U8),
        (Precision.INT8, FLOAT_RECIPES[Precision.FP32]),
        (Precision.INT8, Recipe(activation="int8")),
        (Precision.INT8, U8.model_copy(update={"integer_bias": True, "remainder": Precision.FP16})),
    ],
)
def test_a_recipe_for_something_else_is_refused(residual_net, keep, store, precision, recipe):
    with pytest.raises(InvalidSetting, match=f"a recipe for {precision}"):
        typed_graph(keep(residual_net()), "na", precision, recipe, None, store)
