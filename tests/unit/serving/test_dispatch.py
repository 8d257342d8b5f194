"""The rules of dispatch, under any sequence of events, and how switching fares against fixed points in simulation."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regiolect.errors import InvalidSetting
from regiolect.serving import dispatch
from regiolect.serving.dispatch import Batch, Dispatcher, Request
from regiolect.serving.forecast import Point

pytestmark = pytest.mark.slow


def point(name: str, engine: int, slots: int, batch: int, fixed_ms: float, each_ms: float) -> Point:
    sizes = [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= batch]
    seconds = {size: (fixed_ms + each_ms * size) / 1000 for size in sizes}
    return Point(engine, batch, slots, seconds, seconds, name)


# Like a processor with one stream or two: batches gain little. Like a GPU: batches gain much, a second stream some.
PROCESSOR = (
    point("one stream", 0, 1, 1, 1, 16),
    point("two streams", 1, 2, 1, 1, 24),
    point("two streams, batches", 1, 2, 8, 4, 20),
)
GPU = (point("batch 1", 0, 1, 1, 0.5, 0.5), point("batch 8", 0, 1, 8, 0.5, 0.5), point("batch 64", 1, 1, 64, 3, 0.25))


@dataclass
class Seen:
    """What became of simulated requests; times in seconds. `late`: when those came who waited past the patience."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    shed: int = 0
    longest_queue: int = 0
    end: float = 0.0

    def p99(self) -> float:
        return sorted(self.latencies)[math.ceil(0.99 * len(self.latencies)) - 1]


def simulate(
    dispatcher: Dispatcher, arrivals: list[float], slower: float = 1.0, rows: int = 1, shapes: int = 1
) -> Seen:
    """Run requests through a dispatcher, each of `rows` samples and of one of `shapes` in turn; batches take what was
    measured, times `slower`."""
    seen, came, waiting, order = Seen(), {}, iter(enumerate(arrivals)), itertools.count()
    running: list[tuple[float, int, Batch]] = []
    coming = next(waiting, None)
    while coming is not None or running:
        if coming is not None and (not running or coming[1] <= running[0][0]):
            ticket, now = coming
            coming = next(waiting, None)
            dispatcher.came(now, rows)
            if dispatcher.refusal(rows, ticket % shapes) is None:
                came[ticket] = now
                dispatcher.add(Request(ticket, rows, ticket % shapes))
            else:
                seen.shed += 1
        else:
            now, _, batch = heapq.heappop(running)
            dispatcher.ended(batch, now, worked=True)
            for request in batch.requests:
                began = came.pop(request.ticket)
                seen.latencies.append(now - began)
                seen.late += [began] if now - began > dispatcher.patience else []
        while (started := dispatcher.next(now)) is not None:
            heapq.heappush(running, (now + slower * started.expected, next(order), started))
        seen.longest_queue = max(seen.longest_queue, dispatcher.waiting)
        seen.end = now
    assert not came and not dispatcher.waiting and not dispatcher.flying
    return seen


def poisson(rate: float, count: int, seed: int, begin: float = 0.0) -> list[float]:
    chance = random.Random(seed)  # noqa: S311 - no secret
    return [begin + after for after in itertools.accumulate(chance.expovariate(rate) for _ in range(count))]


@pytest.mark.parametrize("points", [PROCESSOR, GPU], ids=["processor", "gpu"])
@pytest.mark.parametrize(
    "load", [0.2, *(pytest.param(load, marks=pytest.mark.acceptance) for load in (0.5, 0.8)), 0.95]
)
def test_at_every_load_switching_keeps_up_with_the_best_fixed_point(points: tuple[Point, ...], load: float) -> None:
    arrivals = poisson(load * max(point.rate for point in points), 6000, seed=3)
    best = min(simulate(Dispatcher([point], 1e6), arrivals).p99() for point in points)
    assert simulate(Dispatcher(points, 1e6), arrivals).p99() <= 1.1 * best


