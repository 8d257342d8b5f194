"""What consumers load now, as far as a plan goes by it: an approved engine that is not served is to be promoted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from regiolect.contracts import Decision, Failure, RegionOutcome, RegisteredEngine, failure_of
from regiolect.errors import RegiolectError
from regiolect.planning.kept import OUTCOMES, held_of
from regiolect.planning.plan import PlannedEngine
from regiolect.policy import RegionPolicy
from regiolect.scoped_cache import once
from regiolect.storage import Store

Champions = Callable[[], Mapping[str, RegisteredEngine]]
"""Asks the registry what is served, by registered name."""


@dataclass
class Served:
    """The registry, asked at most once in a look, and only where an approved engine may not be served.

    Attributes:
        ask: asks it.
        failure: why it could not be asked, once that was found out; what is to be promoted is then not known.
    """

    ask: Champions
    failure: Failure | None = None

    def told(
        self, model: str, engines: Sequence[PlannedEngine], policy: RegionPolicy, store: Store
    ) -> tuple[PlannedEngine, ...]:
        """One region's engines; those are to be promoted that the gate approved and that nobody can load.

        What a release held back beside this very champion is not: the same release would hold it back again.

        Args:
            model: the model's name.
            engines: the region's, on all of its targets.
            store: the region's.
        """
        kept = [each for each in engines if each.action in ("reuse", "carry")]
        approved = [each for each in kept if each.decision is Decision.APPROVED]
        if not approved:
            return tuple(engines)
        champions = once("champions", self._champions)
        if isinstance(champions, Failure):
            self.failure = champions
            return tuple(engines)
        champion = champions.get(f"{model}-{policy.region}")
        if champion is not None:
            served = {(key, champion.tuning_of(key)) for key in champion.build_keys}
            missing = {(each.kept, each.tuning) for each in approved} - served
            # A release signs anew what was signed with a key that was retired since: another bundle.
            approved = approved if missing or champion.retired_key else []
        if not approved:
            return tuple(engines)
        changed = self._changed(model, approved, champion, policy, store)
        return tuple(each if each not in approved else each.model_copy(update=changed[each.place]) for each in engines)

    def _champions(self) -> Mapping[str, RegisteredEngine] | Failure:
        try:
            return self.ask()
        except RegiolectError as error:
            return failure_of(error)

    def _changed(
        self,
        model: str,
        approved: Sequence[PlannedEngine],
        champion: RegisteredEngine | None,
        policy: RegionPolicy,
        store: Store,
    ) -> Mapping[str, Mapping[str, object]]:
        """What is to be said of each engine, by its place."""
        held = held_of(model, policy.region, store)
        # An engine that was tuned since is another bundle under the same build key.
        same = {(each.kept, each.tuning) for each in approved}
        if held is not None and champion is not None and (held.champion, set(held.engines)) == (champion.bundle, same):
            why = f"held back: {held.held.found}; {held.held.remedy}"
            return {each.place: {"reason": f"{each.reason}; {why}"} for each in approved}
        return {
            each.place: {"action": "promote", "reason": f"{each.reason}; {_beside(each, champion, policy, store)}"}
            for each in approved
        }


def _beside(engine: PlannedEngine, champion: RegisteredEngine | None, policy: RegionPolicy, store: Store) -> str:
    """What is served in place of an engine, and what is known of the change."""
    if champion is None:
        return "approved, and no version is served"
    served = f"approved, and {champion.uri} is served"
    key = champion.build_key_of(engine.target or "", engine.arithmetic)
    if key is None:
        return served
    if key == engine.kept:
        signed = champion.retired_key
        return (
            f"served as {champion.uri}, signed by {signed}, a retired key: a release signs anew" if signed else served
        )
    old, new = (store.get_record(OUTCOMES, each, RegionOutcome) for each in (key, str(engine.kept)))
    again = f"{served}, whose engine answers today's gate set when it is released"
    if old is None or new is None or old.evaluation is None or new.evaluation is None:
        return again
    # The gate takes time to import.
    from regiolect.evaluate.results import PairedResults
    from regiolect.gate.champion import judge_against, same_evidence

    if not same_evidence(old.evaluation, new.evaluation):
        return again
    try:
        beside = judge_against(
            policy.accuracy,
            *(PairedResults.from_csv(store.path_of(each.results)) for each in (old.evaluation, new.evaluation)),
            target=engine.target or "",
            engine=str(engine.kept),
            champion=champion.uri,
            served_key=key,
            arithmetic=engine.arithmetic,
        )
    except RegiolectError:
        return again
    return f"{served}; {beside.reason}"
