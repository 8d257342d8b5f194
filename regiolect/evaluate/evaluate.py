"""Evaluate one built engine: score it against the reference on the gate set, and time it against FP32."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import (
    BuildRequest,
    EngineArtifact,
    EvaluationResult,
    ExportedModel,
    Performance,
    Precision,
    SampleSet,
    Split,
    Timing,
    TunedEngine,
)
from regiolect.data import Samples, model_inputs, read_samples
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine, excerpt
from regiolect.errors import (
    ForeignSamples,
    InvalidModelSpec,
    InvalidResults,
    InvalidSamples,
    NonFiniteOutputs,
    RegiolectError,
)
from regiolect.evaluate.probes import keep_probes
from regiolect.evaluate.reference import reference_outputs
from regiolect.evaluate.results import PairedResults, require_own_scores
from regiolect.evaluate.timing import MIN_ROUNDS, measure, rounds_for
from regiolect.host.lock import sharing_machine, whole_machine
from regiolect.integrity import digest_of
from regiolect.model import Metric, ModelSpec
from regiolect.policy import RegionPolicy
from regiolect.storage import Store

Arrays = Mapping[str, NDArray[Any]]

# A latency is of one batch alone; a throughput needs enough of them to keep every stream busy.
_BATCHES_AT_ONCE = {Performance.LATENCY: 1, Performance.THROUGHPUT: 8}
_AT_ONCE = 256  # samples whose outputs are held: those of a line of text may have a quarter of a million values
_NAMED = 5  # samples at most that an error names


def evaluate_engine(
    spec: ModelSpec,
    model: ExportedModel,
    artifact: EngineArtifact,
    gate: SampleSet,
    policy: RegionPolicy,
    store: Store,
    tuning: TunedEngine | None = None,
) -> EvaluationResult:
    """Reference and engine on the same gate samples, then engine and FP32 baseline interleaved on this machine. Of an
    INT8 engine, what it takes to ask it again wherever it is loaded is kept as well.

    The baseline is the FP32 graph through the same backend, so that the speed-up is precision's alone. Where the policy
    limits the latency, single batches are timed, and as often as a bound of the 99th percentile takes.

    Args:
        spec: gives the metric function.
        model: the exported model that the engine was built from.
        artifact: the engine; it must run here.
        gate: the region's gate set.
        policy: the region's policy: metric, confidence and limit on latency.
        tuning: what the engine was tuned to: it answers and is timed at the point that was chosen, and FP32 with it.

    Raises:
        InvalidModelSpec: the model does not offer the policy's metric.
        ForeignSamples: the set is no gate set, or it or one of its samples is of another region than the engine.
        InvalidSamples: the set cannot be read, holds another number of samples than its record says, or lacks what the
            policy slices by.
        NonFiniteOutputs: an output of the reference or of the engine is NaN or infinite.
        InvalidResults: the metric returns anything but one finite score per sample.
        ReferenceFailed: the reference cannot be run.
        EngineError: the engine cannot be loaded or run.
    """
    metric = policy.accuracy.metric
    score = metric_of(spec, policy)
    with sharing_machine():
        samples = own_samples(gate, Split.GATE, artifact.request.region, store)
        inputs = model_inputs(samples, model.preprocessing)
        engine = _loaded(artifact, store, tuning)
        rows = paired_results(
            samples,
            scores_of("reference", score, partial(reference_outputs, model, store=store), inputs, samples),
            scores_of("engine", score, engine.run_many, inputs, samples),
            columns_of(policy),
        )
        selftest = keep_probes(engine, model, inputs, store)
        baseline = _loaded(fp32_baseline(model, artifact.request, store), store, tuning)
    return EvaluationResult(
        build_key=artifact.request.build_key,
        dataset=gate.digest,
        metric=metric,
        samples=len(samples),
        reference_score=float(rows.reference.mean()),
        engine_score=float(rows.engine.mean()),
        results=store.put_bytes(rows.to_csv()),
        metric_code=spec.metric_source(metric).digest,
        timing=time_against(engine, baseline, inputs, policy, tuning),
        selftest=selftest,
    )


def timed_again(
    model: ExportedModel,
    artifact: EngineArtifact,
    gate: SampleSet,
    policy: RegionPolicy,
    store: Store,
    evaluation: EvaluationResult,
    tuning: TunedEngine,
) -> EvaluationResult:
    """An engine's evaluation with its times taken anew at the point that it was tuned to. Its answers stay as judged:
    no setting that may be tuned bears on precision.

    Raises:
        ForeignSamples, InvalidSamples: the gate set is not the one that was judged by, or cannot be read.
        EngineError: the engine cannot be loaded or run.
    """
    if gate.digest != evaluation.dataset:
        raise ForeignSamples(
            expected=f"the gate set of region {gate.region!r} that the engine was judged by, {evaluation.dataset}",
            found=gate.digest,
            remedy="the region's data changed: release it again",
        )
    with sharing_machine():
        samples = own_samples(gate, Split.GATE, artifact.request.region, store)
        inputs = model_inputs(samples, model.preprocessing)
        engine = _loaded(artifact, store, tuning)
        baseline = _loaded(fp32_baseline(model, artifact.request, store), store, tuning)
    return evaluation.model_copy(update={"timing": time_against(engine, baseline, inputs, policy, tuning)})


def _loaded(artifact: EngineArtifact, store: Store, tuning: TunedEngine | None) -> Engine:
    configuration = tuning.point.configuration if tuning is not None else AS_IT_COMES
    return backend(artifact.request.target.backend).load(artifact, store, configuration)


def metric_of(spec: ModelSpec, policy: RegionPolicy) -> Metric:
    """The metric function that a region's policy names.

    Raises:
        InvalidModelSpec: the model does not offer it.
    """
    metric = policy.accuracy.metric
    if metric not in spec.metrics:
        raise InvalidModelSpec(
            expected=f"metric {metric!r}, which the policy of {policy.region!r} names, in {spec.name!r}",
            found=f"metrics {', '.join(sorted(spec.metrics))}",
            remedy="add it to `metrics` of the ModelSpec, or name one of those in the policy",
        )
    return spec.metrics[metric]


def own_samples(kept: SampleSet, split: Split, region: str, store: Store) -> Samples:
    """The samples of a region's own set.

    Raises:
        ForeignSamples: it is another set than `split`, or it or one of its samples is of another region.
        InvalidSamples: it cannot be read, or holds another number of samples than its record says.
    """
    if kept.split is not split or kept.region != region:
        raise ForeignSamples(
            expected=f"the {split} set of region {region!r}, whose engine is evaluated",
            found=f"the {kept.split} set of region {kept.region!r}",
            remedy=f"evaluate on the region's own {split} set: regiolect run MODEL --regions {region}",
        )
    samples = read_samples(store.path_of(kept.blob))
    foreign = np.flatnonzero(samples.regions != region)
    if foreign.size:
        first, tag = str(samples.ids[foreign[0]]), str(samples.regions[foreign[0]])
        raise ForeignSamples(
            expected=f"only samples of region {region!r} in its {split} set",
            found=f"{foreign.size} of another, the first {first!r} of {tag!r}",
            remedy=f"remove foreign samples from the region's data, then regiolect run MODEL --regions {region}",
        )
    if len(samples) != kept.samples:
        raise InvalidSamples(
            expected=f"{kept.samples} samples in the {split} set of region {region!r}",
            found=f"{len(samples)}",
            remedy=f"prepare the region's data anew: regiolect run MODEL --regions {region} --force",
        )
    return samples


def scores_of(
    whose: str, score: Metric, run: Callable[[Arrays], Arrays], inputs: Arrays, samples: Samples
) -> NDArray[Any]:
    """A metric's scores, one a sample; outputs are computed, scored and forgotten a few samples at a time.

    What is not finite is refused before a metric can take it for an answer.

    Args:
        whose: whom an error names, "reference" or "engine".
        run: outputs by name for preprocessed inputs.

    Raises:
        NonFiniteOutputs: an output is NaN or infinite.
        InvalidResults: the metric raises, or does not return one score a sample, or one figure of all samples in its
            place.
    """
    parts: list[NDArray[Any]] = []
    for start in range(0, len(samples), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        part = samples.take(rows)
        outputs = run({name: array[rows] for name, array in inputs.items()})
        _require_finite(whose, outputs, part)
        parts.append(_one_each(whose, _scored(whose, score, outputs, part), part))
    require_own_scores(whose, parts)
    return np.concatenate(parts)


def _scored(whose: str, score: Metric, outputs: Arrays, samples: Samples) -> NDArray[Any]:
    try:
        return score(outputs, samples.targets)
    except RegiolectError:
        raise
    # It is the user's own code.
    except Exception as error:
        shapes = ", ".join(f"{name} {output.shape}" for name, output in outputs.items())
        raise InvalidResults(
            expected=f"a metric that scores the outputs of the {whose}: {shapes}",
            found=f"{type(error).__name__}: {excerpt(error)}",
            remedy="let the metric of the ModelSpec read these outputs, by these names",
        ) from error


def _one_each(whose: str, scores: NDArray[Any], samples: Samples) -> NDArray[Any]:
    expected = f"one score of the {whose} for each of {len(samples)} samples"
    remedy = "let the metric return one score per sample, in the samples' order"
    if isinstance(scores, np.ma.MaskedArray):
        masked = np.count_nonzero(scores.mask)
        raise InvalidResults(expected, f"a masked array, {masked} of {scores.size} masked", remedy)
    try:
        array = np.asarray(scores)
    except ValueError as error:
        raise InvalidResults(expected, " ".join(str(error).split()), remedy) from error
    if array.shape != (len(samples),):
        raise InvalidResults(expected, f"shape {array.shape}", remedy)
    return array


def columns_of(policy: RegionPolicy) -> tuple[str, ...]:
    """What a policy slices by."""
    return policy.accuracy.slices.by if policy.accuracy.slices else ()


def paired_results(
    samples: Samples, reference: NDArray[Any], engine: NDArray[Any], columns: Sequence[str] = ()
) -> PairedResults:
    """Scores of both on the same samples, with the columns to slice by.

    Raises:
        InvalidResults: the metric returned anything but one finite score per sample.
        InvalidSamples: the samples lack a column.
    """
    return PairedResults(
        sample_ids=tuple(str(sample) for sample in samples.ids),
        reference=reference,
        engine=engine,
        columns={name: samples.column(name) for name in columns},
    )


def _require_finite(whose: str, outputs: Arrays, samples: Samples) -> None:
    for name, output in outputs.items():
        if output.dtype.kind not in "fc":
            continue
        broken = np.flatnonzero(~np.isfinite(output).reshape(len(samples), -1).all(axis=1))
        if broken.size:
            named = ", ".join(repr(str(sample)) for sample in samples.ids[broken[:_NAMED]])
            more = f" and {broken.size - _NAMED:,} more" if broken.size > _NAMED else ""
            raise NonFiniteOutputs(
                expected=f"finite values in output {name!r} of the {whose}",
                found=f"NaN or infinity for {named}{more}, {broken.size:,} of {len(samples):,} samples",
                remedy="look at those samples and at the model's weights"
                if whose == "reference"
                else "the graph may overflow in this precision: state a wider one in the policy, or mend the model",
            )


def time_against(
    engine: Engine, baseline: Engine, inputs: Arrays, policy: RegionPolicy, tuning: TunedEngine | None = None
) -> Timing:
    """Times of an engine and of another one of the same model, interleaved on this machine, which both have alone.

    Args:
        engine: tells the profile and what it is tuned for.
        baseline: what it is compared with.
        inputs: preprocessed samples, as many as there are.
        policy: where it limits the latency, single batches are timed, as often as a bound of p99 takes; where it states
            a speed, more rounds are, for a tighter bound. Both limits are on batches of the profile's optimum, which
            is then timed.
        tuning: what both are loaded with; where the policy limits neither, batches are of its point's size.
    """
    request, confidence = engine.artifact.request, policy.accuracy.confidence
    limited = policy.latency is not None
    gated = limited or policy.speed is not None
    batch = request.profile.opt if tuning is None or gated else tuning.point.batch
    # A limit on latency is on one batch, also where the engine is tuned for throughput.
    batches = 1 if limited else _BATCHES_AT_ONCE[request.performance]
    if batches > 1:
        # No stream waits for the others' last batches.
        batches = math.ceil(batches / engine.at_once) * engine.at_once
    # Around the set again when it is smaller than a round.
    index = np.arange(batch * batches) % len(next(iter(inputs.values())))
    a_round = {name: array[index] for name, array in inputs.items()}
    with whole_machine():
        return measure(
            lambda: engine.run_many(a_round, batch),
            lambda: baseline.run_many(a_round, batch),
            batch,
            batches,
            confidence=confidence,
            # More rounds let bounds look past single stalls of the machine.
            seconds=5.0 if gated else 1.0,
            most=2000 if gated else 400,
            least=max(rounds_for(0.99 if limited else 0.5, confidence), MIN_ROUNDS),
        )


def fp32_baseline(model: ExportedModel, request: BuildRequest, store: Store) -> EngineArtifact:
    """The model's FP32 graph, built as `request` says in everything but the precision, and what that does not allow.

    Raises:
        EngineError: the backend refuses the graph.
    """
    its = backend(request.target.backend)
    wide = request.model_copy(
        update={
            "target": its.baseline_of(request.target),
            "precision": Precision.FP32,
            # As it was exported, even if values in it pass through 8 bits: it is timed and never shipped.
            "graph": model.reference,
            "build_key": digest_of({"baseline_of": request.build_key}),
            "tf32": False,
        }
    )
    return its.build(wide, store, calibration=None)