@pytest.mark.parametrize("points", [PROCESSOR, GPU], ids=["processor", "gpu"])
def test_a_peak_between_two_quiet_times_is_met_as_by_the_point_that_gives_most(points: tuple[Point, ...]) -> None:
    capacity = max(point.rate for point in points)
    quiet = poisson(0.005 * capacity, 200, seed=1)
    peak = poisson(0.9 * capacity, 4000, seed=2, begin=quiet[-1])
    arrivals = [*quiet, *peak, *poisson(0.005 * capacity, 200, seed=3, begin=peak[-1])]
    dispatcher = Dispatcher(points, 1e6)
    best = min(simulate(Dispatcher([point], 1e6), arrivals).p99() for point in points)
    assert simulate(dispatcher, arrivals).p99() <= 1.25 * best
    # Quiet again, it answers as fast as it can; and it did not go to and fro.
    assert dispatcher.point.takes(1) == min(point.takes(1) for point in points)
    assert 2 <= dispatcher.switches <= 40


class _Stepwise:
    """Of two points the second is better by far from 150 a second on, and below that the first by a little."""

    def p99(self, rate: float) -> list[float]:
        return [1.3, 1.0] if rate > 150 else [1.0, 1.07]


@pytest.mark.parametrize(("engine", "kept"), [(0, "first"), (1, "second")], ids=["the same engine", "another engine"])
def test_another_engine_is_changed_to_for_a_tenth_and_another_batch_for_any_gain(
    engine: int, kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "forecast_of", lambda _: _Stepwise())
    pair = (point("first", 0, 1, 4, 1.0, 1.0), point("second", engine, 1, 8, 1.0, 1.0))
    dispatcher, now = Dispatcher(pair, patience=10.0), 0.0

    def serve(rate: float) -> str:
        nonlocal now
        for ticket in range(3000):
            now += 1 / rate
            dispatcher.came(now, 1)
            dispatcher.add(Request(ticket, 1, ()))
            while (batch := dispatcher.next(now)) is not None:
                dispatcher.ended(batch, now + batch.expected, worked=True)
        return dispatcher.point.name

    assert serve(300) == "second"
    assert serve(100) == kept


@pytest.mark.parametrize("points", [PROCESSOR, GPU], ids=["processor", "gpu"])
@pytest.mark.parametrize("over", [1.2, pytest.param(4.0, marks=pytest.mark.acceptance)])
@pytest.mark.parametrize("slower", [1.0, 1.5])
def test_past_capacity_what_can_be_answered_is_answered_in_time(
    points: tuple[Point, ...], over: float, slower: float
) -> None:
    capacity, patience = max(point.rate for point in points) / slower, 1.0
    arrivals = poisson(over * capacity, int(15 * over * capacity), seed=4)
    seen = simulate(Dispatcher(points, patience), arrivals, slower)
    # It takes a moment to see that batches take longer than they were measured to.
    assert not [came for came in seen.late if came > (0 if slower == 1 else 2)]
    assert (len(seen.latencies) - len(seen.late)) / seen.end >= (0.95 if slower == 1 else 0.9) * capacity
    assert seen.longest_queue <= patience * capacity * slower + 1


@pytest.mark.parametrize("points", [PROCESSOR, GPU], ids=["processor", "gpu"])
@pytest.mark.parametrize(("rows", "shapes"), [(5, 1), (1, 7), (1, 10**9), (3, 5)])
def test_past_capacity_those_who_share_few_batches_are_answered_in_time_too(
    points: tuple[Point, ...], rows: int, shapes: int
) -> None:
    usable = [point for point in points if point.batch >= rows]
    capacity = max(point.rate for point in usable)
    arrivals = poisson(2 * capacity / rows, int(10 * capacity / rows), seed=6)
    seen = simulate(Dispatcher(usable, 1.0), arrivals, rows=rows, shapes=shapes)
    assert seen.shed
    # Who came later and shares a batch with somebody ahead may make a few wait longer than was to be expected.
    assert len(seen.late) <= 0.01 * len(seen.latencies)


def test_what_the_patience_allows_twice_is_answered_at_its_full_rate() -> None:
    # Nearly all of a batch's time is the same for any size: batches that are not full give next to nothing.
    slow = point("batch 64", 0, 1, 64, 380, 0.1)
    seen = simulate(Dispatcher((slow,), 1.0), poisson(1.5 * slow.rate, int(30 * slow.rate), seed=7))
    assert len(seen.latencies) / seen.end >= 0.95 * slow.rate
    assert not seen.late


