"""The calibration study: calibrated on each region, tested on each, over draws.

An engine does not depend on where it is tested, so there is one engine per donor and draw. Each is sealed to its donor
like any other, and built and kept in a temporary folder; what no release does, and only a study may, is to show it the
samples of other regions. Nothing is registered, no region's store is opened, and no region's gate set is read.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from regiolect import __version__, progress
from regiolect.contracts import (
    DEFAULT_METHOD,
    BatchProfile,
    BuildRequest,
    CalibrationMethod,
    DimensionProfile,
    Execution,
    ExportedModel,
    Performance,
    Precision,
    Target,
)
from regiolect.data import Samples, model_inputs
from regiolect.engines.base import Backend
from regiolect.engines.catalog import backend as backend_named
from regiolect.engines.engine import Engine
from regiolect.engines.listed import DEFAULT, anywhere
from regiolect.errors import InvalidModelSpec, InvalidSetting, NotRunnableHere, StorageError, UnknownRegion
from regiolect.host.lock import sharing_machine
from regiolect.identity.toolchain import toolchain
from regiolect.integrity import digest_of
from regiolect.model import Metric, ModelSpec
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.precision import traits
from regiolect.storage import LocalStore, Store
from regiolect.study.data import Draws, RegionSets, as_calibration_set, digest_of_samples, read_sets
from regiolect.study.estimates import Floats, cell_of, saving_of
from regiolect.study.result import StudyRegion, StudyResult

CONFIDENCE = 0.95
PRECISION = Precision.INT8
# Samples at a time: any batch may be asked of a study's engines, and a large one is quick.
_PROFILE = BatchProfile(min=1, opt=64, max=64)


def run_study(
    spec: ModelSpec,
    policies: PolicyBook,
    *,
    seeds: int,
    regions: Sequence[str] | None = None,
    backend: str = DEFAULT,
    method: CalibrationMethod = DEFAULT_METHOD,
    samples: int | None = None,
    metric: str | None = None,
) -> StudyResult:
    """Calibrate the model on every region, once a seed, and test each INT8 engine on every region's selection set.

    A region's policy gives the metric and the least size of its selection set; whether it allows INT8 does not matter
    here, for nothing of a study is ever served.

    Args:
        seeds: draws of calibration samples per region, at least 2.
        regions: at least two; default: every region with both a policy and data of the model's.
        backend: what builds and runs the engines; it must run here.
        method: how thresholds are chosen.
        samples: calibration samples in a draw; default: half of the smallest set, at least 64.
        metric: a metric of the model's; default: the one that the policies of all regions name.

    Raises:
        UnknownRegion: a region has no policy or no data, or there are fewer than two.
        InvalidSetting: fewer than 2 seeds, a draw of no samples, or policies that name different metrics.
        InvalidModelSpec: the model does not offer the metric.
        TooFewSamples: a calibration set is no larger than a draw, or a selection set too small.
        DataError, ModelError, CalibrationError: a set, the model, or its activations cannot be used.
        UnknownBackend, EngineError: the backend is unknown or missing, does not run here, or refuses the graph.
        EvaluationError: the reference cannot be run, or a score is no number.
        StorageError: there is no room for the study's temporary files.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    chosen = backend_named(backend)
    _require_runnable(chosen)
    read = _policies(spec, policies, regions)
    metric = metric or _agreed_metric(read)
    score = _metric(spec, metric)
    sets = tuple(read_sets(spec.region_data(policy.region), policy) for policy in read)
    draws = Draws.of(seeds, samples, sets)
    with _temporary_store() as store:
        bench = _Bench(spec, _exported(spec, store, sets), store, chosen, method, score, _shapes(spec, sets))
        size = f"{spec.name}: {len(sets)} regions, {seeds} draws of {draws.size} calibration samples each"
        progress.note(f"{size}, so {len(sets) * seeds} engines, each tested on {len(sets)} selection sets")
        reference = {each.region: bench.reference(each) for each in sets}
        scores, executed = _scores(bench, sets, draws, reference)
    names = [each.region for each in sets]
    pairs = len(names) * (len(names) - 1)
    return StudyResult(
        model=spec.name,
        note=spec.note,
        graph=bench.model.graph.digest,
        metric=metric,
        method=method,
        precision=PRECISION,
        backend=chosen.name,
        backend_version=chosen.version(),
        executed=executed,
        seeds=draws.seeds,
        drawn=draws.size,
        confidence=CONFIDENCE,
        regions=tuple(_region(each, reference[each.region]) for each in sets),
        cells=tuple(
            cell_of(donor, tested, reference[tested], scores[donor][tested], CONFIDENCE)
            for donor in names
            for tested in names
        ),
        savings=tuple(
            saving_of(donor, tested, scores[tested][tested], scores[donor][tested], CONFIDENCE, pairs)
            for donor in names
            for tested in names
            if donor != tested
        ),
        machine=dict(chosen.fingerprint()),
        toolchain=toolchain(),
        regiolect=__version__,
        started=started,
        seconds=time.perf_counter() - clock,
    )


