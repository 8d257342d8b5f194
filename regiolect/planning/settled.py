"""A plan after its builds: what became of the engines of each class of arithmetic, whichever machines were there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from regiolect.contracts import RegionAnswer, RegionOutcome
from regiolect.errors import ForeignArithmetic, NoWorker
from regiolect.planning.asked import Stores
from regiolect.planning.kept import finished, latest_of
from regiolect.planning.plan import Plan, PlannedEngine
from regiolect.planning.release import without_machine
from regiolect.planning.request import RegionRequest, parts_of, request_like
from regiolect.storage import Store

# A build that ended so was never begun: no machine of its class took it.
_NO_MACHINE = frozenset({NoWorker.__name__, ForeignArithmetic.__name__})


@dataclass(frozen=True)
class Settled:
    """What a release has to show.

    plan: what was planned, with what was found out since.
    outcomes: of the plan's requests, by build key; of those that were built.
    built: build keys of what was worked on.
    """

    plan: Plan
    outcomes: Mapping[str, RegionOutcome]
    built: frozenset[str]

    def left_out(self) -> tuple[str, ...]:
        """The classes that the new versions are made without, each with the reason."""
        return tuple(f"{engine.place}: {engine.reason}" for engine in self.plan.engines if engine.action == "drop")


def settle(planned: Plan, answers: Mapping[str, RegionAnswer], stores: Stores) -> Settled:
    """Put each answer where it belongs.

    Where a target has an engine for each class and a class had no machine while another had one, what is kept of the
    first goes on if nothing that it was approved for changed, and is left out otherwise. Where no class had a machine,
    or the target has no classes, the failure is the engine's outcome.

    Args:
        answers: by the build keys of the plan's requests, those that were to be built.
        stores: a region's store.
    """
    engines, outcomes, built = list[PlannedEngine](), dict[str, RegionOutcome](), set[str]()
    for _, group in groupby(planned.engines, key=lambda engine: (engine.region, engine.target)):
        for engine, answer in _of_target(tuple(group), answers, stores):
            engines.append(engine)
            if answer is not None and engine.request is not None:
                outcomes[engine.request.build_key] = answer.outcome
                if answer.built:
                    built.add(engine.request.build_key)
    return Settled(planned.model_copy(update={"engines": tuple(engines)}), outcomes, frozenset(built))


def _of_target(
    engines: Sequence[PlannedEngine], answers: Mapping[str, RegionAnswer], stores: Stores
) -> Iterator[tuple[PlannedEngine, RegionAnswer | None]]:
    keys = [engine.request.build_key for engine in engines if engine.request is not None]
    a_machine_answered = any(_was_begun(answers[key]) for key in keys if key in answers)
    for engine in engines:
        request = engine.request
        answer = answers.get(request.build_key) if request is not None else None
        if request is None or answer is None:
            yield engine, None
        elif request.arithmetic is None or _was_begun(answer) or not a_machine_answered:
            yield engine.model_copy(update={"arithmetic": answer.outcome.arithmetic}), answer
        else:
            yield _without_machine(request, stores(request.region))


def _was_begun(answer: RegionAnswer) -> bool:
    return answer.outcome.failure is None or answer.outcome.failure.kind not in _NO_MACHINE


def _without_machine(request: RegionRequest, store: Store) -> tuple[PlannedEngine, RegionAnswer | None]:
    latest = latest_of(request, store)
    if latest is not None and latest.engine is not None:
        request = request_like(latest, request.address, request.policy, request.target, parts_of(request))
    engine = without_machine(request, latest, store)
    kept = finished(request, store) if engine.action == "carry" else None
    return engine, None if kept is None else RegionAnswer(outcome=kept, built=False)