def test_a_machine_that_slept_is_not_taken_for_a_slow_one() -> None:
    dispatcher = Dispatcher(GPU, 1.0)
    capacity = dispatcher.capacity
    dispatcher.add(Request(0, 1, ()))
    batch = dispatcher.next(0.0)
    assert batch is not None
    dispatcher.ended(batch, 3600.0, worked=True)
    assert dispatcher.capacity > capacity / 2


def test_a_load_that_is_met_sheds_nothing() -> None:
    capacity = max(point.rate for point in PROCESSOR)
    assert simulate(Dispatcher(PROCESSOR, 2.0), poisson(0.8 * capacity, 4000, seed=5)).shed == 0


def test_a_refusal_says_after_how_long_there_is_room() -> None:
    dispatcher, ticket = Dispatcher(GPU, 0.2), itertools.count()
    while (wait := dispatcher.refusal(1)) is None:
        dispatcher.came(0.0, 1)
        dispatcher.add(Request(next(ticket), 1, ()))
    assert 0 < wait < 0.2
    now = 0.0
    while now < wait:
        batch = dispatcher.next(now)
        assert batch is not None
        now += batch.expected
        dispatcher.ended(batch, now, worked=True)
    assert dispatcher.refusal(1) is None


def test_points_that_outlast_the_patience_are_left_out_and_named_if_none_is_left() -> None:
    assert [one.name for one in Dispatcher(PROCESSOR, 0.1).points] == ["one stream", "two streams"]
    with pytest.raises(InvalidSetting, match=r"at least 0.0425 s.*found 0.04 s"):
        Dispatcher(PROCESSOR, 0.04)


@pytest.mark.parametrize("patience", [float("inf"), float("nan")])
def test_a_patience_without_an_end_would_let_the_queue_grow_for_ever(patience: float) -> None:
    with pytest.raises(InvalidSetting, match="it bounds the queue"):
        Dispatcher(PROCESSOR, patience)


@settings(deadline=None, max_examples=150)
@given(
    points=st.sampled_from([PROCESSOR, GPU, PROCESSOR[1:], GPU[2:]]),
    events=st.lists(
        st.tuples(st.floats(0, 0.05), st.sampled_from(["come", "come", "end"]), st.integers(1, 4), st.integers(0, 2)),
        max_size=120,
    ),
    fails=st.randoms(use_true_random=False),
)
def test_under_any_events_nothing_is_lost_reordered_mixed_or_left_lying(
    points: tuple[Point, ...], events: list[tuple[float, str, int, int]], fails: random.Random
) -> None:
    dispatcher, now, tickets = Dispatcher(points, 2.0), 0.0, itertools.count()
    queued: list[Request] = []
    flying: list[Batch] = []
    done: list[int] = []

    def start() -> None:
        while (batch := dispatcher.next(now)) is not None:
            # In order of arrival among its shape, and nobody of another shape passed the first that waits.
            assert batch.requests[0] == queued[0]
            alike = [request for request in queued if request.shape == batch.requests[0].shape]
            assert list(batch.requests) == alike[: len(batch.requests)]
            assert batch.rows == sum(request.rows for request in batch.requests)
            assert batch.rows <= batch.point.batch or len(batch.requests) == 1
            flying.append(batch)
            assert len(flying) <= batch.point.slots
            assert {one.point.engine for one in flying} == {batch.point.engine}
            for request in batch.requests:
                queued.remove(request)
        assert dispatcher.waiting == sum(request.rows for request in queued)
        # Somebody waits only for what is in flight.
        assert flying or not queued

    def end() -> None:
        batch = flying.pop(fails.randrange(len(flying)))
        dispatcher.ended(batch, now, worked=fails.random() < 0.8)
        done.extend(request.ticket for request in batch.requests)

    for gap, what, rows, shape in events:
        now += gap
        if what == "come":
            dispatcher.came(now, rows)
            if dispatcher.refusal(rows) is None:
                queued.append(Request(next(tickets), rows, shape))
                dispatcher.add(queued[-1])
        elif flying:
            end()
        start()
    while flying:
        now += 0.01
        end()
        start()
    assert sorted(done) == list(range(next(tickets)))
    assert not queued and not dispatcher.waiting and not dispatcher.flying
