"""A region's new engines against those that it serves now: on the results in the champion's bundle, or run again.

What is compared with is what consumers load: the bundle whose digest the promotion signed, and the results that its
manifest names. Where the gate set or the metric's code is another one since, the champion's own engine answers today's
gate set, with its own preprocessing. What cannot be read, believed or run is a comparison that was not made, and that
holds the new version back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from pydantic import ValidationError

from regiolect import progress
from regiolect.bundle.decisions import verify_decisions
from regiolect.bundle.manifest import MANIFEST, BundleManifest, read_bundle, results_path
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import (
    AnsweredAgain,
    ApprovedEngine,
    Arithmetic,
    Blob,
    BuildRequest,
    ChampionComparison,
    Decision,
    RegisteredEngine,
    SampleSet,
    Split,
)
from regiolect.data import model_inputs
from regiolect.engines.base import AS_IT_COMES
from regiolect.errors import IntegrityError, InvalidBundle, InvalidResults, InvalidSamples, RegiolectError
from regiolect.evaluate.evaluate import metric_of, own_samples, paired_results, scores_of
from regiolect.evaluate.results import PairedResults
from regiolect.gate.champion import judge_against, not_compared, same_evidence
from regiolect.integrity import digest_bytes, digest_file, digest_of
from regiolect.model import ModelSpec
from regiolect.policy import RegionPolicy
from regiolect.registry import Registry
from regiolect.serving.bundles import open_engine
from regiolect.serving.preflight import not_runnable, preflight
from regiolect.signing.keyring import Keyring
from regiolect.storage import Store

_RELEASE = (
    "release the region again; if the served version cannot be read for good, a person decides: regiolect promote"
)


_AGAIN = "again"


class _About(TypedDict):
    """What a comparison says of itself, whatever comes of it."""

    target: str
    arithmetic: Arithmetic | None
    engine: str
    champion: str


RunAgain = Callable[[RegisteredEngine, ApprovedEngine, ApprovedEngine], Blob]
"""(version that is served, its engine, new engine) -> the served engine's results on the new one's gate set."""


@dataclass(frozen=True)
class Champion:
    """What a region serves now, and what it takes to compare another engine with it.

    Attributes:
        served: the version.
        policy: the region's policy of today: metric, limit and confidence.
        again: as `run_again`, wherever that is safe.
        store: the region's, which holds the gate set.
    """

    served: RegisteredEngine
    policy: RegionPolicy
    again: RunAgain
    store: Store
    registry: Registry

    def against(self, engines: Sequence[ApprovedEngine]) -> tuple[ChampionComparison, ...]:
        """Each new engine of a version against the served one in whose place it comes: that of its target and class.
        One for which there is none comes in the place of those that the version leaves out, and of those of its target
        where only one of the two has a class: of several, the comparison counts in which it does worst. Where there are
        none of these, it adds to what is served, and is compared with nothing; nor is an engine that is served already.

        Args:
            engines: all of the new version.
        """
        requests = [engine.engine.request for engine in engines]
        new = [engine for engine in engines if engine.engine.request.build_key not in self.served.build_keys]
        return tuple(filter(None, (self._compared(engine, requests) for engine in new)))

    def _compared(self, new: ApprovedEngine, requests: Collection[BuildRequest]) -> ChampionComparison | None:
        try:
            places = self._in_place_of(new.engine.request, requests)
        except RegiolectError as error:
            return self._not_compared(new, error)
        return max((self._beside(served, new) for served in places), key=_strictness, default=None)

    def _beside(self, served: ApprovedEngine, new: ApprovedEngine) -> ChampionComparison:
        place = served.engine.request.place
        try:
            kept = same_evidence(served.evaluation, new.evaluation)
            return judge_against(
                self.policy.accuracy,
                self._results(served) if kept else self._answered_again(served, new),
                PairedResults.from_csv(self.store.path_of(new.evaluation.results)),
                served_key=served.engine.request.build_key,
                elsewhere="" if place == new.engine.request.place else place,
                again=not kept,
                **self._about(new),
            )
        except RegiolectError as error:
            return self._not_compared(new, error)

    def _not_compared(self, new: ApprovedEngine, error: RegiolectError) -> ChampionComparison:
        why = f"{type(error).__name__}: expected {error.expected}; found {error.found}. {error.remedy}"
        return not_compared(self.policy.accuracy, why, **self._about(new))

    def _about(self, new: ApprovedEngine) -> _About:
        request = new.engine.request
        return {
            "target": request.target.name,
            "arithmetic": request.arithmetic,
            "engine": request.build_key,
            "champion": self.served.uri,
        }

    def _in_place_of(self, request: BuildRequest, requests: Collection[BuildRequest]) -> Sequence[ApprovedEngine]:
        """The served engines that a new one would replace: the one of its place; else those of its target where only
        one of the two has a class, and those that go though nothing comes in their own places; where there are none,
        those that another replaces, of its target if there are any.

        Args:
            requests: of all engines of the new version.
        """
        keys, places = {each.build_key for each in requests}, {each.place for each in requests}
        served = self._manifest.engines
        here = [each for each in served if each.engine.request.target.name == request.target.name]
        same = [each for each in here if each.engine.request.arithmetic is request.arithmetic]
        if same:
            return same
        of_any = [each for each in here if None in (each.engine.request.arithmetic, request.arithmetic)]
        going = [each for each in served if each.engine.request.build_key not in keys]
        left_out = [each for each in going if each.engine.request.place not in places and each not in of_any]
        return [*of_any, *left_out] or [each for each in going if each in here] or going

    @functools.cached_property
    def _manifest(self) -> BundleManifest:
        data = self.registry.read(self.served, MANIFEST)
        require_bundle(self.served, digest_bytes(data))
        try:
            return BundleManifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            raise InvalidBundle(f"a manifest of {self.served.uri} that this version reads", first, _RELEASE) from error

    def _answered_again(self, served: ApprovedEngine, new: ApprovedEngine) -> PairedResults:
        """What the served engine answered on this gate set before, be it on another machine, or answers now."""
        now = new.evaluation
        about = (served.engine.request.build_key, now.dataset, now.metric, now.metric_code)
        files = tuple(file.blob.digest for file in served.engine.files)
        kept = self.store.get_record(_AGAIN, digest_of(about), AnsweredAgain)
        if now.metric_code is None or kept is None or kept.files != files or not self.store.has(kept.results):
            kept = AnsweredAgain(files=files, results=self.again(self.served, served, new))
            self.store.put_record(_AGAIN, digest_of(about), kept)
        return PairedResults.from_csv(self.store.path_of(kept.results))

    def _results(self, served: ApprovedEngine) -> PairedResults:
        data = self.registry.read(self.served, results_path(served.engine.request.slot))
        wanted = served.evaluation.results.digest
        if digest_bytes(data) != wanted:
            raise IntegrityError(f"the per-sample results of {self.served.uri}, {wanted}", digest_bytes(data), _RELEASE)
        return PairedResults.from_csv(data)


def meet(champion: Champion, new: ApprovedEngine) -> None:
    """Have the engine that is served answer where it runs: the machine that registers the new one may be none for it.

    What it answers is kept in the region's store, if anything had to be run, and why it could not be is noted; what
    comes of the comparison is for the registering to say.
    """
    for beside in champion.against((new,)):
        if beside.verdict is Decision.INCONCLUSIVE and beside.loss is None:
            progress.note(f"{champion.policy.region}: {beside.place}: {beside.reason}")


def run_again(
    champion: RegisteredEngine,
    folder: Path,
    served: ApprovedEngine,
    new: ApprovedEngine,
    policy: RegionPolicy,
    spec: ModelSpec,
    store: Store,
    keyring: Keyring,
) -> Blob:
    """Per-sample results of a served engine on the gate set that a new one was judged by; kept in the store.

    Args:
        champion: the version that is served.
        folder: its bundle, as it was downloaded.
        served: its engine, as its manifest tells it.
        new: the new engine.
        policy: the region's of today; names the metric.
        spec: gives the metric function.
        store: the region's, which holds the gate set.
        keyring: whose signatures count here.

    Raises:
        NotRunnableHere: this machine is none for the served engine.
        IntegrityError, UntrustedEngine: the champion's bundle is not what was promoted; nothing of it was loaded.
        DataError: the gate set cannot be read, or has other inputs than the served engine.
        SelfTestFailed: an INT8 engine answers otherwise here than where it was judged.
        EngineError, InvalidResults: it cannot be loaded, run or scored.
    """
    gate, request = new.evaluation, new.engine.request
    kept = SampleSet(
        region=request.region,
        split=Split.GATE,
        samples=gate.samples,
        # Stores find content by its digest alone.
        blob=Blob(uri=gate.dataset, digest=gate.dataset, size=0),
    )
    metric = metric_of(spec, policy)
    require_bundle(champion, digest_file(folder / MANIFEST))
    manifest = read_bundle(folder)
    verify_bundle(folder, manifest)
    verify_decisions(folder, manifest, keyring.load_trust())
    report = preflight((served.engine,))
    if not report.to_try():
        raise not_runnable(f"{manifest.name} (version {champion.version})", report, {})
    samples = own_samples(kept, Split.GATE, request.region, store)
    names = {tensor.name for tensor in manifest.inputs}
    if names != set(samples.inputs):
        raise InvalidSamples(
            expected=f"today's gate set with the inputs of {champion.uri}: {', '.join(sorted(names))}",
            found=", ".join(sorted(samples.inputs)),
            remedy="models of different inputs cannot be compared: a person decides, by regiolect promote",
        )
    missing = sorted(set(spec.outputs) - set(manifest.outputs))
    if missing:
        raise InvalidResults(
            expected=f"outputs {', '.join(spec.outputs)} of {champion.uri}, by which the metric scores today",
            found=f"outputs {', '.join(manifest.outputs)}",
            remedy="models of different outputs cannot be compared: a person decides, by regiolect promote",
        )
    engine, _ = open_engine(folder, served, AS_IT_COMES)
    inputs = model_inputs(samples, manifest.preprocessing)
    scores = scores_of(champion.uri, metric, engine.run_many, inputs, samples)
    return store.put_bytes(paired_results(samples, scores, scores).to_csv())


def require_bundle(champion: RegisteredEngine, digest: str) -> None:
    """Raises IntegrityError unless a manifest is that of the bundle that was promoted."""
    if digest != champion.bundle:
        raise IntegrityError(
            expected=f"the bundle that was promoted as {champion.uri}, {champion.bundle}",
            found=digest,
            remedy=_RELEASE,
        )


def _strictness(comparison: ChampionComparison) -> tuple[bool, float]:
    """What holds back before what does not, and what was measured before what another release may still compare."""
    upper = comparison.loss_upper
    return comparison.verdict is not Decision.APPROVED, -math.inf if upper is None else upper
