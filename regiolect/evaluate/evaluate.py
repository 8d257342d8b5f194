"""Evaluate one built engine: score it against the reference on the gate set, and time it against FP32."""

from __future__ import annotations

import numpy as np

from regiolect.contracts import (
    BuildRequest,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    Performance,
    Precision,
    SampleSet,
)
from regiolect.data import model_inputs, read_samples
from regiolect.engines.catalog import backend
from regiolect.errors import InvalidModelSpec
from regiolect.evaluate.reference import reference_outputs
from regiolect.evaluate.results import PairedResults
from regiolect.evaluate.timing import measure
from regiolect.graphs import typed_graph
from regiolect.integrity import digest_of
from regiolect.machine import sharing_machine, whole_machine
from regiolect.model import ModelSpec
from regiolect.precision import FLOAT_RECIPES
from regiolect.storage import Store

# A latency is of one batch alone; a throughput needs enough of them to keep every stream busy.
_BATCHES_AT_ONCE = {Performance.LATENCY: 1, Performance.THROUGHPUT: 8}


def evaluate_engine(
    spec: ModelSpec, model: ExportedModel, artifact: EngineArtifact, gate: SampleSet, metric: str, store: Store
) -> EvaluationResult:
    """Reference and engine on the same gate samples, then engine and FP32 baseline interleaved on this machine.

    The baseline is the FP32 graph through the same backend, so that the speed-up is precision's alone.

    Args:
        spec: gives the metric function.
        artifact: the engine; it must run here.
        gate: the region's gate set.
        metric: the policy's metric, by name.

    Raises:
        InvalidModelSpec: the model does not offer that metric.
        EngineError: the engine cannot be loaded or run.
    """
    if metric not in spec.metrics:
        raise InvalidModelSpec(
            expected=f"metric {metric!r}, which the policy of {artifact.request.region!r} names, in {spec.name!r}",
            found=f"metrics {', '.join(sorted(spec.metrics))}",
            remedy="add it to `metrics` of the ModelSpec, or name one of those in the policy",
        )
    with sharing_machine():
        samples = read_samples(store.path_of(gate.blob))
        inputs = model_inputs(samples, model.preprocessing)
        engine = backend(artifact.request.target.backend).load(artifact, store)
        score = spec.metrics[metric]
        rows = PairedResults(
            sample_ids=tuple(str(sample) for sample in samples.ids),
            reference=score(reference_outputs(model, inputs, store), samples.targets),
            engine=score(engine.run_many(inputs), samples.targets),
        )
        baseline_artifact = _baseline(model, artifact.request, store)
        baseline = backend(artifact.request.target.backend).load(baseline_artifact, store)
    batch = artifact.request.profile.opt
    batches = _BATCHES_AT_ONCE[artifact.request.performance]
    # Around the set again when it is smaller than a round.
    index = np.arange(batch * batches) % len(samples)
    a_round = {name: array[index] for name, array in inputs.items()}
    with whole_machine():
        timing = measure(
            lambda: engine.run_many(a_round, batch), lambda: baseline.run_many(a_round, batch), batch, batches
        )
    return EvaluationResult(
        build_key=artifact.request.build_key,
        dataset=gate.digest,
        metric=metric,
        samples=len(samples),
        reference_score=float(rows.reference.mean()),
        engine_score=float(rows.engine.mean()),
        results=store.put_bytes(rows.to_csv()),
        timing=timing,
    )


def _baseline(model: ExportedModel, request: BuildRequest, store: Store) -> EngineArtifact:
    graph = typed_graph(model, request.region, Precision.FP32, FLOAT_RECIPES[Precision.FP32], None, store)
    wide = request.model_copy(
        update={
            "precision": Precision.FP32,
            "graph": graph,
            "build_key": digest_of({"baseline_of": request.build_key}),
        }
    )
    return backend(request.target.backend).build(wide, store, calibration=None)
