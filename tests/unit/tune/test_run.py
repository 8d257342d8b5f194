"""A tuning on a real engine: dropped with the reason, stopped at any point and gone on from, never over its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from regiolect.contracts import (
    Configuration,
    Contract,
    EngineArtifact,
    Execution,
    LayerReport,
    Performance,
    TunedEngine,
    TuningJournal,
)
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.engines.onnxruntime.configurations import THREADS
from regiolect.engines.onnxruntime.runtime import OnnxRuntimeEngine
from regiolect.engines.onnxruntime.session import CPU
from regiolect.errors import DeviceLost, EngineError, EngineLoadFailed, TuningError
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore
from regiolect.tune import run
from regiolect.tune.figures import LEAST_PASSES, tuned_engine
from regiolect.tune.journal import TUNINGS, journal_key
from regiolect.tune.run import tune_engine
from tests.patience import PATIENCE
from tests.unit.tune.conftest import tiny_engine

pytestmark = pytest.mark.slow

Inputs = Mapping[str, NDArray[Any]]
ORT = backend("onnxruntime")
ROOT = Path(__file__).parents[3]


def tuned(artifact: EngineArtifact, store: LocalStore, inputs: Inputs, minutes: float = 0.5, **how: Any) -> TunedEngine:
    return tune_engine(ORT, artifact, inputs, store, minutes=minutes, tuned_for=Performance.LATENCY, **how)


def journal_of(artifact: EngineArtifact, store: LocalStore) -> TuningJournal:
    found = store.get_record(TUNINGS, journal_key(artifact, ORT.device()), TuningJournal)
    assert found is not None
    return found


def test_what_is_told_follows_from_the_journal_that_is_kept(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    result = tuned(artifact, store, inputs)
    journal = TuningJournal.model_validate_json(store.path_of(result.journal).read_bytes())
    assert journal == journal_of(artifact, store)
    assert tuned_engine(journal, result.journal) == result
    assert result.build_key == artifact.request.build_key
    assert dict(result.device) == dict(ORT.device())
    assert (result.default.batch, dict(result.default.configuration)) == (2, {})
    assert {c.batch for c in journal.candidates} == {1, 2, 4}
    offered = [dict(each) for each in ORT.configurations(artifact.request)]
    assert all(dict(candidate.configuration) in offered for candidate in journal.candidates)
    orders = {tuple(piece.candidate for piece in taken if piece.candidate < 2) for taken in journal.passes}
    assert len(orders) == 2, "default and control take turns in coming first"
    for point in (*result.points, result.point):
        ORT.load(artifact, store, point.configuration)


def test_a_finished_tuning_is_not_measured_again_unless_it_is_forced(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    first = tuned(artifact, store, inputs)

    def never(configuration: Configuration) -> Engine:
        raise AssertionError("nothing is to be loaded")

    assert tuned(artifact, store, inputs, load=never) == first
    with pytest.raises(AssertionError, match="nothing is to be loaded"):
        tuned(artifact, store, inputs, load=never, force=True)


class _Coarse(OnnxRuntimeEngine):
    def layers(self) -> tuple[LayerReport, ...]:
        return (LayerReport(name="product", kind="MatMul", precision=Execution.BF16, told="bf16"),)


class _Failing(OnnxRuntimeEngine):
    error: EngineError | DeviceLost = EngineError("to run", "out of memory, says the vendor", "free some")
    after = 0

    def _run(self, pieces: Any) -> Any:
        if self.after == 0:
            raise self.error
        self.after -= 1
        return super()._run(pieces)


def test_what_computes_in_other_types_does_not_load_or_does_not_run_is_dropped_by_name(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    model = store.path_of(artifact.files[0].blob).read_bytes()

    def load(configuration: Configuration) -> Engine:
        if "session.intra_op.allow_spinning" in configuration:
            return _Coarse(artifact, model, CPU, configuration)
        if "session.dynamic_block_base" in configuration:
            raise EngineLoadFailed("an engine", "the vendor says no", "none")
        if configuration.get(THREADS) == "1":
            return _Failing(artifact, model, CPU, configuration)
        return ORT.load(artifact, store, configuration)

    result = tuned(artifact, store, inputs, load=load)
    reasons = {(*each.configuration, each.batch): each.reason for each in journal_of(artifact, store).dropped}
    assert reasons["session.intra_op.allow_spinning", None] == "computes in BF16 1, the default in FP32 1"
    assert reasons["session.dynamic_block_base", None] == "the vendor says no"
    assert reasons[THREADS, 1] == "out of memory, says the vendor"
    gone = {"session.intra_op.allow_spinning", "session.dynamic_block_base"}
    assert not any(gone & set(point.configuration) for point in (*result.points, result.point))


class _Wrong(OnnxRuntimeEngine):
    """Right in its first two runs, as an engine is that records what it will replay."""

    runs = 0

    def _run(self, pieces: Any) -> Any:
        self.runs += 1
        return [{name: array + (self.runs > 2) for name, array in each.items()} for each in super()._run(pieces)]


def test_what_answers_otherwise_is_dropped_however_fast_it_is(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    model = store.path_of(artifact.files[0].blob).read_bytes()

    def load(configuration: Configuration) -> Engine:
        kind = _Wrong if configuration.get(THREADS) == "1" else OnnxRuntimeEngine
        return kind(artifact, model, CPU, configuration)

    result = tuned(artifact, store, inputs, load=load)
    wrong = [each for each in journal_of(artifact, store).dropped if each.configuration.get(THREADS) == "1"]
    assert {each.batch for each in wrong} == {1, 2, 4}
    assert all("answers otherwise than the default: 'y' differs by" in each.reason for each in wrong)
    assert not any(point.configuration.get(THREADS) == "1" for point in (*result.points, result.point))


@pytest.mark.parametrize("settings", [{}, {THREADS: "1"}], ids=["the default", "another configuration"])
# Three batches run three times each to begin with and twice at least in each pass: 12 is reached however slow it is.
@pytest.mark.parametrize("after", [0, 12])
def test_a_device_that_is_lost_is_an_error_of_that_name_and_the_journal_stays(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs, settings: dict[str, str], after: int
) -> None:
    model = store.path_of(artifact.files[0].blob).read_bytes()

    def load(configuration: Configuration) -> Engine:
        if dict(configuration) != settings:
            return ORT.load(artifact, store, configuration)
        engine = _Failing(artifact, model, CPU, configuration)
        engine.after, engine.error = after, DeviceLost("a device", "it fell off the bus", "look at the log")
        return engine

    with pytest.raises(DeviceLost, match="fell off the bus"):
        tuned(artifact, store, inputs, load=load)
    before = journal_of(artifact, store)
    tuned(artifact, store, inputs)
    after_it = journal_of(artifact, store)
    assert after_it.started == before.started
    assert after_it.passes[: len(before.passes)] == before.passes


class _Stop(BaseException):
    """What no handler catches, as a kill is."""


class _Dying(LocalStore):
    """Stops the process, so to say, before or after it keeps the journal for the n-th time."""

    def __init__(self, root: Path, at: int, *, written: bool) -> None:
        super().__init__(root)
        self.left, self.written = at, written

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        self.left -= 1
        if self.left > 0 or self.written:
            super().put_record(kind, key, value)
        if self.left == 0:
            raise _Stop


@pytest.mark.parametrize("written", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", [1, 2, 4, 7])
def test_stopped_at_any_point_a_tuning_goes_on_from_its_journal(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs, at: int, written: bool
) -> None:
    with pytest.raises(_Stop):
        tuned(artifact, _Dying(store.root, at, written=written), inputs)
    found = store.get_record(TUNINGS, journal_key(artifact, ORT.device()), TuningJournal)
    # First it is kept empty, then warmed up, then after each pass.
    times = at if written else at - 1
    kept = max(0, times - 2)
    assert (found is None) if times == 0 else (found is not None and len(found.passes) == kept)
    result = tuned(artifact, store, inputs)
    journal = journal_of(artifact, store)
    if found is not None:
        assert (journal.started, journal.passes[:kept]) == (found.started, found.passes)
        assert journal.seconds > found.seconds
    assert tuned_engine(journal, result.journal) == result


def test_a_killed_process_leaves_a_journal_that_another_goes_on_from(store: LocalStore, inputs: Inputs) -> None:
    script = f"""