def _shapes(spec: ModelSpec, sets: Sequence[RegionSets]) -> dict[str, DimensionProfile]:
    """Profiles that take every region's samples as they are: each engine is tested on all of them."""
    extents: dict[str, list[int]] = {}
    for tensor in spec.inputs:
        for axis, name in enumerate(tensor.shape):
            if axis and isinstance(name, str):
                arrays = [part.inputs[tensor.name] for each in sets for part in (each.calibration, each.selection)]
                extents.setdefault(name, []).extend(array.shape[axis] for array in arrays)
    return {
        name: DimensionProfile(min=min(sizes), opt=sorted(sizes)[len(sizes) // 2], max=max(sizes))
        for name, sizes in extents.items()
    }


@dataclass(frozen=True)
class _Bench:
    """What is the same for every engine of a study."""

    spec: ModelSpec
    model: ExportedModel
    store: LocalStore
    backend: Backend
    method: CalibrationMethod
    score: Metric
    shapes: Mapping[str, DimensionProfile]

    def reference(self, sets: RegionSets) -> Floats:
        """FP32's score of each of a region's test samples, (samples,)."""
        from regiolect.evaluate.evaluate import paired_results, scores_of
        from regiolect.evaluate.reference import reference_outputs

        inputs = model_inputs(sets.selection, self.model.preprocessing)
        run = partial(reference_outputs, self.model, store=self.store)
        with sharing_machine():
            scores = scores_of("reference", self.score, run, inputs, sets.selection)
        return paired_results(sets.selection, scores, scores).reference

    def engine(self, sets: RegionSets, drawn: Samples, seed: int, store: Store) -> Engine:
        """An engine that is calibrated on a draw, kept in `store`, which holds the model's graph."""
        from regiolect.calibrate import observe, table_of
        from regiolect.graphs import typed_graph

        recipe = self.backend.recipe_here(PRECISION)
        data, ranges = as_calibration_set(drawn, sets, store), traits(recipe.remainder).observed != "nothing"
        table = table_of(observe(self.model, data, store, ranges=ranges), self.method)
        graph = typed_graph(self.model, sets.region, PRECISION, recipe, table, store)
        # Neither the digest of a policy nor a build key that any plan could ask for: no release takes it for its own.
        study = {"study": "calibration", "model": self.model.graph.digest, "table": digest_of(table)}
        request = BuildRequest(
            model=self.spec.name,
            region=sets.region,
            target=Target(name="study", backend=self.backend.name),
            precision=PRECISION,
            graph=graph,
            inputs=self.model.inputs,
            outputs=self.model.outputs,
            profile=_PROFILE,
            shapes=self.shapes,
            performance=Performance.THROUGHPUT,
            policy=digest_of(study),
            build_key=digest_of({**study, "region": sets.region, "seed": seed}),
        )
        return self.backend.load(self.backend.build(request, store, calibration=digest_of(table)), store)

    def test(self, engine: Engine, sets: RegionSets) -> Floats:
        """The engine's score of each of a region's test samples, (samples,)."""
        from regiolect.evaluate.evaluate import paired_results, scores_of

        inputs = model_inputs(sets.selection, self.model.preprocessing)
        scores = scores_of("engine", self.score, engine.run_many, inputs, sets.selection)
        return paired_results(sets.selection, scores, scores).engine


def _scores(
    bench: _Bench, sets: Sequence[RegionSets], draws: Draws, reference: Mapping[str, Floats]
) -> tuple[dict[str, dict[str, Floats]], tuple[str, ...]]:
    """Scores (draws, samples) by donor and tested region, and what executed in the engines, each answer once."""
    scores: dict[str, dict[str, Floats]] = {}
    executed: dict[str, None] = {}
    for donor in sets:
        clock = time.perf_counter()
        rows: dict[str, list[NDArray[np.float64]]] = {each.region: [] for each in sets}
        for seed in draws.seeds:
            # A store for each engine, so that the disk holds one at a time.
            with sharing_machine(), _temporary_store() as store:
                store.put_file(bench.store.path_of(bench.model.graph))
                engine = bench.engine(donor, draws.draw(donor, seed), seed, store)
                executed[_summary(engine.executed())] = None
                for tested in sets:
                    rows[tested.region].append(bench.test(engine, tested))
        scores[donor.region] = {region: np.stack(each) for region, each in rows.items()}
        progress.note(_line(donor.region, scores[donor.region], reference, time.perf_counter() - clock))
    return scores, tuple(executed)


def _line(donor: str, scores: Mapping[str, Floats], reference: Mapping[str, Floats], seconds: float) -> str:
    losses = {region: 100.0 * float((reference[region] - each).mean()) for region, each in scores.items()}
    foreign = [region for region in losses if region != donor]
    worst, best = max(foreign, key=losses.__getitem__), min(foreign, key=losses.__getitem__)
    span = f"{losses[best]:+z.2f} ({best})" + (f" to {losses[worst]:+z.2f} ({worst})" if best != worst else "")
    return f"{donor:<4} calibrated: loss {losses[donor]:+z.2f} pt at home, elsewhere {span}; {seconds:.1f} s"


def _summary(executed: Mapping[Execution, int]) -> str:
    return " + ".join(f"{kind} {executed[kind]}" for kind in reversed(Execution) if kind in executed)


def _region(sets: RegionSets, reference: Floats) -> StudyRegion:
    return StudyRegion(
        region=sets.region,
        title=sets.policy.title,
        calibration=len(sets.calibration),
        calibration_digest=digest_of_samples(sets.calibration),
        selection=len(sets.selection),
        selection_digest=digest_of_samples(sets.selection),
        reference_score=float(reference.mean()),
    )


def _policies(spec: ModelSpec, policies: PolicyBook, regions: Sequence[str] | None) -> tuple[RegionPolicy, ...]:
    named = tuple(dict.fromkeys(regions)) if regions else tuple(r for r in policies.regions() if r in spec.data)
    read = tuple(policies.load(region) for region in named)
    for region in named:
        spec.region_data(region)
    if len(named) < 2:
        usable = [region for region in policies.regions() if region in spec.data]
        raise UnknownRegion(
            expected=f"at least two regions with a policy and with data of {spec.name!r}, to compare them",
            found=", ".join(named) or f"policies: {', '.join(policies.regions())}; data: {', '.join(spec.data) or '-'}",
            remedy=f"--regions {','.join(usable)}" if len(usable) > 1 else "add data or a policy of another region",
        )
    return read


def _agreed_metric(policies: Sequence[RegionPolicy]) -> str:
    by_metric: dict[str, list[str]] = {}
    for policy in policies:
        by_metric.setdefault(policy.accuracy.metric, []).append(policy.region)
    if len(by_metric) > 1:
        raise InvalidSetting(
            expected="policies that name the same metric, for losses can only be compared in one",
            found="; ".join(f"{metric} in {', '.join(names)}" for metric, names in by_metric.items()),
            remedy=f"choose one, e.g. --metric {next(iter(by_metric))}, or leave regions out with --regions",
        )
    return next(iter(by_metric))


def _metric(spec: ModelSpec, metric: str) -> Metric:
    if metric not in spec.metrics:
        raise InvalidModelSpec(
            expected=f"metric {metric!r} in {spec.name!r}",
            found=f"metrics {', '.join(sorted(spec.metrics))}",
            remedy=f"--metric {min(spec.metrics)}, or add it to `metrics` of the ModelSpec",
        )
    return spec.metrics[metric]


def _require_runnable(chosen: Backend) -> None:
    chosen.require()
    obstacle = chosen.obstacle()
    if obstacle is not None:
        raise NotRunnableHere(
            expected=f"a machine that runs engines of {chosen.name}: a study tests what it builds",
            found=obstacle.found,
            remedy=obstacle.remedy
            if obstacle.kind == "software"
            else f"{' or '.join(f'--backend {name}' for name in anywhere())}, or run the study where such engines run",
        )


def _exported(spec: ModelSpec, store: Store, sets: Sequence[RegionSets]) -> ExportedModel:
    from regiolect.export import export_model

    with sharing_machine():
        return export_model(spec, store, sets[0].calibration)


@contextmanager
def _temporary_store() -> Iterator[LocalStore]:
    """A store that is gone when the block ends.

    Raises:
        StorageError: there is no place for temporary files.
    """
    try:
        folder = tempfile.TemporaryDirectory(prefix="regiolect-study-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(
            expected=f"a temporary folder in {tempfile.gettempdir()}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="free space there, or point TMPDIR at a larger disk, and run again",
        ) from error
    with folder as name:
        yield LocalStore(Path(name))
