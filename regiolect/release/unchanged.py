"""A release that finds nothing to do: what is kept and what is served, told without an orchestrator."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

from regiolect.contracts import Decision, Published, RegionOutcome, ReleaseResult
from regiolect.errors.redaction import redacted_address
from regiolect.planning import Plan, finished
from regiolect.registry import CHALLENGER, Registry
from regiolect.release.outcome import rows_of
from regiolect.settings import Settings, store_of

_DONE = frozenset({"reuse", "carry", "retire"})


def unchanged(settings: Settings, planned: Plan, registry: Registry, started: datetime) -> ReleaseResult | None:
    """What a release of this plan comes to where it would build nothing and serve nothing else; None of any other.

    So it is where each engine is what is kept, and each region's champion holds those that are approved, no others, and
    no challenger waits beside it: a release would make that same version. It keeps the champions' promotions as each
    release does, and writes no report: that of the release that built the engines tells all of them.

    Args:
        started: when the release began.

    Raises:
        RegistryError, StorageError.
    """
    if planned.registry is not None or any(engine.action not in _DONE for engine in planned.engines):
        return None
    # The gate takes time to import.
    from regiolect.release.publish import keep_champion

    requests = planned.requests()
    kept = {request.build_key: finished(request, store_of(request)) for request in requests}
    outcomes = {key: outcome for key, outcome in kept.items() if outcome is not None}
    if not outcomes or len(outcomes) < len(kept):
        # The store lost one since it was planned.
        return None
    champions, served = registry.champions(), {}
    for region in {request.region for request in requests}:
        champion = champions.get(f"{planned.name}-{region}")
        if champion is None or set(champion.build_keys) != _approved(outcomes.values(), region):
            return None
        if registry.by_alias(champion.name, CHALLENGER) is not None:
            return None
        served[region] = Published(champion=champion)
    for policy in {request.region: request.policy for request in requests}.values():
        keep_champion(registry, store_of(policy), planned.name, policy.region)
    return _told(settings, planned, outcomes, served, started)


def _approved(outcomes: Iterable[RegionOutcome], region: str) -> set[str]:
    """Build keys of a region's engines that the gate approved."""
    return {each.build_key for each in outcomes if each.region == region and each.decision is Decision.APPROVED}


def _told(
    settings: Settings,
    planned: Plan,
    outcomes: Mapping[str, RegionOutcome],
    served: Mapping[str, Published],
    started: datetime,
) -> ReleaseResult:
    return ReleaseResult(
        model=planned.name,
        note=planned.note,
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        rows=rows_of(planned, outcomes, (), served),
        tracking_uri=redacted_address(settings.tracking_uri),
    )
