"""Journals with invented times, and one real engine that is small enough to be tuned in a second."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    EngineArtifact,
    Performance,
    Precision,
    Target,
    TensorSpec,
    TuningCandidate,
    TuningJournal,
    TuningSlice,
)
from regiolect.engines.catalog import backend
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore
from regiolect.tune import run

SIZE = 32


@dataclass(frozen=True)
class Way:
    """A configuration at a batch, and how long a round of it truly takes; `stalls` is the share of rounds that take
    `stall_ms` longer."""

    ms: float
    batch: int = 8
    settings: str = ""
    at_once: int = 1
    stalls: float = 0.0
    stall_ms: float = 30.0

    def candidate(self, control: bool = False) -> TuningCandidate:
        configuration = dict(pair.split("=") for pair in self.settings.split())
        return TuningCandidate(configuration=configuration, batch=self.batch, at_once=self.at_once, control=control)


Invent = Callable[..., TuningJournal]


@pytest.fixture
def invent() -> Invent:
    """Makes a journal: the default's way first, then others; `spread` is a round's, `drift` the machine's by pass, and
    `stopped` the share of slices all of whose rounds take 3 times as long."""

    def made(
        default: Way,
        *others: Way,
        tuned_for: Performance = Performance.LATENCY,
        spread: float = 0.01,
        passes: int = 10,
        drift: Callable[[int], float] = lambda number: 1.0,
        stopped: float = 0.0,
        seed: int = 0,
        note: str = "synthetic",
    ) -> TuningJournal:
        rng = np.random.default_rng(seed)
        ways = [default, default, *others]

        def piece(place: int, way: Way, number: int) -> TuningSlice:
            rounds = way.ms * drift(number) * np.exp(rng.normal(0, spread, 10))
            if way.stalls:
                rounds += way.stall_ms * (rng.random(10) < way.stalls)
            if stopped and rng.random() < stopped:
                rounds *= 3
            return TuningSlice(candidate=place, rounds_ms=tuple(map(float, rounds)))

        return TuningJournal(
            note=note,
            model="tiny",
            region="eu",
            target=Target(name="cpu", backend="onnxruntime"),
            build_key=digest_bytes(b"build"),
            engine=digest_bytes(b"engine"),
            device={"cpu": "invented"},
            regiolect=digest_bytes(b"code"),
            tuned_for=tuned_for,
            default_batch=default.batch,
            started=datetime(2026, 1, 31, tzinfo=UTC),
            seconds=1.0,
            candidates=tuple(way.candidate(control=place == 1) for place, way in enumerate(ways)),
            passes=tuple(
                tuple(piece(place, way, number) for place, way in enumerate(ways)) for number in range(passes)
            ),
        )

    return made


@pytest.fixture(autouse=True)
def few_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for an answer; that it is a good one is not what these tests are about."""
    monkeypatch.setattr(run, "MOST_PASSES", 8)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def tiny_engine(store: LocalStore, profile: BatchProfile | None = None) -> EngineArtifact:
    """An ONNX Runtime engine of one matrix product."""
    weights = np.random.default_rng(0).normal(size=(SIZE, SIZE)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], "product")],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", SIZE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", SIZE])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.checker.check_model(model)
    request = BuildRequest(
        model="tiny",
        region="eu",
        target=Target(name="cpu", backend="onnxruntime"),
        precision=Precision.FP32,
        graph=store.put_bytes(model.SerializeToString()),
        inputs=(TensorSpec(name="x", shape=("batch", SIZE)),),
        outputs=("y",),
        profile=profile or BatchProfile(min=1, opt=2, max=4),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"tiny"),
    )
    return backend("onnxruntime").build(request, store)


@pytest.fixture
def artifact(store: LocalStore) -> EngineArtifact:
    return tiny_engine(store)


@pytest.fixture
def inputs() -> Mapping[str, NDArray[np.float32]]:
    return {"x": np.random.default_rng(1).normal(size=(3, SIZE)).astype(np.float32)}
