"""What a journal comes to: it is worked out from the measurements alone, and chance seldom chooses."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiolect.contracts import Blob, DroppedCandidate, Performance, TuningJournal
from regiolect.errors import TuningError
from regiolect.integrity import canonical_json, digest_bytes
from regiolect.tune.figures import (
    LEAST_PASSES,
    MOST_POINTS,
    choose,
    measured,
    noise,
    operating_points,
    standing,
    tuned_engine,
)
from tests.unit.tune.conftest import Invent, Way

KEPT = Blob(uri="file:///journal", digest=digest_bytes(b"journal"), size=7)
DEFAULT = Way(10.0)
ways = st.builds(
    Way,
    ms=st.floats(0.1, 100),
    batch=st.sampled_from([1, 2, 4, 8, 16]),
    settings=st.sampled_from(["", "threads=1", "streams=2", "streams=2 pin=0"]),
    at_once=st.sampled_from([1, 2]),
)


def test_the_fastest_at_the_defaults_batch_is_chosen_for_latency(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(8.0, settings="threads=1"), Way(6.0, settings="threads=2"), Way(1.0, batch=1))
    found = choose(journal)
    assert found is not None
    assert (found.configuration, found.batch) == ({"threads": "2"}, 8)
    assert found.p50_ms == pytest.approx(6.0, rel=0.02)
    assert found.p50_ms <= found.p99_ms


def test_what_gives_most_is_chosen_for_throughput_at_whatever_batch(invent: Invent) -> None:
    others = (Way(6.0, settings="threads=2"), Way(30.0, batch=32, settings="streams=2", at_once=2))
    found = choose(invent(DEFAULT, *others, tuned_for=Performance.THROUGHPUT))
    assert found is not None
    assert (found.batch, found.at_once) == (32, 2)
    assert found.throughput == pytest.approx(64 / 30e-3, rel=0.02)


def test_at_a_batch_of_its_own_what_gives_most_there_is_chosen(invent: Invent) -> None:
    here, there = Way(12.0, settings="streams=2", at_once=2), Way(30.0, batch=32, settings="streams=2", at_once=2)
    fastest = Way(8.0, settings="threads=2")
    journal = invent(DEFAULT, here, there, fastest, tuned_for=Performance.THROUGHPUT)
    anywhere, at_default = choose(journal), choose(journal.model_copy(update={"at_default_batch": True}))
    assert anywhere is not None and at_default is not None
    assert (anywhere.batch, at_default.batch, at_default.at_once) == (32, 8, 2)
    # Beaten by another batch, it is measured further all the same.
    assert 2 not in standing(invent(DEFAULT, here, Way(5.0, batch=16), tuned_for=Performance.THROUGHPUT))
    beaten = invent(DEFAULT, here, Way(5.0, batch=16), tuned_for=Performance.THROUGHPUT)
    assert 2 in standing(beaten.model_copy(update={"at_default_batch": True}))


@pytest.mark.parametrize(("count", "passes"), [(40, 24), (12, 12)])
def test_of_many_that_are_equal_to_the_default_the_luckiest_is_seldom_chosen(
    count: int, passes: int, invent: Invent
) -> None:
    others = [Way(10.0, settings=f"threads={number}") for number in range(1, count + 1)]
    chosen = [choose(invent(DEFAULT, *others, spread=0.05, passes=passes, seed=seed)) for seed in range(40)]
    assert sum(found is not None for found in chosen) <= 2, "at most 5 %"


def test_what_is_truly_faster_is_found_among_many_that_are_not(invent: Invent) -> None:
    others = [Way(10.0, settings=f"threads={number}") for number in range(1, 41)]
    for seed in range(5):
        found = choose(invent(DEFAULT, *others, Way(9.0, settings="pin=0"), spread=0.05, passes=24, seed=seed))
        assert found is not None and found.configuration == {"pin": "0"}


# ------------------------------------------------------------------------------------------------ at worst


@pytest.mark.parametrize(("passes", "stalls"), [(5, 0.2), (10, 0.1), (24, 0.05)])
def test_for_latency_a_better_median_with_a_longer_tail_is_not_chosen_and_what_it_beat_is(
    passes: int, stalls: float, invent: Invent
) -> None:
    stalling, steady = Way(6.0, settings="threads=1", stalls=stalls), Way(8.0, settings="threads=2")
    for seed in range(10):
        journal = invent(DEFAULT, stalling, steady, passes=passes, seed=seed)
        found = choose(journal)
        assert found is not None and found.configuration == {"threads": "2"}
        assert 3 in standing(journal)
        assert choose(invent(DEFAULT, stalling, passes=passes, seed=seed)) is None
        for_throughput = choose(journal.model_copy(update={"tuned_for": Performance.THROUGHPUT}))
        assert for_throughput is not None and for_throughput.configuration == {"threads": "1"}


@pytest.mark.parametrize(
    ("how", "stalls"), [({"stopped": 0.1}, 0.0), ({}, 0.05)], ids=["whole slices", "single rounds"]
)
@pytest.mark.parametrize("passes", [5, 24])
def test_a_machine_that_stalls_under_all_alike_seldom_leaves_the_default(
    passes: int, how: dict[str, float], stalls: float, invent: Invent
) -> None:
    default, faster = Way(10.0, stalls=stalls), Way(8.0, settings="threads=2", stalls=stalls)
    refused = 0
    for seed in range(40):
        journal = invent(default, faster, passes=passes, seed=seed, **how)
        # For throughput only the medians count.
        by_medians = choose(journal.model_copy(update={"tuned_for": Performance.THROUGHPUT}))
        refused += by_medians is not None and choose(journal) is None
    assert refused <= 4


# ------------------------------------------------------------------------------------------------ everything else


def test_at_equal_speed_the_one_nearest_to_the_default_is_taken(invent: Invent) -> None:
    far, near = Way(4.999, settings="threads=2 pin=0 hint=1"), Way(5.0, settings="threads=2")
    found = choose(invent(DEFAULT, far, near))
    assert found is not None
    assert found.configuration == {"threads": "2"}


def test_a_machine_that_slows_down_in_between_changes_nothing(invent: Invent) -> None:
    others = (Way(8.0, settings="threads=2"), Way(20.0, batch=32))
    steady = invent(DEFAULT, *others)
    drifting = invent(DEFAULT, *others, drift=lambda number: 1 + number)
    for journal in (steady, drifting):
        figures = measured(journal)
        assert figures[2].p50 / figures[0].p50 == pytest.approx(0.8, rel=0.02)
    assert noise(drifting) == pytest.approx(noise(steady))


def test_noise_is_how_much_the_default_differs_from_itself(invent: Invent) -> None:
    quiet, loud = noise(invent(DEFAULT, spread=0.001)), noise(invent(DEFAULT, spread=0.2))
    assert quiet is not None and loud is not None
    assert quiet < 0.002 < 0.02 < loud


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(others=st.lists(ways, max_size=12), tuned_for=st.sampled_from(Performance), spread=st.floats(0, 0.1))
def test_operating_points_each_give_more_and_take_longer(
    invent: Invent, others: list[Way], tuned_for: Performance, spread: float
) -> None:
    journal = invent(DEFAULT, *others, tuned_for=tuned_for, spread=spread, passes=6)
    points, floor = operating_points(journal), noise(journal)
    assert floor is not None
    assert 1 <= len(points) <= MOST_POINTS
    for before, after in itertools.pairwise(points):
        assert after.p50_ms > before.p50_ms
        assert after.throughput > before.throughput * (1 + floor)
    found = [each.point for each in measured(journal).values()]
    assert points[0].p50_ms <= min(point.p50_ms for point in found) * (1 + floor)
    assert points[-1].throughput * (1 + floor) ** 2 >= max(point.throughput for point in found)
    chosen, default = choose(journal), measured(journal)[0].point
    if chosen is not None and tuned_for is Performance.LATENCY:
        assert chosen.p50_ms < default.p50_ms and chosen.batch == default.batch
    elif chosen is not None:
        assert chosen.throughput > default.throughput


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(others=st.lists(ways, max_size=8))
def test_what_may_still_be_chosen_is_measured_further(invent: Invent, others: list[Way]) -> None:
    journal = invent(DEFAULT, *others, spread=0.002, passes=6)
    kept = standing(journal)
    assert {0, 1} <= set(kept)
    chosen = choose(journal)
    still = [measured(journal)[place].point for place in kept]
    assert chosen is None or chosen in still
    assert max(point.throughput for point in still) == max(f.throughput for f in measured(journal).values())


def test_what_is_far_off_is_given_up_after_one_pass_and_what_is_close_is_not(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(20.0, settings="threads=1"), Way(10.5, settings="threads=2"), passes=1)
    assert standing(journal) == (0, 1, 3)


def test_a_dropped_candidate_is_neither_measured_nor_chosen(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(1.0, settings="threads=1"), Way(1.0, settings="threads=1", batch=16))
    at_all = DroppedCandidate(configuration={"threads": "1"}, batch=None, reason="computes in BF16")
    at_one = DroppedCandidate(configuration={"threads": "1"}, batch=16, reason="out of memory")
    whole, part = (journal.model_copy(update={"dropped": (each,)}) for each in (at_all, at_one))
    assert standing(whole) == (0, 1) and choose(whole) is None
    assert 3 not in standing(part) and choose(part) is not None


def test_a_candidate_that_was_hardly_measured_is_not_chosen(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(1.0, settings="threads=1"))
    passes = tuple(taken if number < LEAST_PASSES - 1 else taken[:2] for number, taken in enumerate(journal.passes))
    assert choose(journal.model_copy(update={"passes": passes})) is None


def test_everything_is_worked_out_again_from_the_journals_bytes(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(6.0, settings="threads=2"), Way(9.0, batch=16), Way(2.0, batch=1))
    again = TuningJournal.model_validate_json(canonical_json(journal))
    assert again == journal
    assert tuned_engine(again, KEPT) == tuned_engine(journal, KEPT)


def test_too_few_passes_are_no_answer(invent: Invent) -> None:
    with pytest.raises(TuningError, match=r"at least 5 passes.*found 4.*goes on from there"):
        tuned_engine(invent(DEFAULT, passes=4), KEPT)


def test_a_journal_without_its_default_in_each_pass_is_refused(invent: Invent) -> None:
    journal = invent(DEFAULT, Way(6.0, settings="threads=2"))
    with pytest.raises(ValueError, match="default, control and others once each"):
        TuningJournal.model_validate({**dict(journal), "passes": (journal.passes[0][1:],)})
