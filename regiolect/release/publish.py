"""A region's approved engines, bundled and handed to the registry."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from regiolect.bundle.write import write_bundle
from regiolect.contracts import (
    ApprovedEngine,
    ExportedModel,
    HeldBack,
    Published,
    RegionOutcome,
    RegisteredEngine,
    approved_engine,
)
from regiolect.evaluate.results import PairedResults
from regiolect.gate.again import require_reproduced
from regiolect.identity.tuning import tuning_digest
from regiolect.planning import as_signed, keep_held
from regiolect.policy import RegionPolicy
from regiolect.progress import note
from regiolect.registry import Registry
from regiolect.registry.tags import notes
from regiolect.release.champion import Champion, RunAgain
from regiolect.release.promotion import Slot, held_back
from regiolect.signing.envelope import Signing
from regiolect.signing.promotion import keep_promotion
from regiolect.storage import Store


def publish(
    model: ExportedModel,
    outcomes: Sequence[RegionOutcome],
    policy: RegionPolicy,
    store: Store,
    registry: Registry,
    again: RunAgain,
    left_out: Collection[str] = (),
) -> Published:
    """Sign and register one version that holds every approved engine of a region; make it champion unless consumers
    would be worse off.

    They would where the champion serves a target whose engine is not approved now, where a new engine is not surely as
    good as the served one in whose place it comes, or where the two cannot be compared: the new version is then
    registered as challenger, with the reason, and the champion stays. Where a target has an engine for each class of
    arithmetic, that is asked class by class. A target that the policy no longer names holds nothing back; nor does a
    class that no machine is there for. The champion is looked at when the new version is there, and under the
    registry's lock, so that two releases at once do not both replace the same one; what is compared with it is worked
    out before that.

    Args:
        outcomes: one region's, one per target and class of arithmetic; at least one.
        policy: the region's, under which they were decided.
        store: where the engines and the gate set are kept.
        again: runs the champion's engine again where its results do not tell: `regiolect.release.champion.run_again`.
        left_out: targets of the region's policy whose engines the release neither built nor found unchanged; a champion
            that serves one stays.

    The decisions are signed with the registry's keyring; on a machine where nothing was set up, a key is made first. An
    alias `champion` that was moved by hand is put back to where the last release pointed it, or to the new version. The
    champion's signed promotion is kept in the region's store as well, by which an audit knows what there must be.

    Returns:
        What is served now, and what was held back. Nothing is registered when no engine was approved.

    Raises:
        RegistryError, StorageError, IntegrityError; OrchestratorError from the registry's lock.
        SigningError, UntrustedEngine: there is no key whose signatures count here.
        DecisionNotReproduced, GateRefused, InvalidResults: the kept results of an engine do not make the decision that
            is kept of it; nothing was signed.
    """
    region = outcomes[0].region
    engines = [engine for engine in map(approved_engine, outcomes) if engine is not None]
    if not engines:
        restored = registry.restore(model.name, region)
        keep_champion(registry, store, model.name, region)
        return Published(champion=restored)
    approved = {engine.engine.request.slot for engine in engines}
    lost = [(outcome.target.name, outcome.arithmetic) for outcome in outcomes if outcome.slot not in approved]
    lost += [(target, None) for target in left_out]
    beside = functools.cache(
        lambda champion: _beside(champion, engines, lost, Champion(champion, policy, again, store, registry))
    )
    asked: list[Published] = []

    def replaces(champion: RegisteredEngine | None) -> bool:
        if champion is None:
            return True
        asked.append(beside(champion))
        return asked[-1].held is None

    for engine in engines:
        # Outcomes come from a store, where others may write; what is signed here, consumers believe.
        require_reproduced(engine, policy, PairedResults.from_csv(store.path_of(engine.evaluation.results)))
    present = registry.champion(model.name, region)
    if present is not None:
        # Running an engine again takes time, for which nobody else should have to wait at the lock.
        beside(present)
    signing = Signing(registry.keyring.ready(note))
    with tempfile.TemporaryDirectory(prefix="regiolect-bundle-") as folder:
        bundle = Path(folder) / "bundle"
        signed = _signed_with(engines, policy, store).canonical()
        manifest = write_bundle(bundle, model, region, policy.title, signed, engines, store, signing)
        registered = registry.register(bundle, manifest, champion=replaces)
    keep_champion(registry, store, model.name, region)
    before = asked[-1] if asked else Published(champion=None)
    if registered.champion:
        published = Published(champion=registered, comparisons=before.comparisons)
    else:
        served = registry.champion(model.name, region)
        published = before.model_copy(update={"champion": served, "challenger": registered})
        _keep(published, model.name, region, engines, store)
    registry.annotate(registered, notes(published))
    return published


def _signed_with(engines: Sequence[ApprovedEngine], policy: RegionPolicy, store: Store) -> RegionPolicy:
    """The policy in the words that the engines name: today's, or older ones for the same demands."""
    first = as_signed(policy, store)
    return first if first.digest() == engines[0].engine.request.policy else policy


def keep_champion(registry: Registry, store: Store, model: str, region: str) -> None:
    """Keep the signed promotion of a region's champion in its store, by which an audit knows what there must be."""
    promotion = registry.promotion(model, region)
    if promotion is not None:
        keep_promotion(store, f"{model}-{region}", promotion)


def _beside(
    champion: RegisteredEngine, engines: Sequence[ApprovedEngine], lost: Sequence[Slot], bench: Champion
) -> Published:
    """What becomes of a region whose champion is this one: it stays where `held` says why."""
    compared = bench.against(engines)
    request = engines[0].engine.request
    return Published(
        champion=champion,
        held=held_back(request.model, request.region, champion, lost, compared),
        comparisons=compared,
    )


def _keep(published: Published, model: str, region: str, engines: Sequence[ApprovedEngine], store: Store) -> None:
    """So that a plan knows of it. What could not be compared is to be tried again."""
    champion, held = published.champion, published.held
    if champion is None or champion.bundle is None or held is None:
        return
    if all(each.loss is not None for each in published.comparisons):
        kept = tuple((each.engine.request.build_key, tuning_digest(each)) for each in engines)
        record = HeldBack(champion=champion.bundle, engines=kept, held=held, comparisons=published.comparisons)
        keep_held(model, region, record, store)
