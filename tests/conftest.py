"""What tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from xdist.scheduler import LoadFileScheduling

from regiolect.bundle.manifest import BundleManifest
from regiolect.bundle.write import write_bundle
from regiolect.contracts import (
    ApprovedEngine,
    Attestation,
    BatchProfile,
    Blob,
    BuildRequest,
    Decision,
    EngineArtifact,
    EvaluationResult,
    Execution,
    ExportedModel,
    GraphNode,
    LayerReport,
    Layers,
    NamedBlob,
    Performance,
    Precision,
    Preprocessing,
    RegionOutcome,
    Target,
    TensorSpec,
    Timing,
    TunedEngine,
)
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.host.garbage import look_seldom
from regiolect.integrity import canonical_json, digest_bytes, digest_of
from regiolect.policy import RegionPolicy
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.storage import LocalStore
from tests.databases import Databases, databases_of

look_seldom()

POLICY = RegionPolicy.model_validate(
    {
        "region": "eu",
        "title": "Europe",
        "reason": "Invented, for tests of what follows the gate.",
        "precision": "FP32",
        # Two samples prove next to nothing, so next to nothing is asked for: decisions are true ones.
        "accuracy": {"metric": "accuracy", "limit": 100},
        "samples": {"gate": 2},
        "targets": [{"name": "cpu", "backend": "onnxruntime"}],
    }
)
RESULTS = PairedResults(("a", "b"), np.array([1.0, 0.0]), np.array([1.0, 0.0]))
PREPROCESSING = Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.5,), std=(0.25,))


@dataclass
class Bundles:
    """Makes bundles of a model called `tiny` without a pipeline: times are invented, files are what is passed in."""

    store: LocalStore
    model: str = "tiny"
    inputs: tuple[TensorSpec, ...] = (TensorSpec(name="image", shape=("batch", 1, 4, 4)),)
    outputs: tuple[str, ...] = ("logits",)
    policy: RegionPolicy = POLICY
    signing: Signing | None = None
    tuning: TunedEngine | None = None
    selftests: dict[str, Blob] = field(default_factory=dict)
    results: PairedResults = RESULTS
    gate_set: bytes = b"gate set"
    metric_code: str | None = digest_bytes(b"accuracy")

    def policy_of(self, region: str) -> RegionPolicy:
        """The policy, as a region's own."""
        return self.policy.model_copy(update={"region": region})

    def exported(self, graph: bytes = b"graph") -> ExportedModel:
        return ExportedModel(
            name=self.model,
            source=digest_bytes(b"weights"),
            graph=self.store.put_bytes(graph),
            reference=self.store.put_bytes(graph),
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
            model=self.model,
            region=region,
            target=Target(name=target, backend=backend),
            precision=Precision.FP32,
            graph=self.store.put_bytes(graph),
            inputs=self.inputs,
            outputs=self.outputs,
            profile=BatchProfile(min=1, opt=2, max=4),
            performance=Performance.LATENCY,
            policy=self.policy_of(region).digest(),
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
        """The engine as the gate approves it under `policy_of` its region."""
        attestation, evaluation = self.attestation(artifact), self.evaluation(artifact, speedup)
        policy = self.policy_of(artifact.request.region)
        decision = decide_gate(artifact, policy, attestation, evaluation, self.results)
        return ApprovedEngine(
            engine=artifact,
            attestation=attestation,
            evaluation=evaluation,
            decision=decision,
            tuning=self.tuning,
        )

    def evaluation(self, artifact: EngineArtifact, speedup: float = 1.5) -> EvaluationResult:
        return EvaluationResult(
            build_key=artifact.request.build_key,
            dataset=digest_bytes(self.gate_set),
            metric="accuracy",
            metric_code=self.metric_code,
            samples=len(self.results),
            reference_score=float(self.results.reference.mean()),
            engine_score=float(self.results.engine.mean()),
            results=self.store.put_bytes(self.results.to_csv()),
            timing=Timing(
                batch=1,
                rounds=3,
                p50_ms=1.0,
                p99_ms=1.2,
                p99_upper_ms=None,
                baseline_p50_ms=1.5,
                baseline_p99_ms=1.8,
                throughput=1000.0,
                speedup=speedup,
            ),
            selftest=self.selftests.get(artifact.request.target.name),
        )

    def attestation(self, artifact: EngineArtifact) -> Attestation:
        """Three nodes in two kernels, all in FP32."""
        names = ("stem/Conv", "stem/Relu", "head/Gemm")
        layers = Layers(
            build_key=artifact.request.build_key,
            source="a test",
            settings={"INFERENCE_PRECISION_HINT": "f32"},
            graph=tuple(GraphNode(name=name, kind=name.partition("/")[2], precision=Precision.FP32) for name in names),
            engine=(
                LayerReport(name="Reorder 1", kind="Reorder", precision=None, told="f32, reorder_f32"),
                LayerReport(
                    name="stem/Conv",
                    kind="Convolution",
                    precision=Execution.FP32,
                    told="f32, brgconv_avx512_f32",
                    nodes=names[:2],
                ),
                LayerReport(
                    name="head/Gemm",
                    kind="FullyConnected",
                    precision=Execution.FP32,
                    told="f32, gemm_f32",
                    nodes=names[2:],
                ),
            ),
        )
        return Attestation(
            graph=layers.graph_counts(),
            executed=layers.executed(),
            source=layers.source,
            strength="kernels",
            layers=self.store.put_bytes(canonical_json(layers)),
        )

    def outcome(self, artifact: EngineArtifact, decision: Decision = Decision.APPROVED) -> RegionOutcome:
        """What a run kept of an engine: approved, judged otherwise, or refused before one was there."""
        request, approved = artifact.request, self.approved(artifact)
        refused = decision is Decision.REFUSED
        return RegionOutcome(
            model=request.model,
            region=request.region,
            title="Europe",
            target=request.target,
            precision=request.precision,
            policy=request.policy,
            build_key=request.build_key,
            key_parts={},
            decision=decision,
            reasons=("a test",),
            seconds=1.0,
            engine=None if refused else approved.engine,
            attestation=None if refused else approved.attestation,
            evaluation=None if refused else approved.evaluation,
            gate=None if refused else approved.decision.model_copy(update={"outcome": decision}),
        )

    def write(self, folder: Path, *artifacts: EngineArtifact, region: str = "eu") -> BundleManifest:
        return write_bundle(
            folder,
            self.exported(),
            region,
            "Europe",
            self.policy_of(region).canonical(),
            [self.approved(artifact) for artifact in artifacts or (self.artifact(region),)],
            self.store,
            self.signing or Signing(Keyring.of_environment().signer()),
        )


@pytest.fixture(scope="session", autouse=True)
def keyring(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyring]:
    """A key and a trust file for all tests, so that none touches the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("configuration")))
        patch.delenv("REGIOLECT_SIGNING_KEY", raising=False)
        patch.delenv("REGIOLECT_TRUST", raising=False)
        found = Keyring.of_environment()
        found.create("tests")
        yield found


@pytest.fixture(scope="session")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Databases:
    return databases_of(tmp_path_factory)


@pytest.fixture(scope="module")
def registry_home(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty `mlflow.db`, which the tests of a module share."""
    home: Path = tmp_path_factory.mktemp("registry")
    databases.put_mlflow(home)
    return home


@pytest.fixture
def bundles(tmp_path: Path) -> Bundles:
    return Bundles(LocalStore(tmp_path / "store"))


@pytest.fixture
def one_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Call it to leave this test's thread one processor: by its `affinity`, or by the `quota` of a cgroup."""
    before = os.sched_getaffinity(0)

    def bind(bound: str) -> None:
        if bound == "affinity":
            os.sched_setaffinity(0, {min(before)})
        else:
            (tmp_path / "cpu.max").write_text("100000 100000\n")
            monkeypatch.setattr("regiolect.host.processors.quota_files", lambda: (tmp_path / "cpu.max",))

    yield bind
    os.sched_setaffinity(0, before)


class _SharingServers(LoadFileScheduling):
    """A file to a process; all files of a folder that is a package to the same one, since they share its servers."""

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        folder = Path(file).parent
        return str(folder) if (self.config.rootpath / folder / "__init__.py").is_file() else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    return _SharingServers(config, log) if config.getoption("dist") == "loadfile" else None
