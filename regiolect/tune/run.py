"""Tune one engine on this machine: measure, keep the journal, and work out what it comes to."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from numpy.typing import NDArray

from regiolect.contracts import (
    DroppedCandidate,
    EngineArtifact,
    Performance,
    TunedEngine,
    TuningJournal,
    TuningSlice,
)
from regiolect.engines.base import Backend
from regiolect.errors import DeviceLost, EngineError
from regiolect.host.lock import sharing_machine, whole_machine
from regiolect.integrity import canonical_json
from regiolect.storage import Store
from regiolect.tune.bench import Bench, Load, left_out
from regiolect.tune.candidates import batch_sizes
from regiolect.tune.figures import CONTROL, DEFAULT, LEAST_PASSES, noise, standing, tuned_engine
from regiolect.tune.journal import Say, begun, journal_key, keep, resumable

# With ENOUGH_PASSES, and a default that differs from itself by no more than STEADY, nothing changes any more; on a
# restless machine more is measured.
ENOUGH_PASSES, STEADY, MOST_PASSES = 24, 0.005, 60
# The share of the time that finding out how long a round takes may use up.
_TO_WARM_UP = 0.3


def tune_engine(
    backend: Backend,
    artifact: EngineArtifact,
    inputs: Mapping[str, NDArray[Any]],
    store: Store,
    *,
    minutes: float,
    tuned_for: Performance,
    at_default_batch: bool = False,
    force: bool = False,
    say: Say = lambda line: None,
    load: Load | None = None,
) -> TunedEngine:
    """Find the operating points of an engine on this machine, which it has to itself while it measures.

    Candidates are measured in turn, in changing order; those that can no longer be chosen are measured no further.
    After each pass the journal is kept, and a later call goes on from it: whatever stops this one, a killed process or
    a lost device, costs the pass that was under way. What an earlier call finished within the same time is not measured
    again.

    Args:
        inputs: preprocessed samples of the engine's region, any number.
        minutes: how long it may measure and wait for engines to load, in all calls together; waiting for the machine to
            be quiet does not count.
        tuned_for: what decides which point is `chosen`.
        at_default_batch: for a throughput, too, only what runs at the profile's optimal batch is chosen.
        force: begin anew.
        say: told of journals that are not gone on from.
        load: gives a loaded engine; through the backend when None.

    Raises:
        TuningError: the time is too short for any answer.
        EngineError: the engine cannot be loaded or run as the backend comes; DeviceLost: nor by now with anything else.
        StorageError: the journal cannot be kept.
    """
    device, request = dict(backend.device()), artifact.request
    offered, batches = backend.configurations(request), batch_sizes(request.profile)
    key = journal_key(artifact, device)
    so_far = None if force else resumable(artifact, device, tuned_for, at_default_batch, offered, batches, store, say)
    if so_far is not None:
        so_far = _with_more_time(so_far, minutes)
    bench = Bench(load or partial(backend.load, artifact, store), inputs)
    run = _Run(bench, key, store, minutes, 0.0 if so_far is None else so_far.seconds)
    if so_far is not None and not run.goes_on(so_far):
        return tuned_engine(so_far, store.put_bytes(canonical_json(so_far)))
    if so_far is None:
        with sharing_machine(), run.timed():
            candidates, dropped = bench.candidates(offered, batches, request.profile.opt)
        so_far = begun(artifact, device, tuned_for, at_default_batch, candidates, dropped)
        # What an older journal held is gone from here on, also where this call is stopped before its first pass.
        keep(so_far, key, store)
    journal = run.measured(so_far)
    return tuned_engine(journal, store.put_bytes(canonical_json(journal)))


def _with_more_time(journal: TuningJournal, minutes: float) -> TuningJournal:
    """The journal, in which nothing is left out any more for want of less time than there is."""
    kept = tuple(each for each in journal.dropped if each.minutes is None or each.minutes >= minutes)
    return journal.model_copy(update={"dropped": kept})


@dataclass
class _Run:
    """One call's part of a tuning.

    before: seconds that earlier calls took.
    """

    bench: Bench
    key: str
    store: Store
    minutes: float
    before: float
    _spent: float = field(default=0.0, init=False)
    _since: float | None = field(default=None, init=False)

    def goes_on(self, journal: TuningJournal) -> bool:
        """Whether more is to be measured."""
        passes, floor = len(journal.passes), noise(journal)
        if passes >= MOST_PASSES or self.left <= 0:
            return False
        if floor is None:
            return True
        return len(standing(journal)) > 2 and (passes < ENOUGH_PASSES or floor > STEADY)

    @contextmanager
    def timed(self) -> Iterator[None]:
        """What is done inside takes of the minutes; what is outside, such as waiting for the machine, does not."""
        self._since = time.perf_counter()
        try:
            yield
        finally:
            self._spent += time.perf_counter() - self._since
            self._since = None

    @property
    def seconds(self) -> float:
        """What all calls took so far, this one's loading included."""
        return self.before + self._spent + (0.0 if self._since is None else time.perf_counter() - self._since)

    @property
    def left(self) -> float:
        """Seconds."""
        return self.minutes * 60 - self.seconds

    def measured(self, journal: TuningJournal) -> TuningJournal:
        """The journal with all passes that there was time for; it is kept after warming up and after each of them."""
        journal = self._kept(self._warmed_up(journal))
        while self.goes_on(journal):
            # Who stands again because what beat it is gone may have been unloaded.
            journal = self._warmed_up(journal)
            taken, dropped = self._pass(journal)
            passes = journal.passes if taken is None else (*journal.passes, taken)
            journal = self._kept(
                TuningJournal(**{**dict(journal), "passes": passes, "dropped": (*journal.dropped, *dropped)})
            )
            self.bench.forget(journal.candidates[place] for place in standing(journal))
        return journal

    def _kept(self, journal: TuningJournal) -> TuningJournal:
        journal = journal.model_copy(update={"seconds": self.seconds})
        keep(journal, self.key, self.store)
        return journal

    def _warmed_up(self, journal: TuningJournal) -> TuningJournal:
        """Every standing candidate run by this bench, and those dropped for which the time is too short.

        Whoever is dropped may let another stand again that this bench has not run yet, until none is left.
        """
        measured = {piece.candidate for taken in journal.passes for piece in taken}
        least = self.left * (1 - _TO_WARM_UP)

        def enough(place: int) -> bool:
            return place not in measured and self.left < least

        while unseen := self.bench.not_ready(journal.candidates, standing(journal)):
            with sharing_machine(), self.timed():
                dropped = self.bench.warm_up(journal.candidates, unseen, self.minutes, enough)
            journal = journal.model_copy(update={"dropped": (*journal.dropped, *dropped)})
            too_long = self._too_long(journal, set(standing(journal)) - measured)
            journal = journal.model_copy(update={"dropped": (*journal.dropped, *too_long)})
        return journal

    def _too_long(self, journal: TuningJournal, unmeasured: set[int]) -> list[DroppedCandidate]:
        """Of the candidates that were never measured those that take longest, until the rest can be measured."""
        costs = {
            place: self.bench.cost_seconds(place)
            for place in standing(journal)
            if not self.bench.not_ready(journal.candidates, [place])
        }
        dropped = []
        # What the default is compared with at its own batch is given up last.
        givable = sorted(
            (unmeasured & costs.keys()) - {DEFAULT, CONTROL},
            key=lambda place: (journal.candidates[place].batch != journal.default_batch, costs[place]),
        )
        while givable and LEAST_PASSES * sum(costs.values()) > self.left:
            place = givable.pop()
            reason = f"too long for {self.minutes:g} minutes: {costs.pop(place):.2f} s in each pass"
            dropped.append(left_out(journal.candidates[place], reason, self.minutes))
        return dropped

    def _pass(self, journal: TuningJournal) -> tuple[tuple[TuningSlice, ...] | None, list[DroppedCandidate]]:
        """Each standing candidate's slice, None if the time is up before the last of them; and what does not run."""
        number = len(journal.passes)
        slices: list[TuningSlice] = []
        dropped: list[DroppedCandidate] = []
        with whole_machine(), self.timed():
            for place in _shuffled(standing(journal), number):
                if self.left <= 0:
                    return None, dropped
                candidate = journal.candidates[place]
                try:
                    slices.append(self.bench.slice(place, candidate, number))
                except DeviceLost:
                    raise
                except EngineError as error:
                    if place in (DEFAULT, CONTROL):
                        raise
                    dropped.append(
                        DroppedCandidate(
                            configuration=candidate.configuration, batch=candidate.batch, reason=error.found
                        )
                    )
        return tuple(slices), dropped


def _shuffled(places: Sequence[int], number: int) -> list[int]:
    """Another order in every pass; the same one in every run, so that journals can be compared."""
    order = list(places)
    random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
    return order
