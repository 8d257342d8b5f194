"""What a decision takes besides results and rules: an engine that nothing else speaks against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pytest

from regiolect.contracts import (
    Attestation,
    BatchProfile,
    Blob,
    BuildRequest,
    EngineArtifact,
    EvaluationResult,
    Execution,
    GateDecision,
    NamedBlob,
    Performance,
    Precision,
    Target,
    TensorSpec,
    Timing,
)
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.integrity import digest_bytes
from regiolect.policy import AccuracyLimit, RegionPolicy, SampleMinimum

CPU = Target(name="cpu", backend="openvino")


class Decide(Protocol):
    """Decides on results under `accuracy` (limit 0.5, unless stated) and other rules of a policy."""

    def __call__(
        self,
        rows: PairedResults,
        accuracy: Mapping[str, Any] | None = None,
        timing: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> GateDecision: ...


def blob(content: bytes) -> Blob:
    return Blob(uri="file:///nowhere", digest=digest_bytes(content), size=len(content))


@pytest.fixture
def decide() -> Decide:
    request = BuildRequest(
        model="tiny",
        region="eu",
        target=CPU,
        precision=Precision.FP16,
        graph=blob(b"graph"),
        inputs=(TensorSpec(name="image", shape=("batch", 1, 4, 4)),),
        outputs=("logits",),
        profile=BatchProfile(),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"build"),
    )
    engine = EngineArtifact(
        request=request,
        backend_version="1",
        files=(NamedBlob(path="engine.xml", blob=blob(b"engine")),),
        fingerprint={},
    )
    proof = Attestation(graph={Precision.FP16: 9}, executed={Execution.FP32: 9}, source="runtime model")

    def decided(
        rows: PairedResults,
        accuracy: Mapping[str, Any] | None = None,
        timing: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> GateDecision:
        policy = RegionPolicy(
            region="eu",
            title="Europe",
            reason="stated here for the tests of the gate alone",
            precision=Precision.FP16,
            accuracy=AccuracyLimit(**({"metric": "accuracy", "limit": 0.5} | dict(accuracy or {}))),
            targets=(CPU,),
            **({"samples": SampleMinimum(gate=1)} | rules),
        )
        evaluation = EvaluationResult(
            build_key=request.build_key,
            dataset=digest_bytes(b"gate set"),
            metric="accuracy",
            samples=len(rows),
            reference_score=float(rows.reference.mean()),
            engine_score=float(rows.engine.mean()),
            results=blob(rows.to_csv()),
            timing=Timing(
                **{
                    "batch": 8,
                    "rounds": 400,
                    "p50_ms": 3.0,
                    "p50_upper_ms": 3.1,
                    "p99_ms": 4.0,
                    "p99_upper_ms": 5.0,
                    "baseline_p50_ms": 6.0,
                    "baseline_p99_ms": 8.0,
                    "throughput": 8 / 3e-3,
                    "speedup": 2.0,
                    "speedup_lower": 1.9,
                    **(timing or {}),
                }
            ),
        )
        return decide_gate(engine, policy, proof, evaluation, rows)

    return decided


def table(counts: Mapping[str, tuple[int, int, int]]) -> PairedResults:
    """Right/wrong results in slices of `device`: (samples, lost, gained) by device."""
    parts = []
    for device, (n, lost, gained) in counts.items():
        reference, engine = np.ones(n), np.ones(n)
        engine[:lost] = 0
        reference[lost : lost + gained] = 0
        parts.append((np.full(n, device), reference, engine))
    device, reference, engine = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PairedResults(tuple(f"s{i:06d}" for i in range(len(device))), reference, engine, {"device": device})


@pytest.fixture
def by_device():
    """`table`, for tests: right/wrong results in slices of `device`, (samples, lost, gained) by device."""
    return table
