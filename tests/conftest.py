"""What tests of several folders share."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from regiolect.bundle import BundleManifest, write_bundle
from regiolect.contracts import (
    ApprovedEngine,
    Attestation,
    BatchProfile,
    BuildRequest,
    Decision,
    EngineArtifact,
    EvaluationResult,
    Execution,
    ExportedModel,
    GateDecision,
    LossUnit,
    NamedBlob,
    Performance,
    Precision,
    Preprocessing,
    Target,
    TensorSpec,
    Timing,
)
from regiolect.integrity import digest_bytes, digest_of
from regiolect.storage import LocalStore

PREPROCESSING = Preprocessing(scale=1 / 255, mean=(0.5,), std=(0.25,))


@dataclass
class Bundles:
    """Makes bundles of a model called `tiny` without a pipeline: figures are invented, files are what is passed in."""

    store: LocalStore
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="image", shape=("batch", 1, 4, 4)),)
    raw_dtypes: Mapping[str, str] = field(default_factory=lambda: {"image": "uint8"})
    outputs: tuple[str, ...] = ("logits",)

    def exported(self, graph: bytes = b"graph") -> ExportedModel:
        return ExportedModel(
            name="tiny",
            source=digest_bytes(b"weights"),
            graph=self.store.put_bytes(graph),
            inputs=self.inputs,
            outputs=self.outputs,
            preprocessing=PREPROCESSING,
            preprocessing_digest=digest_of(PREPROCESSING),
            opset=21,
            nodes_before=3,
            nodes_after=2,
            bytes_before=len(graph),
            bytes_after=len(graph),
            parity=None,
        )

    def request(self, region: str, target: str, backend: str, graph: bytes) -> BuildRequest:
        return BuildRequest(
            model="tiny",
            region=region,
            target=Target(name=target, backend=backend),
            precision=Precision.FP32,
            graph=self.store.put_bytes(graph),
            inputs=self.inputs,
            outputs=self.outputs,
            profile=BatchProfile(min=1, opt=2, max=4),
            performance=Performance.LATENCY,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(f"{region} {target} {backend}".encode() + graph),
        )

    def artifact(
        self, region: str = "eu", target: str = "cpu", backend: str = "onnxruntime", content: bytes = b"engine"
    ) -> EngineArtifact:
        """An engine that is only bytes: nothing could load it."""
        return EngineArtifact(
            request=self.request(region, target, backend, content),
            backend_version="1.31.0",
            files=(NamedBlob(path="engine.onnx", blob=self.store.put_bytes(content)),),
            fingerprint={"machine": "x86_64"},
        )

    def approved(self, artifact: EngineArtifact, speedup: float = 1.5) -> ApprovedEngine:
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(
            [("sample_id", "reference", "engine"), ("a", 1, 1), ("b", 0, 0)]
        )
        decision = GateDecision(
            outcome=Decision.APPROVED,
            metric="accuracy",
            unit=LossUnit.ABSOLUTE_POINTS,
            loss=0.0,
            loss_lower=-0.1,
            loss_upper=0.3,
            threshold=0.5,
            confidence=0.95,
            samples=2,
            reasons=("the upper bound is within the threshold",),
        )
        evaluation = EvaluationResult(
            build_key=artifact.request.build_key,
            dataset=digest_bytes(b"gate set"),
            metric="accuracy",
            samples=2,
            reference_score=0.5,
            engine_score=0.5,
            results=self.store.put_bytes(table.getvalue().encode()),
            timing=Timing(
                batch=1,
                rounds=3,
                p50_ms=1.0,
                p99_ms=1.2,
                baseline_p50_ms=1.5,
                baseline_p99_ms=1.8,
                throughput=1000.0,
                speedup=speedup,
            ),
        )
        attestation = Attestation(graph={Precision.FP32: 2}, executed={Execution.FP32: 2}, source="a test")
        return ApprovedEngine(engine=artifact, attestation=attestation, evaluation=evaluation, decision=decision)

    def write(self, folder: Path, *artifacts: EngineArtifact, region: str = "eu") -> BundleManifest:
        return write_bundle(
            folder,
            self.exported(),
            region,
            "Europe",
            digest_bytes(b"policy"),
            [self.approved(artifact) for artifact in artifacts or (self.artifact(region),)],
            self.store,
            self.raw_dtypes,
        )


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(LocalStore(tmp_path / "store"))
