"""What an INT8 engine is asked wherever it is loaded is made from its graph."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend
from regiolect.engines.selftest import Probes
from regiolect.errors import NonFiniteOutputs
from regiolect.evaluate.probes import keep_probes, quantized_ranges
from tests.unit.evaluate.conftest import FEATURES, HEAD, dense, quantized

SCALE = 0.25


@pytest.fixture
def seen() -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(1).uniform(-2, 3, (50, FEATURES)).astype(np.float32)}


def kept(lab, seen, proto=None, precision=Precision.INT8):
    model = lab.exported(lab.spec())
    artifact = lab.engine(model, proto or quantized(SCALE), precision=precision)
    engine = backend("onnxruntime").load(artifact, lab.store)
    blob = keep_probes(engine, model, seen, lab.store)
    return None if blob is None else Probes.from_bytes(lab.store.path_of(blob).read_bytes())


def test_they_reach_both_ends_of_what_the_graph_quantizes_and_leave_it_nowhere(lab, seen) -> None:
    values = kept(lab, seen).inputs["x"]
    assert values.shape[1:] == (FEATURES,) and values.dtype == np.float32
    assert (values.min(), values.max()) == (-128 * SCALE, 127 * SCALE)
    at_the_ends = np.isin(values, (-128 * SCALE, 127 * SCALE)).all(axis=1)
    assert at_the_ends.any() and not at_the_ends.all()


def test_they_tell_what_the_engine_answered_and_how_far_that_is_from_the_reference(lab, seen) -> None:
    probes = kept(lab, seen)
    exact = probes.inputs["x"] @ HEAD
    own = np.sqrt(np.square(probes.answers["y"] - exact).mean(axis=1))
    np.testing.assert_allclose(probes.tolerances["y"], np.maximum(own, np.median(own)), rtol=1e-3, atol=1e-5)
    assert (probes.tolerances["y"] > 1e-3).all()


def test_the_same_engine_has_the_same_probes(lab, seen) -> None:
    assert kept(lab, seen).to_bytes() == kept(lab, seen).to_bytes()


def test_of_an_input_that_is_not_quantized_as_it_comes_the_samples_tell_the_range(lab, seen) -> None:
    values = kept(lab, seen, dense()).inputs["x"]
    assert (values.min(), values.max()) == (seen["x"].min(), seen["x"].max())


def test_a_wider_engine_has_none(lab, seen) -> None:
    assert kept(lab, seen, dense(), Precision.FP32) is None


def test_an_input_that_is_only_moved_before_it_is_quantized_is_followed(lab, tmp_path) -> None:
    moved = quantized(SCALE)
    moved.graph.node.insert(0, helper.make_node("Identity", ["x"], ["same"]))
    moved.graph.node[1].input[0] = "same"
    (tmp_path / "moved.onnx").write_bytes(moved.SerializeToString())
    assert quantized_ranges(tmp_path / "moved.onnx") == {"x": (-128 * SCALE, 127 * SCALE)}


def test_a_model_that_answers_with_infinity_alone_cannot_be_asked(lab, seen) -> None:
    model = lab.exported(lab.spec())
    endless = quantized(SCALE)
    endless.graph.node[-1].output[0] = "before"
    endless.graph.node.append(helper.make_node("Log", ["nothing"], ["minus"]))
    endless.graph.node.append(helper.make_node("Add", ["before", "minus"], ["y"]))
    endless.graph.initializer.append(numpy_helper.from_array(np.float32(0), "nothing"))
    engine = backend("onnxruntime").load(lab.engine(model, endless, precision=Precision.INT8), lab.store)
    with pytest.raises(NonFiniteOutputs, match="for each of them"):
        keep_probes(engine, model, seen, lab.store)
