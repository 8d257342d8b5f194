"""What the tests of the report share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    Execution,
    GraphChoice,
    Precision,
    RegionOutcome,
    ReleaseRow,
    RepairJournal,
    Seal,
    TensorRange,
)
from regiolect.integrity import digest_bytes


@pytest.fixture
def outcome_of(bundles) -> Callable[..., RegionOutcome]:
    """The outcome behind an approved row: real bundles' figures, with an INT8 calibration."""

    def make(
        about: ReleaseRow, sealed_to: str | None = None, journal: RepairJournal | None = None, **changes: Any
    ) -> RegionOutcome:
        artifact = bundles.artifact(about.region)
        approved = bundles.approved(artifact)
        seal = Seal(
            region=sealed_to or about.region,
            model=digest_bytes(b"graph"),
            preprocessing=digest_bytes(b"preprocessing"),
            dataset=digest_bytes(b"calibration set"),
            sample_ids=tuple(f"sample-{number}" for number in range(512)),
            checks=digest_bytes(b"checks"),
            made=datetime(2026, 3, 1, tzinfo=UTC),
        )
        table = CalibrationTable(
            seal=seal,
            method=CalibrationMethod.ENTROPY,
            tensors={"x": TensorRange(threshold=1.0, minimum=-1.0, maximum=1.0)},
        )
        fields: dict[str, Any] = {
            "model": "tiny",
            "region": about.region,
            "title": about.title,
            "target": artifact.request.target,
            "precision": about.precision,
            "policy": digest_bytes(b"policy"),
            "build_key": about.build_key,
            "key_parts": {"data": digest_bytes(b"data")},
            "decision": about.decision,
            "reasons": about.reasons,
            "seconds": 1.0,
            "chosen": ChosenGraph(
                choice=GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY),
                table=table,
                journal=journal,
            ),
            "engine": artifact.model_copy(
                update={"calibration": digest_bytes(b"table"), "fingerprint": {"cpu": "Some CPU", "isa": "avx2"}}
            ),
            "attestation": approved.attestation.model_copy(
                update={"executed": {Execution.INT8: 10, Execution.FP32: 1}}
            ),
            "evaluation": approved.evaluation,
        }
        return RegionOutcome(**(fields | changes))

    return make
