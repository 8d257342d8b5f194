"""What a tuning does with its minutes, on a clock that only loading and running move; and who stands again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from numpy.typing import NDArray

from regiolect.contracts import Configuration, EngineArtifact, Performance, TunedEngine, TuningJournal
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.onnxruntime.configurations import THREADS
from regiolect.engines.onnxruntime.runtime import OnnxRuntimeEngine
from regiolect.engines.onnxruntime.session import CPU
from regiolect.errors import EngineError
from regiolect.storage import LocalStore
from regiolect.tune import bench, run
from regiolect.tune.figures import LEAST_PASSES
from regiolect.tune.journal import TUNINGS, journal_key
from regiolect.tune.run import tune_engine

Inputs = Mapping[str, NDArray[Any]]
ORT = backend("onnxruntime")
SPINNING = "session.intra_op.allow_spinning"
ROUND = 0.05


@dataclass
class Clock:
    now: float = 0.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for module in (run, bench):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: made.now))
    return made


@dataclass
class Lab:
    """An engine whose loads and rounds take what is said."""

    clock: Clock
    artifact: EngineArtifact
    store: LocalStore
    inputs: Inputs
    load_seconds: float = 0.0
    takes: Callable[[Configuration], float] = lambda configuration: ROUND
    broken: Callable[[Configuration], bool] = lambda configuration: False

    def load(self, configuration: Configuration) -> Engine:
        lab = self

        class Timed(OnnxRuntimeEngine):
            def _run(self, pieces: Any) -> Any:
                if lab.broken(configuration):
                    raise EngineError("to run", "the vendor says no", "none")
                lab.clock.now += lab.takes(configuration)
                return super()._run(pieces)

        self.clock.now += self.load_seconds
        model = self.store.path_of(self.artifact.files[0].blob).read_bytes()
        return Timed(self.artifact, model, CPU, configuration)

    def tuned(self, minutes: float, store: LocalStore | None = None) -> TunedEngine:
        return tune_engine(
            ORT,
            self.artifact,
            self.inputs,
            store or self.store,
            minutes=minutes,
            tuned_for=Performance.LATENCY,
            load=self.load,
        )

    @property
    def journal(self) -> TuningJournal:
        found = self.store.get_record(TUNINGS, journal_key(self.artifact, ORT.device()), TuningJournal)
        assert found is not None
        return found


@pytest.fixture
def lab(clock: Clock, artifact: EngineArtifact, store: LocalStore, inputs: Inputs) -> Lab:
    return Lab(clock, artifact, store, inputs)


def test_what_loading_took_is_not_there_for_measuring(lab: Lab) -> None:
    seconds = 12.0
    lab.load_seconds = 0.6 * seconds / (1 + len(ORT.configurations(lab.artifact.request)))
    result = lab.tuned(seconds / 60)
    assert result.default.p50_ms == pytest.approx(ROUND * 1e3)
    assert len(lab.journal.passes) >= LEAST_PASSES
    assert lab.journal.dropped, "too long for what is left"
    assert lab.clock.now <= seconds + 10 * ROUND


@pytest.mark.parametrize("seconds", [24.0, 25.3, 26.7])
def test_a_tuning_that_its_time_ended_is_finished_and_nothing_is_loaded_for_it_again(
    seconds: float, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MOST_PASSES", 60)
    monkeypatch.setattr(run, "ENOUGH_PASSES", 60)
    first, ended = lab.tuned(seconds / 60), lab.clock.now
    before = lab.journal
    assert seconds <= before.seconds <= seconds + 10 * ROUND, "also what a pass took that was not ended"
    assert lab.tuned(seconds / 60) == first
    assert lab.clock.now == ended
    lab.tuned(seconds / 60 + 0.1)
    assert lab.journal.passes[: len(before.passes)] == before.passes
    assert len(lab.journal.passes) > len(before.passes)


class _Stop(BaseException):
    """What no handler catches, as a kill is."""


class _Once(LocalStore):
    """Keeps one more state of a journal, and stops then."""

    def put_record(self, kind: str, key: str, value: Any) -> None:
        super().put_record(kind, key, value)
        raise _Stop


def test_who_stands_again_because_what_beat_it_runs_no_more_is_warmed_up_and_chosen(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def takes(configuration: Configuration) -> float:
        if configuration.get(THREADS) == "1":
            return ROUND / 4
        return ROUND / 2 if set(configuration) == {SPINNING} else ROUND

    lab.takes = takes
    monkeypatch.setattr(run, "MOST_PASSES", LEAST_PASSES + 1)
    first = lab.tuned(10)
    assert first.point.configuration.get(THREADS) == "1"
    lab.broken = lambda configuration: configuration.get(THREADS) == "1"
    monkeypatch.setattr(run, "MOST_PASSES", 2 * LEAST_PASSES + 1)
    with pytest.raises(_Stop):
        lab.tuned(10, _Once(lab.store.root))
    kept = lab.journal
    assert kept.seconds > 0 and len(kept.passes) == LEAST_PASSES + 1
    assert "the vendor says no" in {each.reason for each in kept.dropped}, "kept before anything is measured again"
    second = lab.tuned(10)
    assert dict(second.point.configuration).keys() == {SPINNING}
    place = next(
        number
        for number, each in enumerate(kept.candidates)
        if set(each.configuration) == {SPINNING} and each.batch == kept.default_batch
    )
    assert all(place in {piece.candidate for piece in taken} for taken in lab.journal.passes[LEAST_PASSES + 1 :])
