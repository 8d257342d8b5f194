"""From a signed bundle to a served model: which configurations are opened, and what is asked of the machine."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regiolect.contracts import EngineArtifact, OperatingPoint, TunedEngine
from regiolect.engines.base import Backend
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Arrays, Engine
from regiolect.errors import IntegrityError, InvalidSetting, ShapeOutsideProfile
from regiolect.serving import load_adaptive, load_bundle, opening
from regiolect.serving.opening import Way, measured_points, served_points, ways_of
from regiolect.storage import LocalStore
from tests.conftest import PREPROCESSING
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow


def operating(batch: int, configuration: dict[str, str], throughput: float) -> OperatingPoint:
    return OperatingPoint(
        batch=batch, configuration=configuration, at_once=1, p50_ms=1.0, p99_ms=1.0, throughput=throughput
    )


POINTS = (
    operating(1, {"NUM_STREAMS": "1"}, 100),
    operating(1, {"NUM_STREAMS": "2"}, 150),
    operating(4, {"NUM_STREAMS": "2"}, 200),
)


def tuned(
    device: dict[str, str], artifact: EngineArtifact, store: LocalStore, chosen: OperatingPoint | None = None
) -> TunedEngine:
    return TunedEngine(
        build_key=artifact.request.build_key,
        device=device,
        default=operating(4, {}, 90),
        points=POINTS,
        chosen=chosen,
        noise=0.01,
        journal=store.put_bytes(b"journal"),
    )


@pytest.fixture
def sums(built: Callable[..., EngineArtifact]) -> EngineArtifact:
    return built("openvino")


@pytest.fixture
def as_tuned(sums: EngineArtifact, store: LocalStore) -> TunedEngine:
    return tuned(dict(backend("openvino").device()), sums, store)


def test_a_configuration_is_loaded_once_however_many_points_have_it(as_tuned: TunedEngine) -> None:
    first, second = ways_of(as_tuned)
    assert (dict(first.configuration), first.batches) == ({"NUM_STREAMS": "1"}, (1,))
    assert (dict(second.configuration), second.batches) == ({"NUM_STREAMS": "2"}, (1, 4))


def test_the_point_that_was_judged_is_opened_though_others_are_better(as_tuned: TunedEngine) -> None:
    judged = operating(4, {"NUM_STREAMS": "1"}, 110)
    first, second = ways_of(as_tuned.model_copy(update={"chosen": judged}))
    assert (dict(first.configuration), first.batches) == ({"NUM_STREAMS": "1"}, (1, 4))
    assert second.batches == (1, 4)


def test_points_are_measured_here_at_every_size_that_they_batch(
    sums: EngineArtifact, as_tuned: TunedEngine, store: LocalStore
) -> None:
    ways = ways_of(as_tuned)
    engines = [backend("openvino").load(sums, store, way.configuration) for way in ways]
    points = measured_points(engines, ways)
    assert [(point.engine, point.batch, point.slots) for point in points] == [(0, 1, 1), (1, 1, 2), (1, 4, 2)]
    assert [sorted(point.seconds) for point in points] == [[1], [1], [1, 2, 4]]
    assert [sorted(point.alone) for point in points] == [[1], [1], [1, 2, 4]]
    assert all(took > 0 for point in points for took in (*point.seconds.values(), *point.alone.values()))
    assert points[2].name == "batch 4, NUM_STREAMS=2"


def test_what_batches_take_is_what_they_take_beside_callers(
    built: Callable[..., EngineArtifact], store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    ways = (Way({}, (1,)), Way({"session.dynamic_block_base": "4"}, (1,)))
    engines = [backend("onnxruntime").load(built("onnxruntime"), store, way.configuration) for way in ways]
    original, clock = Engine.run_many, Clock()

    def run_many(self: Engine, inputs: Arrays, batch: int | None = None) -> Any:
        served = threading.current_thread().name.startswith("regiolect-serve")
        # The second configuration, alone, suffers from what serving does beside it.
        clock.now += 0.03 if served and self is engines[1] else 0.01
        return original(self, inputs, batch)

    monkeypatch.setattr(Engine, "run_many", run_many)
    monkeypatch.setattr(opening, "time", clock)
    alone = measured_points(engines, ways)
    served = served_points(engines, ways, PREPROCESSING)
    slower = [ours.takes(1) / its.takes(1) for ours, its in zip(served, alone, strict=True)]
    # One batch may be in flight when counting begins, and one when it ends.
    assert slower == pytest.approx([1, 3], rel=0.1)
    assert [(point.engine, point.batch, point.slots) for point in served] == [(0, 1, 1), (1, 1, 1)]


class Clock:
    """In place of the module `time`: only what engines compute takes time."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


