"""A region's selection set: what graphs are chosen by, so that the gate set stays unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

from numpy.typing import NDArray

from regiolect.contracts import (
    Comparison,
    EngineArtifact,
    ExportedModel,
    GraphChoice,
    Precision,
    RepairStep,
    Split,
    ValidatedCalibration,
)
from regiolect.data import Samples, model_inputs
from regiolect.engines.catalog import backend
from regiolect.evaluate.evaluate import columns_of, metric_of, own_samples, paired_results, scores_of, time_against
from regiolect.evaluate.reference import reference_outputs
from regiolect.gate.forecast import Forecast, forecast
from regiolect.host.lock import sharing_machine
from regiolect.model import Metric, ModelSpec
from regiolect.policy import RegionPolicy
from regiolect.storage import Store

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Selection:
    """The selection set with the reference's scores on it."""

    samples: Samples
    inputs: Arrays
    reference: NDArray[Any]
    score: Metric
    policy: RegionPolicy
    gate_samples: int
    store: Store

    @classmethod
    def read(
        cls, spec: ModelSpec, model: ExportedModel, data: ValidatedCalibration, policy: RegionPolicy, store: Store
    ) -> Selection:
        """Read the set and run the FP32 reference on it.

        Raises:
            InvalidModelSpec: the model does not offer the policy's metric.
            ForeignSamples, InvalidSamples: as `own_samples`.
            ReferenceFailed: the reference cannot be run.
        """
        score = metric_of(spec, policy)
        run = partial(reference_outputs, model, store=store)
        with sharing_machine():
            samples = own_samples(data.dataset.selection, Split.SELECTION, data.region, store)
            inputs = model_inputs(samples, model.preprocessing)
            reference = scores_of("reference", score, run, inputs, samples)
        return cls(samples, inputs, reference, score, policy, data.dataset.gate.samples, store)

    @property
    def count(self) -> int:
        """Samples in the set."""
        return len(self.samples)

    @cached_property
    def reachable(self) -> Forecast:
        """What an engine that answers as the reference would show here: no graph can be relied on to show less.

        Raises:
            InvalidResults: as an evaluation.
        """
        rows = paired_results(self.samples, self.reference, self.reference, columns_of(self.policy))
        return forecast(self.policy.accuracy, rows, self.gate_samples)

    def step(self, choice: GraphChoice, engine: EngineArtifact) -> RepairStep:
        """What an engine loses here, and what that promises for the gate.

        Raises:
            InvalidSamples, InvalidResults, EngineError: as an evaluation.
        """
        with sharing_machine():
            loaded = backend(engine.request.target.backend).load(engine, self.store)
            scores = scores_of("engine", self.score, loaded.run_many, self.inputs, self.samples)
            rows = paired_results(self.samples, self.reference, scores, columns_of(self.policy))
        expected = forecast(self.policy.accuracy, rows, self.gate_samples)
        return RepairStep(
            choice=choice,
            loss=expected.loss,
            loss_upper=expected.upper,
            accepted=expected.upper <= self.policy.accuracy.limit and expected.slice is None,
            slice=expected.slice,
        )

    def compare(self, engine: EngineArtifact, wider: EngineArtifact) -> Comparison:
        """How much faster an engine is here than one of a wider precision, interleaved."""
        chosen, other = (backend(each.request.target.backend).load(each, self.store) for each in (engine, wider))
        timing = time_against(chosen, other, self.inputs, self.policy)
        return Comparison(
            precision=Precision(wider.request.precision),
            speedup=timing.speedup,
            speedup_lower=timing.speedup_lower,
            required=self.policy.repair.least_speedup,
        )
