"""From a signed bundle to a served model: which configurations are opened, and what is asked of the machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from regiolect.contracts import EngineArtifact, OperatingPoint, TunedEngine
from regiolect.engines.catalog import backend
from regiolect.errors import IntegrityError, InvalidSetting, ShapeOutsideProfile
from regiolect.serving import load_adaptive, load_bundle
from regiolect.serving.opening import measured_points, tuned_ways, ways_of
from regiolect.storage import LocalStore


def operating(batch: int, configuration: dict[str, str], throughput: float) -> OperatingPoint:
    return OperatingPoint(
        batch=batch, configuration=configuration, at_once=1, p50_ms=1.0, p99_ms=1.0, throughput=throughput
    )


POINTS = (
    operating(1, {"NUM_STREAMS": "1"}, 100),
    operating(1, {"NUM_STREAMS": "2"}, 150),
    operating(4, {"NUM_STREAMS": "2"}, 200),
)


def tuned(device: dict[str, str], artifact: EngineArtifact, store: LocalStore) -> TunedEngine:
    return TunedEngine(
        build_key=artifact.request.build_key,
        device=device,
        default=operating(4, {}, 90),
        points=POINTS,
        noise=0.01,
        journal=store.put_bytes(b"journal"),
    )


@pytest.fixture
def sums(built: Callable[..., EngineArtifact]) -> EngineArtifact:
    return built("openvino")


def test_a_configuration_is_loaded_once_however_many_points_have_it() -> None:
    first, second = ways_of(POINTS)
    assert (dict(first.configuration), first.batches) == ({"NUM_STREAMS": "1"}, (1,))
    assert (dict(second.configuration), second.batches) == ({"NUM_STREAMS": "2"}, (1, 4))


def test_points_are_measured_here_at_every_size_that_they_batch(sums: EngineArtifact, store: LocalStore) -> None:
    ways = ways_of(POINTS)
    engines = [backend("openvino").load(sums, store, way.configuration) for way in ways]
    points = measured_points(engines, ways)
    assert [(point.engine, point.batch, point.slots) for point in points] == [(0, 1, 1), (1, 1, 2), (1, 4, 2)]
    assert [sorted(point.seconds) for point in points] == [[1], [1], [1, 2, 4]]
    assert [sorted(point.alone) for point in points] == [[1], [1], [1, 2, 4]]
    assert all(took > 0 for point in points for took in (*point.seconds.values(), *point.alone.values()))
    assert points[2].name == "batch 4, NUM_STREAMS=2"


def test_an_engine_that_was_tuned_here_is_opened_at_its_points_and_elsewhere_as_it_comes(
    bundles, sums: EngineArtifact, store: LocalStore
) -> None:
    own = dataclasses.replace(bundles, model="sums", inputs=sums.request.inputs, outputs=("total",))
    approved = own.approved(sums)
    assert [(way.configuration, way.batches) for way in tuned_ways(approved, {})] == [({}, ())]
    here = dict(backend("openvino").device())
    with_points = approved.model_copy(update={"tuning": tuned(here, sums, store)})
    assert tuned_ways(with_points, here) == ways_of(POINTS)
    with pytest.warns(UserWarning, match="sums-me was tuned on a device of another cpu and is served as it comes"):
        ways = tuned_ways(with_points, here | {"cpu": "another"})
    assert [(way.configuration, way.batches) for way in ways] == [({}, ())]


def test_an_engine_from_before_profiles_is_refused_by_name(sums: EngineArtifact, store: LocalStore) -> None:
    old = sums.model_copy(update={"request": sums.request.model_copy(update={"shapes": {}})})
    with pytest.raises(ShapeOutsideProfile, match=r"profile for 'width' of sums-me.*load_bundle"):
        measured_points([backend("openvino").load(old, store)], ways_of(POINTS[:1]))


@pytest.fixture
def bundle(bundles, store: LocalStore, sums: EngineArtifact, tmp_path: Path) -> Path:
    """A signed bundle whose engine really runs."""
    policy = bundles.policy.model_copy(update={"region": "me"})
    own = dataclasses.replace(bundles, model="sums", inputs=sums.request.inputs, outputs=("total",))
    artifact = backend("openvino").build(sums.request.model_copy(update={"policy": policy.digest()}), bundles.store)
    own.write(tmp_path / "bundle", artifact, region="me")
    return tmp_path / "bundle"


def test_a_bundle_answers_many_callers_as_it_answers_one(bundle: Path) -> None:
    images = np.arange(3 * 3 * 4, dtype=np.uint8).reshape(3, 3, 4)
    expected = load_bundle(bundle).predict(images)
    with load_adaptive(bundle) as model:
        assert (model.name, model.target, model.patience) == ("sums-me", "here", 1.0)
        assert [point.batch for point in model.points] == [1, 2, 4]
        futures = [model.submit(images[place : place + 1]) for place in range(3)]
        answers = np.concatenate([future.result(timeout=20)["total"] for future in futures])
    np.testing.assert_allclose(answers, expected["total"], rtol=1e-6)


def test_what_load_bundle_refuses_is_refused(bundle: Path) -> None:
    with pytest.raises(InvalidSetting, match="a patience of at least"):
        load_adaptive(bundle, patience=1e-9)
    (bundle / "engines/here/engine.bin").write_bytes(b"other")
    with pytest.raises(IntegrityError):
        load_adaptive(bundle)