import os, signal
import numpy as np
from pathlib import Path
from regiolect.storage import LocalStore
from tests.unit.tune import test_run as here
from tests.unit.tune.conftest import tiny_engine
class Killed(LocalStore):
    left = 5
    def put_record(self, kind, key, value):
        super().put_record(kind, key, value)
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
store = Killed(Path({str(store.root)!r}))
here.tuned(tiny_engine(store), store, {{"x": np.ones((3, 32), np.float32)}})
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=os.environ, check=False, timeout=PATIENCE)
    assert done.returncode == -signal.SIGKILL
    artifact = tiny_engine(store)
    before = journal_of(artifact, store)
    assert len(before.passes) == 3
    tuned(artifact, store, inputs)
    assert journal_of(artifact, store).passes[:3] == before.passes


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"device": {"cpu": "another"}}, "of another device: begun anew"),
        ({"engine": digest_bytes(b"another")}, "of another engine: begun anew"),
        ({"regiolect": digest_bytes(b"another")}, "of another version of Regiolect: begun anew"),
        ({"tuned_for": Performance.THROUGHPUT}, "of another aim: begun anew"),
    ],
)
def test_a_journal_of_something_else_is_named_and_never_gone_on_from(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs, change: dict[str, Any], told: str
) -> None:
    tuned(artifact, store, inputs, minutes=0.5)
    before = journal_of(artifact, store)
    key = journal_key(artifact, ORT.device())
    store.put_record(TUNINGS, key, before.model_copy(update=change))
    said: list[str] = []
    tuned(artifact, store, inputs, minutes=0.5, say=said.append)
    assert len(said) == 1 and said[0].endswith(told)
    assert journal_of(artifact, store).started > before.started


