"""Real engines of the tiny model, and what they answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from regiolect.contracts import Blob, EngineArtifact
from regiolect.data import preprocess
from regiolect.engines import catalog
from regiolect.engines.selftest import Probes
from tests.tiny_graph import dense


@pytest.fixture
def weights() -> NDArray[np.float32]:
    return np.random.default_rng(7).normal(size=(16, 3)).astype(np.float32)


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(8).integers(0, 256, (7, 1, 4, 4), np.uint8)


@pytest.fixture
def expected(bundles, weights, images) -> NDArray[np.float32]:
    prepared = preprocess(images, bundles.exported().preprocessing)
    return prepared.reshape(len(images), -1) @ weights


@pytest.fixture
def built(bundles, weights) -> Callable[..., EngineArtifact]:
    """Builds a real engine for a target; `machine` replaces what it tells of the machine that it was built for."""

    def build(target: str, backend: str, region: str = "eu", version: str = "", **machine: str) -> EngineArtifact:
        request = bundles.request(region, target, backend, dense(weights))
        made = catalog.backend(backend).build(request, bundles.store)
        told = {name.replace("_", " "): value for name, value in machine.items()}
        return made.model_copy(
            update={"fingerprint": {**made.fingerprint, **told}, "backend_version": version or made.backend_version}
        )

    return build


@pytest.fixture
def probes(bundles, weights) -> Callable[[float], Blob]:
    """Kept probes whose answers are so far from those of the tiny model."""

    def keep(away: float) -> Blob:
        images = np.random.default_rng(9).normal(size=(5, 1, 4, 4)).astype(np.float32)
        answers = (images.reshape(5, -1) @ weights + away).astype(np.float32)
        return bundles.store.put_bytes(
            Probes({"image": images}, {"logits": answers}, {"logits": np.full(5, 0.1)}).to_bytes()
        )

    return keep
