"""What tuning a model's engines came to."""

from __future__ import annotations

from regiolect.contracts import Contract, RegionAnswer
from regiolect.planning import Plan, PlannedEngine


class TuningResult(Contract):
    """An answer for each engine that was asked for.

    refused: those that were not even tried, because policy, data, backend or device is unusable; with the reason.
    """

    answers: tuple[RegionAnswer, ...]
    refused: tuple[PlannedEngine, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether something was asked for, and all of it was tuned."""
        tuned = [answer.outcome.tuning is not None for answer in self.answers]
        return bool(tuned) and all(tuned) and not self.refused


def untried(planned: Plan) -> tuple[PlannedEngine, ...]:
    """What a plan refuses without a request."""
    return tuple(engine for engine in planned.engines if engine.action == "refuse" and engine.request is None)
