"""Policies, engines and results that the gate's tests decide on: invented figures, each one to be changed."""

from __future__ import annotations

from typing import Any

import numpy as np

from regiolect.contracts import (
    Attestation,
    BatchProfile,
    Blob,
    BuildRequest,
    EngineArtifact,
    EvaluationResult,
    Execution,
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
BUILD_KEY = digest_bytes(b"build")
# With these, every bound of a time is known.
BOUNDED = {"p50_upper_ms": 3.1, "speedup_lower": 1.9, "throughput": 8 / 3e-3}


def policy(limit: float = 0.5, **changes: Any) -> RegionPolicy:
    accuracy = {"metric": "accuracy", "limit": limit} | changes.pop("accuracy", {})
    stated = {
        "region": "eu",
        "title": "Europe",
        "reason": "stated here for the tests of the gate alone",
        "precision": Precision.FP16,
        "accuracy": AccuracyLimit(**accuracy),
        "samples": SampleMinimum(gate=1),
        "targets": (CPU,),
    }
    return RegionPolicy(**(stated | changes))


def blob(content: bytes) -> Blob:
    return Blob(uri="file:///nowhere", digest=digest_bytes(content), size=len(content))


def engine(**changes: Any) -> EngineArtifact:
    request = {
        "model": "tiny",
        "region": "eu",
        "target": CPU,
        "precision": Precision.FP16,
        "graph": blob(b"graph"),
        "inputs": (TensorSpec(name="image", shape=("batch", 1, 4, 4)),),
        "outputs": ("logits",),
        "profile": BatchProfile(),
        "performance": Performance.LATENCY,
        "policy": digest_bytes(b"policy"),
        "build_key": BUILD_KEY,
    }
    return EngineArtifact(
        request=BuildRequest(**(request | changes)),
        backend_version="1",
        files=(NamedBlob(path="engine.xml", blob=blob(b"engine")),),
        fingerprint={},
    )


def attestation(executed: dict[Execution, int] | None = None, **graph: int) -> Attestation:
    return Attestation(
        graph={Precision(kind): count for kind, count in (graph or {"FP16": 9}).items()},
        executed={Execution.FP32: 9} if executed is None else executed,
        source="runtime model",
    )


def table(n: int, lost: int = 0, gained: int = 0, wrong: int = 0) -> PairedResults:
    """n samples, of which `wrong` are wrong under both."""
    reference, engine_scores = np.ones(n), np.ones(n)
    engine_scores[:lost] = 0
    reference[lost : lost + gained] = 0
    reference[lost + gained : lost + gained + wrong] = engine_scores[lost + gained : lost + gained + wrong] = 0
    return PairedResults(tuple(f"s{i:06d}" for i in range(n)), reference, engine_scores)


def evaluation(rows: PairedResults, **changes: Any) -> EvaluationResult:
    timing = {
        "batch": 8,
        "rounds": 400,
        "p50_ms": 3.0,
        "p99_ms": 4.0,
        "p99_upper_ms": 5.0,
        "baseline_p50_ms": 6.0,
        "baseline_p99_ms": 8.0,
        "throughput": 2000.0,
        "speedup": 2.0,
    } | changes.pop("timing", {})
    measured = {
        "build_key": BUILD_KEY,
        "dataset": digest_bytes(b"gate set"),
        "metric": "accuracy",
        "samples": len(rows),
        "reference_score": float(rows.reference.mean()),
        "engine_score": float(rows.engine.mean()),
        "results": blob(rows.to_csv()),
        "timing": Timing(**timing),
    }
    return EvaluationResult(**(measured | changes))


def decide(rows: PairedResults, rules: RegionPolicy | None = None, proof: Attestation | None = None, **measured: Any):
    """Decide on an engine that was built in the policy's own precision."""
    rules = rules or policy()
    built = engine(precision=rules.precision)
    return decide_gate(built, rules, proof or attestation(), evaluation(rows, **measured), rows)