def test_an_engine_from_before_profiles_is_refused_by_name(
    sums: EngineArtifact, as_tuned: TunedEngine, store: LocalStore
) -> None:
    old = sums.model_copy(update={"request": sums.request.model_copy(update={"shapes": {}})})
    with pytest.raises(ShapeOutsideProfile, match=r"profile for 'width' of sums-me.*load_bundle"):
        measured_points([backend("openvino").load(old, store)], ways_of(as_tuned)[:1])


Write = Callable[..., Path]


@pytest.fixture
def write(bundles, sums: EngineArtifact, tmp_path: Path) -> Write:
    """Signs a bundle whose engine really runs, as tuned if it is said to what."""

    def write(tuning: TunedEngine | None = None) -> Path:
        policy = bundles.policy.model_copy(update={"region": "me"})
        made = {"model": "sums", "inputs": sums.request.inputs, "outputs": ("total",), "tuning": tuning}
        artifact = backend("openvino").build(sums.request.model_copy(update={"policy": policy.digest()}), bundles.store)
        dataclasses.replace(bundles, **made).write(tmp_path / "bundle", artifact, region="me")
        return tmp_path / "bundle"

    return write


@pytest.fixture
def bundle(write: Write) -> Path:
    return write()


IMAGES = np.arange(3 * 3 * 4, dtype=np.uint8).reshape(3, 3, 4)


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """Every call of an engine: how many batches it computes at once, and of what size."""
    seen: list[tuple[int, int | None]] = []
    original = Engine.run_many

    def run_many(self: Engine, inputs: Arrays, batch: int | None = None) -> Any:
        seen.append((self.at_once, batch))
        return original(self, inputs, batch)

    monkeypatch.setattr(Engine, "run_many", run_many)
    return seen


def test_an_engine_that_was_tuned_is_served_at_the_point_at_which_it_was_judged(
    write: Write, as_tuned: TunedEngine, runs: list[tuple[int, int | None]]
) -> None:
    judged = as_tuned.model_copy(update={"chosen": operating(2, {"NUM_STREAMS": "2"}, 210)})
    served = load_bundle(write(judged))
    assert served.tuning is not None
    assert served.tuning.point == judged.point
    assert served.predict(IMAGES)["total"].shape == (3, 3)
    assert runs == [(2, 2)]


def test_an_engine_that_was_tuned_on_another_device_is_served_as_it_comes_and_both_are_told(
    write: Write, as_tuned: TunedEngine, runs: list[tuple[int, int | None]]
) -> None:
    elsewhere = write(as_tuned.model_copy(update={"device": {**as_tuned.device, "cores": "4096"}}))
    with pytest.warns(UserWarning, match=r"sums-me was tuned on another device \(cores 4096 there, \d+ here\)"):
        served = load_bundle(elsewhere)
    assert served.tuning is None
    served.predict(IMAGES)
    assert runs == [(1, None)]
    with pytest.warns(UserWarning, match="tuned on another device"), load_adaptive(elsewhere) as model:
        assert [point.batch for point in model.points] == [1, 2, 4]


def test_an_engine_that_was_tuned_is_opened_at_its_points_and_no_configuration_is_loaded_twice(
    write: Write, as_tuned: TunedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, original = [], Backend.load_from

    def load_from(self: Backend, *given: Any) -> Engine:
        loaded.append(given[-1])
        return original(self, *given)

    monkeypatch.setattr(Backend, "load_from", load_from)
    with load_adaptive(write(as_tuned.model_copy(update={"chosen": POINTS[2]}))) as model:
        assert loaded == [{"NUM_STREAMS": "2"}, {"NUM_STREAMS": "1"}]
        assert [(point.engine, point.batch) for point in model.points] == [(0, 1), (1, 1), (1, 4)]


def test_a_bundle_named_from_where_it_lies_answers_many_callers_as_it_answers_one(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = load_bundle(bundle).predict(IMAGES)
    monkeypatch.chdir(bundle.parent)
    with load_adaptive(Path(bundle.name)) as model:
        assert (model.name, model.target, model.patience) == ("sums-me", "here", 1.0)
        assert [point.batch for point in model.points] == [1, 2, 4]
        futures = [model.submit(IMAGES[place : place + 1]) for place in range(3)]
        answers = np.concatenate([future.result(timeout=PATIENCE)["total"] for future in futures])
    np.testing.assert_allclose(answers, expected["total"], rtol=1e-6)


def test_what_load_bundle_refuses_is_refused(bundle: Path) -> None:
    with pytest.raises(InvalidSetting, match="a patience of at least"):
        load_adaptive(bundle, patience=1e-9)
    (bundle / "engines/here/engine.bin").write_bytes(b"other")
    with pytest.raises(IntegrityError):
        load_adaptive(bundle)