def test_a_journal_of_another_device_under_its_own_key_is_named(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    tuned(artifact, store, inputs, minutes=0.5)
    other = journal_of(artifact, store).model_copy(update={"device": {**ORT.device(), "cpu": "a slower one"}})
    key = journal_key(artifact, ORT.device())
    (store.root / "records" / TUNINGS / f"{key}.json").unlink()
    store.put_record(TUNINGS, journal_key(artifact, other.device), other)
    said: list[str] = []
    tuned(artifact, store, inputs, minutes=0.5, say=said.append)
    assert len(said) == 1 and "of another device (cpu a slower one): not gone on from" in said[0]


class _Slow(OnnxRuntimeEngine):
    def _run(self, pieces: Any) -> Any:
        time.sleep(0.05 * sum(len(piece["x"]) for piece in pieces))
        return super()._run(pieces)


def test_the_time_is_kept_to_and_more_of_it_goes_on_with_what_was_left_out(
    artifact: EngineArtifact, store: LocalStore, inputs: Inputs
) -> None:
    load = partial(_Slow, artifact, store.path_of(artifact.files[0].blob).read_bytes(), CPU)
    started = time.perf_counter()
    with pytest.raises(TuningError, match="allow more minutes"):
        tuned(artifact, store, inputs, minutes=0.02, load=load)
    assert time.perf_counter() - started < 4
    before = journal_of(artifact, store)
    assert len(before.passes) < LEAST_PASSES
    tuned(artifact, store, inputs, minutes=1)
    after = journal_of(artifact, store)
    assert after.passes[: len(before.passes)] == before.passes
    assert not after.dropped
    measured = {piece.candidate for taken in after.passes for piece in taken}
    assert measured == set(range(len(after.candidates)))


def test_candidates_that_take_too_long_are_left_out_by_name_and_the_rest_is_measured(
    store: LocalStore, inputs: Inputs
) -> None:
    artifact = tiny_engine(store)
    model = store.path_of(artifact.files[0].blob).read_bytes()

    class Steep(OnnxRuntimeEngine):
        def _run(self, pieces: Any) -> Any:
            if any(len(piece["x"]) == 4 for piece in pieces):
                time.sleep(0.5)
            return super()._run(pieces)

    tuned(artifact, store, inputs, minutes=0.2, load=partial(Steep, artifact, model, CPU))
    journal = journal_of(artifact, store)
    assert len(journal.passes) >= LEAST_PASSES
    assert {each.batch for each in journal.dropped} == {4}
    assert all("0.2 minutes" in each.reason for each in journal.dropped)


def test_measuring_ends_by_itself(artifact: EngineArtifact, store: LocalStore, inputs: Inputs) -> None:
    tuned(artifact, store, inputs, minutes=5)
    journal = journal_of(artifact, store)
    assert LEAST_PASSES <= len(journal.passes) <= run.MOST_PASSES
    assert journal.seconds < 120
