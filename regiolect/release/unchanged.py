"""A release that finds nothing to do: what is kept and what is served, told without an orchestrator."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from regiolect.contracts import Published, RegionOutcome, RegisteredEngine, ReleaseResult
from regiolect.errors.redaction import redacted_address
from regiolect.planning import Champions, Plan, finished, held_of
from regiolect.release.outcome import rows_of
from regiolect.settings import Settings, store_of

_WORK = frozenset({"build", "rebuild", "promote", "drop"})


def unchanged(settings: Settings, planned: Plan, champions: Champions, started: datetime) -> ReleaseResult | None:
    """What a release of this plan comes to where it would build, promote and ask for nothing; None where it would.

    It changes nothing and writes no report: the one of the release that built the engines tells all of them.

    Args:
        champions: asks the registry what is served, by registered name.
        started: when the release began.

    Raises:
        RegistryError: the registry does not answer.
    """
    # What nobody asks for any more is no work of a release; a class that is left out makes another version.
    if planned.registry is not None or any(engine.action in _WORK for engine in planned.engines):
        return None
    outcomes = _kept(planned)
    if outcomes is None:
        return None
    return ReleaseResult(
        model=planned.name,
        note=planned.note,
        started=started,
        seconds=(datetime.now(UTC) - started).total_seconds(),
        rows=rows_of(planned, outcomes, (), _served(planned, champions())),
        tracking_uri=redacted_address(settings.tracking_uri),
    )


def _kept(planned: Plan) -> Mapping[str, RegionOutcome] | None:
    """The outcome of each request, by build key; None where the store lost one since."""
    kept = {request.build_key: finished(request, store_of(request)) for request in planned.requests()}
    outcomes = {key: outcome for key, outcome in kept.items() if outcome is not None}
    return outcomes if len(outcomes) == len(kept) else None


def _served(planned: Plan, champions: Mapping[str, RegisteredEngine]) -> Mapping[str, Published]:
    """What each region serves, and why not its last version, by region."""
    served = {}
    for request in planned.requests():
        champion = champions.get(f"{planned.name}-{request.region}")
        held = held_of(planned.name, request.region, store_of(request))
        if held is not None and champion is not None and held.champion == champion.bundle:
            served[request.region] = Published(champion=champion, held=held.held, comparisons=held.comparisons)
        else:
            served[request.region] = Published(champion=champion)
    return served
