"""A study's result as data, without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import numpy as np
import pytest

from regiolect.contracts import CalibrationMethod
from regiolect.integrity import digest_bytes
from regiolect.study import StudyRegion, StudyResult
from regiolect.study.estimates import cell_of, saving_of

REGIONS = ("bright", "dark", "hazy")
# Share of a region's test samples that an engine gets wrong though FP32 has them right, by (donor, tested).
HARM = {("dark", "bright"): 0.3, ("dark", "hazy"): 0.1}


def _study(harm: Mapping[tuple[str, str], float] = HARM, note: str = "SIMULATED", draws: int = 3) -> StudyResult:
    rng = np.random.default_rng(0)
    reference = np.ones(600)
    scores = {
        (donor, tested): (rng.random((draws, 600)) >= harm.get((donor, tested), 0.002)).astype(np.float64)
        for donor in REGIONS
        for tested in REGIONS
    }
    pairs = len(REGIONS) * (len(REGIONS) - 1)
    return StudyResult(
        model="garments",
        note=note,
        graph=digest_bytes(b"graph"),
        metric="accuracy",
        method=CalibrationMethod.ENTROPY,
        backend="openvino",
        backend_version="1.0",
        executed=("INT8 9 + FP32 2",),
        seeds=tuple(range(draws)),
        drawn=64,
        confidence=0.95,
        regions=tuple(
            StudyRegion(
                region=name,
                title=f"The {name} <region>",
                calibration=128,
                calibration_digest=digest_bytes(name.encode()),
                selection=600,
                selection_digest=digest_bytes(name.upper().encode()),
                reference_score=1.0,
            )
            for name in REGIONS
        ),
        cells=tuple(cell_of(*pair, reference, scores[pair], 0.95) for pair in scores),
        savings=tuple(
            saving_of(donor, tested, scores[tested, tested], scores[donor, tested], 0.95, pairs)
            for donor, tested in scores
            if donor != tested
        ),
        machine={"machine": "x86_64", "cpu": "a processor"},
        toolchain="numpy 2",
        regiolect="0.1.0",
        started=datetime(2026, 3, 2, 12, tzinfo=UTC),
        seconds=4.0,
    )


@pytest.fixture
def study() -> Callable[..., StudyResult]:
    """Engines that are calibrated on dark scenes lose 30 points on bright and 10 on hazy ones, nothing else matters."""
    return _study
