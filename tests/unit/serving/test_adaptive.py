"""A served model that many ask: who gets which answer, when, and what a mistake of one does to the others."""

from __future__ import annotations

import itertools
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import pytest

from regiolect.contracts import EngineArtifact, Preprocessing
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.errors import EngineError, InvalidSamples, ModelClosed, OtherProcess, Overloaded, ShapeOutsideProfile
from regiolect.serving.adaptive import AdaptiveModel
from regiolect.serving.forecast import Point
from regiolect.storage import LocalStore
from tests.patience import PATIENCE

RAW = Preprocessing(raw_dtype="uint8", scale=0.5)


class Held:
    """Stands before a real engine: holds its batches until they are let go, and notes their sizes."""

    def __init__(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sizes: list[tuple[int, ...]] = []
        self.begun = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        run = engine._run

        def held(pieces: Any) -> Any:
            self.sizes.append(pieces[0]["x"].shape)
            self.begun.release()
            assert self.go.acquire(timeout=PATIENCE)
            if (pieces[0]["x"] == 99).any():
                raise RuntimeError("the device caught fire")
            return run(pieces)

        monkeypatch.setattr(engine, "_run", held)

    def let_go(self, batches: int = 1000) -> None:
        self.go.release(batches)


def point(batch: int, slots: int = 1, engine: int = 0) -> Point:
    seconds = {1: 0.01, batch: 0.01 + 0.001 * (batch - 1)}
    return Point(engine, batch, slots, seconds, seconds, f"batch {batch}")


def row(value: int, rows: int = 1, width: int = 4) -> np.ndarray:
    return np.full((rows, 3, width), value, np.uint8)


@pytest.fixture
def engine(built: Callable[..., EngineArtifact], store: LocalStore) -> Engine:
    return backend("onnxruntime").load(built(), store)


@pytest.fixture
def held(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Held:
    return Held(engine, monkeypatch)


@pytest.fixture
def model(engine: Engine) -> Iterator[AdaptiveModel]:
    with AdaptiveModel([engine], RAW, [point(1), point(8)], patience=1.0) as opened:
        yield opened


def first(future: Future[dict[str, np.ndarray]]) -> float:
    return float(future.result(timeout=PATIENCE)["total"][0, 0])


def test_many_threads_get_each_its_own_answer(model: AdaptiveModel) -> None:
    def ask(value: int) -> None:
        rows, width = 1 + value % 3, 1 + value % 4
        answer = model.predict({"x": row(value, rows, width)})
        assert answer.keys() == {"total"}
        # Preprocessing halves, the network doubles.
        np.testing.assert_array_equal(answer["total"], np.full((rows, 3), value * width, np.float32))

    with ThreadPoolExecutor(16) as callers:
        list(callers.map(ask, [value % 90 for value in range(400)]))
    told = model.statistics()
    assert (told.answered, told.failed, told.shed, told.waiting, told.in_flight) == (400, 0, 0, 0, 0)
    assert sum(size * count for size, count in told.batches.items()) == sum(1 + value % 90 % 3 for value in range(400))
    assert told.p50_ms is not None and told.p99_ms is not None and 0 < told.p50_ms <= told.p99_ms
    assert told.capacity > 0 and told.rate > 0
    assert told.point in {one.name for one in model.points}


def test_what_waits_while_a_batch_runs_goes_together_and_nobody_waits_for_a_batch_to_fill(
    model: AdaptiveModel, held: Held
) -> None:
    futures = [model.submit(row(0))]
    assert held.begun.acquire(timeout=PATIENCE)
    futures += [model.submit(row(value)) for value in range(1, 6)]
    assert model.statistics().waiting == 5
    held.let_go()
    assert [first(future) for future in futures] == [4.0 * value for value in range(6)]
    assert sum(size[0] for size in held.sizes) == 6
    assert len(held.sizes) < 6


def test_only_equal_shapes_share_a_batch(model: AdaptiveModel, held: Held) -> None:
    futures = [model.submit(row(1))]
    assert held.begun.acquire(timeout=PATIENCE)
    futures += [model.submit(row(1, width=width)) for width in (3, 7, 3, 7, 3)]
    held.let_go()
    assert [first(future) for future in futures] == [4, 3, 7, 3, 7, 3]
    assert {size[2] for size in held.sizes} == {3, 4, 7}


def test_with_buckets_shapes_that_are_padded_alike_share_a_batch(
    built: Callable[..., EngineArtifact], store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    padding = backend("onnxruntime").load(built(buckets=(4, 8)), store)
    held = Held(padding, monkeypatch)
    with AdaptiveModel([padding], RAW, [point(8)], patience=1.0) as model:
        futures = [model.submit(row(1))]
        assert held.begun.acquire(timeout=PATIENCE)
        futures += [model.submit(row(1, width=width)) for width in (1, 2, 3, 5)]
        held.let_go()
        assert [first(future) for future in futures] == [4, 1, 2, 3, 5]
    assert held.sizes == [(1, 3, 4), (3, 3, 4), (1, 3, 8)]


@pytest.mark.parametrize(
    ("poison", "kind", "named"),
    [
        (row(1).astype(np.float32), InvalidSamples, "uint8"),
        ({"y": row(1)}, InvalidSamples, "inputs x of sums-me"),
        (np.zeros((1, 2, 4), np.uint8), InvalidSamples, r"shape \(1, 2, 4\)"),
        (np.zeros((1, 3, 4, 1), np.uint8), InvalidSamples, "shape"),
        (np.uint8(3), InvalidSamples, "uint8"),
        (np.ma.masked_equal(row(1), 1), InvalidSamples, "'x' as a plain array.*12 of its 12"),
        (row(1, width=9), ShapeOutsideProfile, "'width' of input 'x' from 1 to 8"),
        (row(1, rows=9), ShapeOutsideProfile, "1 to 8 samples in a request"),
        (row(1, rows=0), ShapeOutsideProfile, "found 0"),
    ],
)
def test_a_request_that_is_wrong_is_refused_before_it_is_queued(
    model: AdaptiveModel, held: Held, poison: Any, kind: type[Exception], named: str
) -> None:
    good = [model.submit(row(2)), model.submit(row(3))]
    with pytest.raises(kind, match=named):
        model.submit(poison)
    held.let_go()
    assert [first(future) for future in good] == [8.0, 12.0]
    assert model.statistics().answered == 2


def test_a_value_that_no_engine_takes_spoils_nobody_elses_batch(engine: Engine, held: Held) -> None:
    with AdaptiveModel([engine], Preprocessing(), [point(8)], patience=1.0) as model:
        good = [model.submit(row(value).astype(np.float32)) for value in (1, 2)]
        with pytest.raises(InvalidSamples, match="NaN or infinity"):
            model.submit(np.full((1, 3, 4), np.nan, np.float32))
        held.let_go()
        assert [first(future) for future in good] == [8.0, 16.0]


def test_an_engines_error_reaches_its_own_batch_and_no_other(
    built: Callable[..., EngineArtifact], store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    openvino = backend("openvino").load(built("openvino"), store)
    held = Held(openvino, monkeypatch)
    with AdaptiveModel([openvino], Preprocessing(raw_dtype="uint8"), [point(2)], patience=1.0) as model:
        futures = [model.submit(row(value)) for value in (1, 2, 99, 3, 4)]
        held.let_go()
        wait(futures, timeout=PATIENCE)
        errors = [type(future.exception()) for future in futures]
        # The first went alone; of the others two share a batch.
        assert errors == [type(None), EngineError, EngineError, type(None), type(None)]
        with pytest.raises(EngineError, match="caught fire"):
            futures[2].result()
        assert first(model.submit(row(5))) == 40.0
        assert (model.statistics().failed, model.statistics().answered) == (2, 4)


def test_excess_is_refused_at_once_with_the_time_after_which_to_ask_again(engine: Engine, held: Held) -> None:
    with AdaptiveModel([engine], RAW, [point(2)], patience=0.05) as model:
        accepted, refused = [], []
        for value in range(40):
            try:
                accepted.append(model.submit(row(value)))
            except Overloaded as error:
                refused.append(error)
        # Two in 11 ms: what comes after about three batches would be answered after 50 ms.
        assert 3 <= len(accepted) <= 8
        assert len(accepted) + len(refused) == 40
        assert all(0 < error.retry_after < 0.1 for error in refused)
        assert "an answer of sums-me within 0.05 s" in str(refused[0])
        assert f"ask again after {refused[0].retry_after:.2g} s" in str(refused[0])
        assert model.statistics().shed == len(refused)
        held.let_go()
        assert [first(future) for future in accepted] == [4.0 * value for value in range(len(accepted))]


def test_what_was_accepted_is_answered_before_it_is_closed_and_nothing_after(model: AdaptiveModel, held: Held) -> None:
    futures = [model.submit(row(value)) for value in range(5)]
    assert held.begun.acquire(timeout=PATIENCE)
    closing = threading.Thread(target=model.close)
    closing.start()
    while not model._closed:
        pass
    with pytest.raises(ModelClosed, match="sums-me to be open"):
        model.predict(row(1))
    assert closing.is_alive()
    held.let_go()
    closing.join(timeout=PATIENCE)
    assert not closing.is_alive()
    assert [future.result(timeout=0)["total"][0, 0] for future in futures] == [0, 4, 8, 12, 16]
    model.close()


def test_who_gives_up_while_waiting_is_not_computed(model: AdaptiveModel, held: Held) -> None:
    futures = [model.submit(row(0))]
    assert held.begun.acquire(timeout=PATIENCE)
    futures += [model.submit(row(value)) for value in (1, 2, 3)]
    assert futures[2].cancel()
    assert not futures[0].cancel()
    held.let_go()
    assert [first(futures[place]) for place in (0, 1, 3)] == [0.0, 4.0, 12.0]
    with pytest.raises(CancelledError):
        futures[2].result()
    assert sum(size[0] for size in held.sizes) == 3


def test_a_callers_own_callback_may_ask_again(model: AdaptiveModel) -> None:
    answers: list[Future[dict[str, np.ndarray]]] = []
    asked_again = threading.Event()

    def again(_: Future[dict[str, np.ndarray]]) -> None:
        answers.append(model.submit(row(7)))
        asked_again.set()

    model.submit(row(1)).add_done_callback(again)
    assert asked_again.wait(20)
    assert first(answers[0]) == 28.0


def test_who_closes_it_in_a_callback_is_not_held_up_and_what_waits_is_answered(
    model: AdaptiveModel, held: Held
) -> None:
    futures = [model.submit(row(0))]
    assert held.begun.acquire(timeout=PATIENCE)
    futures += [model.submit(row(value, width=value)) for value in (1, 2, 3, 4, 5)]
    closed = threading.Semaphore(0)

    def close(_: Future[dict[str, np.ndarray]]) -> None:
        model.close()
        closed.release()

    for future in futures:
        future.add_done_callback(close)
    held.let_go()
    assert [first(future) for future in futures] == [0, 1, 4, 9, 16, 25]
    for _ in futures:
        assert closed.acquire(timeout=PATIENCE)
    with pytest.raises(ModelClosed):
        model.predict(row(1))
    model.close()


def test_in_a_forked_child_it_is_refused_by_its_process_and_never_waited_for(
    model: AdaptiveModel, engine: Engine
) -> None:
    model.predict(row(1))

    def ask(answers: Connection) -> None:
        for question in (
            lambda: model.predict(row(1)),
            model.statistics,
            lambda: engine.run({"x": row(1) * np.float32(1)}),
        ):
            try:
                question()
            except OtherProcess as error:
                answers.send((error.expected, error.remedy))
        model.close()
        answers.send("closed")

    told, answers = multiprocessing.Pipe(duplex=False)
    # Another thread of the parent may be in the midst of something.
    with model._lock:
        child = multiprocessing.get_context("fork").Process(target=ask, args=(answers,))
        child.start()
    try:
        for _ in range(3):
            assert told.poll(PATIENCE)
            expected, remedy = told.recv()
            assert str(multiprocessing.current_process().pid) in expected
            assert "after the fork" in remedy
        assert told.poll(PATIENCE)
        assert told.recv() == "closed"
    finally:
        child.kill()
        child.join()
    assert model.predict(row(1))["total"][0, 0] == 4.0


def test_engines_of_two_points_are_never_asked_side_by_side(
    built: Callable[..., EngineArtifact], store: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = built()
    engines = [backend("onnxruntime").load(artifact, store) for _ in range(2)]
    inside: list[int] = []
    overlaps: list[tuple[int, ...]] = []
    lock = threading.Lock()
    for place, one in enumerate(engines):

        def watched(pieces: Any, place: int = place, run: Any = one._run) -> Any:
            with lock:
                inside.append(place)
                overlaps.append(tuple(sorted(set(inside))))
            answers = run(pieces)
            with lock:
                inside.remove(place)
            return answers

        monkeypatch.setattr(one, "_run", watched)
    slow = {1: 0.0002}
    quick = {1: 0.0003, 8: 0.0004}
    points = [Point(0, 1, 1, slow, slow, "one"), Point(1, 8, 2, quick, quick, "many")]
    now = itertools.count(0, 60.0)
    time = [next(now)]
    with AdaptiveModel(engines, RAW, points, patience=5.0, clock=lambda: time[0]) as model:
        # One a minute; then hundreds while the clock stands still; then one a minute.
        for value in range(10):
            assert model.predict(row(value))["total"][0, 0] == 4.0 * value
            time[0] = next(now)
        assert set(overlaps) == {(0,)}
        with ThreadPoolExecutor(12) as callers:
            list(callers.map(lambda value: model.predict(row(value % 50)), range(600)))
        assert model.statistics().point == "many"
        for value in range(100):
            time[0] = next(now)
            model.predict(row(value))
        assert model.statistics().point == "one"
        assert model.statistics().switches >= 2
    assert set(overlaps) == {(0,), (1,)}
