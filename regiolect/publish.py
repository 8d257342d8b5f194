"""A region's approved engines, bundled and handed to the registry."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from regiolect.bundle import write_bundle
from regiolect.contracts import ExportedModel, RegionOutcome, RegisteredEngine
from regiolect.evaluate.results import PairedResults
from regiolect.gate.again import require_reproduced
from regiolect.outcome import approved_engine
from regiolect.policy import RegionPolicy
from regiolect.progress import note
from regiolect.registry import Registry
from regiolect.signing.envelope import Signing
from regiolect.signing.promotion import keep_promotion
from regiolect.storage import Store


def publish(
    model: ExportedModel,
    outcomes: Sequence[RegionOutcome],
    policy: RegionPolicy,
    store: Store,
    registry: Registry,
    left_out: Sequence[str] = (),
) -> RegisteredEngine | None:
    """Sign and register one version that holds every approved engine of a region; make it champion unless that takes
    one away.

    While the champion serves a target whose engine is not approved now, its consumers would be left without any: the
    new version is then registered as challenger and the champion stays. A target that the policy no longer names holds
    nothing back. The champion is looked at when the new version is there, and under the registry's lock, so that two
    releases at once do not both replace the same one.

    Args:
        outcomes: one region's, one per target; at least one.
        policy: the region's, under which they were decided.
        store: where the engines are kept.
        left_out: targets of the region's policy whose engines the release neither built nor found unchanged; a champion
            that serves one stays.

    The decisions are signed with the registry's keyring; on a machine where nothing was set up, a key is made first. An
    alias `champion` that was moved by hand is put back to where the last release pointed it, or to the new version. The
    champion's signed promotion is kept in the region's store as well, by which an audit knows what there must be.

    Returns:
        The version that is champion now, be it the new one or an older one that stays served; None when the region
        has none. Nothing is registered when no engine was approved.

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
        _keep_promotion(registry, store, model.name, region)
        return restored
    approved = {engine.engine.request.target.name for engine in engines}
    lost = ({outcome.target.name for outcome in outcomes} - approved).union(left_out)

    def replaces(champion: RegisteredEngine | None) -> bool:
        return champion is None or lost.isdisjoint(champion.targets)

    for engine in engines:
        # Outcomes come from a store, where others may write; what is signed here, consumers believe.
        require_reproduced(engine, policy, PairedResults.from_csv(store.path_of(engine.evaluation.results)))
    signing = Signing(registry.keyring.ready(note))
    with tempfile.TemporaryDirectory(prefix="regiolect-bundle-") as folder:
        bundle = Path(folder) / "bundle"
        manifest = write_bundle(bundle, model, region, outcomes[0].title, policy.canonical(), engines, store, signing)
        registered = registry.register(bundle, manifest, champion=replaces)
    _keep_promotion(registry, store, model.name, region)
    return registered if registered.champion else registry.champion(model.name, region)


def _keep_promotion(registry: Registry, store: Store, model: str, region: str) -> None:
    promotion = registry.promotion(model, region)
    if promotion is not None:
        keep_promotion(store, f"{model}-{region}", promotion)
