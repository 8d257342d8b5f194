"""Whatever an engine depends on, a change of it rebuilds, and the plan names that change and no other.

`MUTATIONS` is the list. It is complete: a part that the build key gains without a row here fails
`test_every_part_of_a_build_key_is_mutated`, and the entries of every backend's fingerprint are taken from the backend.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from regiolect.contracts import (
    DEFAULT_METHOD,
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    Precision,
    Seal,
    Split,
    TensorRange,
)
from regiolect.data import Samples
from regiolect.engines import catalog
from regiolect.engines.openvino.recipe import RECIPES
from regiolect.errors import BackendUnavailable
from regiolect.host.gpu import Gpu
from regiolect.identity.toolchain import toolchain
from regiolect.integrity import digest_bytes
from regiolect.planning import PlannedEngine, differences, keep
from tests.flows.tiny_models import CPU, GPU, PORTABLE, Workshop

pytestmark = pytest.mark.slow

Change = Callable[[Workshop, pytest.MonkeyPatch], Workshop | None]


class Stricter(Workshop):
    """The same model, judged by another function."""

    def _accuracy(self, outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[Any]:
        return super()._accuracy(outputs, targets) * 0.5


def _other_operator(workshop: Workshop) -> None:
    """Another graph with the same weights."""
    model = onnx.load(workshop.model)
    next(node for node in model.graph.node if node.name == "relu1").op_type = "Sigmoid"
    onnx.save(model, workshop.model)


def _brighter(samples: Samples) -> Samples:
    return replace(samples, inputs={"image": np.minimum(samples.inputs["image"] + 1, 4095)})


def _rule(**rules: Any) -> Change:
    return lambda shop, patch: shop.write_policy("north", **rules)


def _data(split: Split) -> Change:
    return lambda shop, patch: shop.change("north", split, _brighter)


def _recipe(shop: Workshop, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(RECIPES, Precision.INT8, RECIPES[Precision.INT8].model_copy(update={"activation": "int8"}))


def _libraries(shop: Workshop, patch: pytest.MonkeyPatch) -> None:
    newer = toolchain().replace("numpy ", "numpy 99.")
    patch.setattr("regiolect.planning.request.toolchain", lambda: newer)


def _own_code(shop: Workshop, patch: pytest.MonkeyPatch) -> None:
    patch.setattr("regiolect.planning.request.own_code", lambda: digest_bytes(b"another line of code"))


def _backend_version(shop: Workshop, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(catalog.backend("openvino"), "version", lambda: "1999.1")


# What is changed; which parts of the key that changes; how the plan says it.
MUTATIONS: dict[str, tuple[Change, tuple[str, ...], str]] = {
    "weights": (lambda shop, patch: shop.write_model(seed=2), ("model",), "the model (model.onnx)"),
    "graph": (lambda shop, patch: _other_operator(shop), ("model",), "the model"),
    # The metric is a method of the workshop, so it is that of another one as well.
    "preprocessing": (lambda shop, patch: replace(shop, raw_dtype="float32"), ("model", "metric"), "the model"),
    "calibration set": (_data(Split.CALIBRATION), ("data",), "the region's data (calibration set, still 64 samples)"),
    "selection set": (_data(Split.SELECTION), ("data",), "the region's data (selection set, still 16 samples)"),
    "gate set": (_data(Split.GATE), ("data",), "the region's data (gate set, still 400 samples)"),
    "metric": (lambda shop, patch: Stricter(shop.folder), ("metric",), "the metric's code"),
    "accuracy limit": (_rule(limit=4.0), ("policy",), "the policy (accuracy.limit 5 -> 4)"),
    "calibration method": (
        _rule(calibration={"method": "percentile"}),
        ("policy",),
        f"the policy (calibration.method {DEFAULT_METHOD} -> percentile)",
    ),
    "calibration age": (
        _rule(calibration={"max_age_days": 30}),
        ("policy",),
        "the policy (calibration.max_age_days none -> 30)",
    ),
    "profile": (_rule(batch={"max": 32}), ("policy",), "the policy (batch.max 64 -> 32)"),
    "performance": (_rule(performance="throughput"), ("policy",), "the policy (performance latency -> throughput)"),
    "precision": (
        _rule(precision="FP16"),
        ("policy", "recipe", "arithmetic"),
        "the policy (precision INT8 -> FP16), the backend's recipe for the precision, the class of arithmetic (",
    ),
    "recipe": (_recipe, ("recipe",), "the backend's recipe for the precision"),
    "backend": (
        lambda shop, patch: shop.write_policy("north", PORTABLE | {"name": "cpu"}),
        ("policy", "recipe", "target", "backend"),
        "the target (cpu/openvino -> cpu/onnxruntime)",
    ),
    "backend version": (_backend_version, ("backend",), "-> version 1999.1)"),
    "libraries": (_libraries, ("toolchain",), "-> numpy 99."),
    "Regiolect itself": (_own_code, ("regiolect",), "Regiolect's own code"),
}


@pytest.fixture
def workshop(workshop: Workshop) -> Workshop:
    """With a model that can be changed in parts."""
    workshop.write_model()
    return workshop


def only(planned: Any) -> PlannedEngine:
    (engine,) = planned.engines
    assert isinstance(engine, PlannedEngine)
    return engine


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_rebuilds_and_is_named_alone(
    plan, build, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    change, parts, words = MUTATIONS[name]
    before = build(only(plan("north")).request)
    assert only(plan("north")).action == "reuse", "else the rebuild below says nothing"
    changed = change(workshop, monkeypatch)
    engine = only(plan("north", of=changed or workshop))
    assert engine.action == "rebuild"
    assert engine.request.build_key != before.build_key
    assert engine.kept == before.build_key
    assert tuple(each.part for each in engine.differences) == parts
    assert words in engine.reason
    assert engine.reason == f"changed: {', '.join(each.words for each in engine.differences)}"


def test_every_part_of_a_build_key_is_mutated(plan) -> None:
    alone = {parts[0] for _, parts, _ in MUTATIONS.values() if len(parts) == 1}
    # Another name for a target, or another class, is another engine: see below and test_classes.
    assert alone | {"target", "arithmetic"} == set(only(plan("north")).request.key_parts)


def test_another_target_is_another_engine_that_differs_in_nothing_else(plan, build, workshop: Workshop, store) -> None:
    workshop.write_policy("north", CPU, {**CPU, "name": "edge"})
    cpu, edge = plan("north").requests()
    build(cpu)
    assert {engine.target: engine.action for engine in plan("north").engines} == {"cpu": "reuse", "edge": "build"}
    (difference,) = differences(cpu.key_parts, edge, store)
    assert difference.words == "the target (cpu/openvino -> edge/openvino)"


def test_a_calibration_that_grew_too_old_rebuilds_though_its_key_is_the_same(
    plan, build, workshop: Workshop, store
) -> None:
    workshop.write_policy("north", calibration={"max_age_days": 30})
    request = only(plan("north")).request
    for days, action in ((-29, "reuse"), (-31, "rebuild"), (29, "reuse"), (31, "rebuild")):
        outcome = build(request).model_copy(update={"chosen": _calibrated(days, request)})
        keep(outcome, request, store)
        engine = only(plan("north"))
        assert (engine.action, engine.differences) == (action, ())
    assert engine.reason == "its calibration is 31 days old, the policy allows 30"


def _calibrated(days: int, request: Any) -> ChosenGraph:
    seal = Seal(
        region="north",
        model=digest_bytes(b"model"),
        preprocessing=digest_bytes(b"preprocessing"),
        dataset=digest_bytes(b"dataset"),
        sample_ids=("a",),
        checks=digest_bytes(b"checks"),
        made=datetime.now(UTC) - timedelta(days=days),
    )
    ranges = {"image": TensorRange(threshold=1.0, minimum=0.0, maximum=1.0)}
    table = CalibrationTable(seal=seal, method=CalibrationMethod.ENTROPY, tensors=ranges)
    return ChosenGraph(choice=request.policy.stated_choice(), table=table)


# --------------------------------------------------------------------------------------- backends and machines


def _fingerprints() -> Iterator[tuple[str, str]]:
    for name in catalog.names():
        try:
            entries = catalog.backend(name).fingerprint()
        except BackendUnavailable:
            continue
        # For these the class of arithmetic stands: see test_classes.
        yield from ((name, entry) for entry in entries if entry not in ("cpu", "isa"))


@pytest.mark.parametrize(("name", "entry"), list(_fingerprints()))
def test_each_entry_of_a_backends_fingerprint_rebuilds(
    plan, build, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str, entry: str
) -> None:
    """Flavour, version, and whatever else a backend of this installation tells of itself and its machine."""
    workshop.write_policy("north", {"name": "cpu", "backend": name})
    backend = catalog.backend(name)
    told = dict(backend.fingerprint())
    build(only(plan("north")).request)
    monkeypatch.setattr(type(backend), "fingerprint", lambda self: {**told, entry: "another"})
    engine = only(plan("north"))
    assert engine.action == "rebuild"
    (difference,) = engine.differences
    assert difference.part == "backend"
    assert difference.words.endswith(f"-> {entry} another)")


@pytest.mark.parametrize("entry", ["gpu", "compute capability", "driver"])
def test_another_gpu_rebuilds_and_both_are_named(
    plan, build, workshop: Workshop, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """No GPU is here; these are what `regiolect.host.gpu` would tell of two of them."""
    workshop.write_policy("north", GPU)
    backend = catalog.backend(GPU["backend"])
    host = {key: value for key, value in backend.fingerprint().items() if key not in ("gpu", entry)}
    now = Gpu("NVIDIA L4", "8.9", "580.65.06", "13.0").fingerprint()
    other = {**now, entry: Gpu("Tesla T4", "7.5", "535.183.01", "12.2").fingerprint()[entry]}
    monkeypatch.setattr(type(backend), "fingerprint", lambda self: {**host, **now})
    build(only(plan("north")).request)
    monkeypatch.setattr(type(backend), "fingerprint", lambda self: {**host, **other})
    engine = only(plan("north"))
    assert engine.action == "rebuild"
    assert [each.words for each in engine.differences] == [
        f"the backend or its machine ({entry} {now[entry]} -> {entry} {other[entry]})"
    ]
