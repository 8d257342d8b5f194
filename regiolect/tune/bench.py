"""The engines that are being tuned, loaded once per configuration, and the rounds that they are measured by."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Configuration, DroppedCandidate, Execution, TuningCandidate, TuningSlice
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.engine import Engine
from regiolect.errors import AttestationFailed, DeviceLost, EngineError, TuningError
from regiolect.precision import traits

Load = Callable[[Configuration], Engine]
Arrays = Mapping[str, NDArray[Any]]
# A slice lasts about so long, and never more rounds than a journal should hold.
SLICE_SECONDS, MOST_ROUNDS = 0.25, 50
_FIRST_SECONDS = 0.03


class Bench:
    """Engines by configuration; the default twice, as two engines.

    Args:
        load: gives a loaded engine; EngineError says why it does not.
        inputs: preprocessed samples, as many as there are.
    """

    def __init__(self, load: Load, inputs: Arrays) -> None:
        self._load = load
        self._inputs = inputs
        self._engines: dict[tuple[tuple[str, str], ...], Engine] = {}
        self._control: Engine | None = None
        self._rounds: dict[tuple[int, int], Arrays] = {}
        self._took_ms: dict[int, float] = {}
        self._answers: dict[tuple[int, int], Arrays] = {}

    def candidates(
        self, configurations: Sequence[Configuration], batches: Sequence[int], default_batch: int
    ) -> tuple[list[TuningCandidate], list[DroppedCandidate]]:
        """Load every configuration, and list what can be measured, default and control first, and what cannot.

        A configuration is dropped with the reason if it does not load, or computes in other types than the default.

        Raises:
            EngineError: the default does not load, or the device is lost.
        """
        default = self._loaded(AS_IT_COMES)
        self._control = self._load(AS_IT_COMES)
        executed = dict(default.executed())
        measurable = [
            TuningCandidate(configuration={}, batch=default_batch, at_once=default.at_once),
            TuningCandidate(configuration={}, batch=default_batch, at_once=self._control.at_once, control=True),
        ]
        dropped = []
        for configuration in configurations:
            try:
                engine = self._loaded(configuration)
                computes = dict(engine.executed())
            except DeviceLost:
                raise
            except (EngineError, AttestationFailed) as error:
                dropped.append(_dropped(configuration, None, error.found))
                self._engines.pop(_key(configuration), None)
                continue
            if computes != executed:
                difference = f"computes in {_kinds(computes)}, the default in {_kinds(executed)}"
                dropped.append(_dropped(configuration, None, difference))
                self._engines.pop(_key(configuration), None)
                continue
            measurable += [
                TuningCandidate(configuration=dict(configuration), batch=batch, at_once=engine.at_once)
                for batch in batches
                if configuration or batch != default_batch
            ]
        return measurable, dropped

    def warm_up(
        self,
        candidates: Sequence[TuningCandidate],
        places: Iterable[int],
        minutes: float,
        enough: Callable[[int], bool] = lambda place: False,
    ) -> list[DroppedCandidate]:
        """Run candidates for the first time, small batches first: how long a round takes, and whether the answers are
        the default's.

        Args:
            minutes: in how much time all of this is done.
            enough: whether so much of it went by that a candidate is dropped instead.

        Returns:
            Those that do not run, answer otherwise, or were not tried.

        Raises:
            EngineError: the default does not run, or the device is lost.
        """
        dropped: list[DroppedCandidate] = []
        for place in sorted(places, key=lambda place: (place > 1, candidates[place].batch, place)):
            candidate = candidates[place]
            if place > 1 and enough(place):
                dropped.append(left_out(candidate, f"no time to try it in {minutes:g} minutes", minutes))
                continue
            try:
                self._round(candidate)
                self._took_ms[place] = self._round(candidate)
                # Asked last: what a runtime records in its first rounds, it replays from then on.
                difference = self._answers_otherwise(candidate) if place > 1 else None
                if difference is not None:
                    dropped.append(_dropped(candidate.configuration, candidate.batch, difference))
            except DeviceLost:
                raise
            except EngineError as error:
                if place <= 1:
                    raise
                dropped.append(_dropped(candidate.configuration, candidate.batch, error.found))
        return dropped

    def _answers_otherwise(self, candidate: TuningCandidate) -> str | None:
        """In what the answers differ from the default's to the same samples; None if they are alike."""
        default, key = self._loaded(AS_IT_COMES), (candidate.batch, candidate.at_once)
        inputs = self._inputs_of(*key)
        if key not in self._answers:
            self._answers[key] = default.run_many(inputs)
        answers = self._loaded(candidate.configuration).run_many(inputs, candidate.batch)
        for name, expected in self._answers[key].items():
            apart = float(np.linalg.norm(answers[name].astype(float) - expected)) / (
                float(np.linalg.norm(expected)) or 1
            )
            # Not a number is not alike.
            if not apart <= traits(default.artifact.request.precision).alike:
                return f"answers otherwise than the default: {name!r} differs by {apart:.2g} of its size"
        return None

    def cost_seconds(self, place: int) -> float:
        """About how long one of the first slices of a candidate takes that was warmed up."""
        took = self._took_ms[place] / 1e3
        return 2 * took + min(SLICE_SECONDS / 2, MOST_ROUNDS * took)

    def slice(self, place: int, candidate: TuningCandidate, number: int) -> TuningSlice:
        """Rounds of one candidate in a row, after one that is not counted: the last one left its own data in caches.

        Args:
            number: of the pass; the first ones are short.

        Raises:
            EngineError: it does not run.
        """
        seconds = min(_FIRST_SECONDS * 2**number, SLICE_SECONDS)
        first = self._round(candidate)
        rounds = max(1, min(MOST_ROUNDS, math.ceil(seconds * 1e3 / self._took_ms.get(place, first))))
        taken = tuple(self._round(candidate) for _ in range(rounds))
        self._took_ms[place] = float(np.median(taken))
        return TuningSlice(candidate=place, rounds_ms=taken)

    def not_ready(self, candidates: Sequence[TuningCandidate], places: Iterable[int]) -> list[int]:
        """Those that were not warmed up here, or whose engine was unloaded since."""
        return [
            place
            for place in places
            if place not in self._took_ms or _key(candidates[place].configuration) not in self._engines
        ]

    def forget(self, kept: Iterable[TuningCandidate]) -> None:
        """Unload the engines that none of these candidates needs."""
        needed = {_key(candidate.configuration) for candidate in kept}
        for key in [key for key in self._engines if key not in needed]:
            del self._engines[key]

    def _loaded(self, configuration: Configuration) -> Engine:
        key = _key(configuration)
        if key not in self._engines:
            self._engines[key] = self._load(configuration)
        return self._engines[key]

    def _round(self, candidate: TuningCandidate) -> float:
        if candidate.control:
            self._control = self._control or self._load(AS_IT_COMES)
            engine = self._control
        else:
            engine = self._loaded(candidate.configuration)
        if engine.at_once != candidate.at_once:
            raise TuningError(
                expected=f"{candidate.at_once} batches side by side with {dict(candidate.configuration)}, as before",
                found=f"{engine.at_once}: this machine has other cores than when the journal was begun",
                remedy="tune again with --force",
            )
        inputs = self._inputs_of(candidate.batch, candidate.at_once)
        started = time.perf_counter()
        engine.run_many(inputs, candidate.batch)
        # Four digits are more than a clock and a scheduler give.
        return float(f"{(time.perf_counter() - started) * 1e3:.4g}")

    def _inputs_of(self, batch: int, at_once: int) -> Arrays:
        key = (batch, at_once)
        if key not in self._rounds:
            # Around the set again when it is smaller than a round.
            index = np.arange(batch * at_once) % len(next(iter(self._inputs.values())))
            self._rounds[key] = {name: array[index] for name, array in self._inputs.items()}
        return self._rounds[key]


def left_out(candidate: TuningCandidate, reason: str, minutes: float) -> DroppedCandidate:
    """A candidate for which the time is too short."""
    return DroppedCandidate(
        configuration=candidate.configuration, batch=candidate.batch, reason=reason, minutes=minutes
    )


def _key(configuration: Configuration) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(configuration.items()))


def _kinds(counts: Mapping[Execution, int]) -> str:
    return " + ".join(f"{kind} {count}" for kind, count in sorted(counts.items())) or "nothing that it tells"


def _dropped(configuration: Configuration, batch: int | None, reason: str) -> DroppedCandidate:
    return DroppedCandidate(configuration=dict(configuration), batch=batch, reason=reason)
