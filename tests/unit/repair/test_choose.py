"""Which graph is chosen: the order of attempts, what ends them, and that nothing coarser or unproven gets through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    Comparison,
    EngineArtifact,
    GraphChoice,
    Precision,
    RepairStep,
    SensitiveOperator,
)
from regiolect.errors import (
    EngineMiscomputes,
    InvalidResults,
    NonFiniteOutputs,
    NothingWithinLimit,
    UnsupportedOperator,
)
from regiolect.gate.forecast import Forecast
from regiolect.policy import RegionPolicy
from regiolect.precision import wider_or_equal
from regiolect.repair.choose import Workshop, choose

OPERATORS = 32
ENTROPY = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY)
FP16 = GraphChoice(precision=Precision.FP16)
FP32 = GraphChoice(precision=Precision.FP32)

Losses = Callable[[GraphChoice], float]


def policy(**changes: Any) -> RegionPolicy:
    fields = {
        "region": "na",
        "title": "North America",
        "reason": "A policy that exists to be tested, and for nothing else.",
        "precision": "INT8",
        "accuracy": {"metric": "accuracy", "limit": 1.0},
        "calibration": {"method": "entropy"},
        "targets": ({"name": "cpu-x86", "backend": "openvino"},),
    }
    return RegionPolicy.model_validate(fields | changes)


class Bench:
    """Stands for engines and selection set: an engine is its choice, its losses and speeds are given."""

    count = 500

    def __init__(self, losses: Losses, speedup: float = 2.0, spread: float = 0.3, surely: float | None = None) -> None:
        self.losses, self.speedup, self.spread = losses, speedup, spread
        self.surely = speedup if surely is None else surely
        self.reachable = Forecast(0.0, spread)
        # Each graph takes a minute.
        self.minutes = lambda: len(self.tried)
        self.said: list[str] = []
        self.unbuildable: set[Precision] = set()
        self.miscomputed: Callable[[GraphChoice], bool] = lambda _: False
        self.tried: list[GraphChoice] = []
        self.built: list[GraphChoice] = []
        self.ranked_by: list[CalibrationMethod] = []
        self.compared: list[tuple[GraphChoice, GraphChoice]] = []

    def workshop(self) -> Workshop:
        return Workshop(
            tables=self._table, build=self._build, rank=self._rank, say=self.said.append, minutes=self.minutes
        )

    def _table(self, method: CalibrationMethod) -> CalibrationTable:
        return CalibrationTable.model_construct(method=method)

    def _build(self, choice: GraphChoice, table: CalibrationTable | None) -> EngineArtifact:
        assert (table is None) == (choice.precision is Precision.FP32)
        if choice.precision in self.unbuildable:
            raise UnsupportedOperator(expected="plain operators", found="an If", remedy="unroll it")
        self.tried.append(choice)
        if self.miscomputed(choice):
            found = f"0.7 of its size away in {choice.precision}"
            raise EngineMiscomputes(expected="what the graph answers", found=found, remedy="another backend")
        if choice not in self.built:
            self.built.append(choice)
        return EngineArtifact.model_construct(fingerprint={"choice": str(self.built.index(choice))})

    def _rank(self, table: CalibrationTable) -> tuple[SensitiveOperator, ...]:
        self.ranked_by.append(table.method)
        return tuple(
            SensitiveOperator(output=f"y{number}", kind="Conv", error=1 / (1 + number)) for number in range(OPERATORS)
        )

    def step(self, choice: GraphChoice, engine: EngineArtifact) -> RepairStep:
        loss = self.losses(choice)
        if loss != loss:
            raise NonFiniteOutputs(expected="numbers", found="NaN for sample 'a'", remedy="none")
        if loss < -50:
            raise InvalidResults(expected="right or wrong", found="0.5 for sample 'a'", remedy="another metric")
        return RepairStep(choice=choice, loss=loss, loss_upper=loss + self.spread, accepted=loss + self.spread <= 1.0)

    def compare(self, engine: EngineArtifact, wider: EngineArtifact) -> Comparison:
        chosen, other = (self.built[int(each.fingerprint["choice"])] for each in (engine, wider))
        self.compared.append((chosen, other))
        return Comparison(precision=other.precision, speedup=self.speedup, speedup_lower=self.surely, required=1.05)


def always(loss: float) -> Losses:
    return lambda _: loss


def by_width(mending: Mapping[Precision, float]) -> Losses:
    return lambda choice: mending[choice.precision]


def test_a_graph_that_loses_little_is_taken_at_once():
    bench = Bench(always(0.1))
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == ENTROPY
    assert bench.built == [ENTROPY, FP16]
    assert bench.compared == [(ENTROPY, FP16)]
    assert chosen.table is not None and chosen.table.method is CalibrationMethod.ENTROPY
    assert "earns its place: 2.00x the speed of FP16, surely 2.00x, 1.05x asked for" in chosen.journal.reason


def test_another_method_is_tried_before_operators_are_widened():
    bench = Bench(lambda choice: 0.2 if choice.method is CalibrationMethod.PERCENTILE else 5.0)
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == GraphChoice(precision=Precision.INT8, method=CalibrationMethod.PERCENTILE)
    assert bench.ranked_by == []
    assert chosen.journal.steps[-1].accepted


def test_the_most_sensitive_operators_are_widened_step_by_step_by_the_best_method():
    def losses(choice: GraphChoice) -> float:
        base = 4.0 if choice.method is CalibrationMethod.MINMAX else 6.0
        return base - len(choice.wider)

    bench = Bench(losses)
    chosen = choose(bench, policy(), bench.workshop())
    assert bench.ranked_by == [CalibrationMethod.MINMAX]
    assert chosen.choice.method is CalibrationMethod.MINMAX
    assert chosen.choice.wider == ("y0", "y1", "y2", "y3")
    assert [len(step.choice.wider) for step in chosen.journal.steps] == [0, 0, 0, 0, 2, 4]
    assert chosen.journal.operators == OPERATORS
    assert chosen.journal.sensitive[0].output == "y0"


def test_the_next_wider_precision_comes_last_and_only_if_the_policy_allows_it():
    losses = by_width({Precision.INT8: 50.0, Precision.FP16: 0.0, Precision.FP32: 0.0})
    bench = Bench(losses)
    assert choose(bench, policy(), bench.workshop()).choice == FP16
    bench = Bench(losses)
    assert choose(bench, policy(forbidden=("FP16",)), bench.workshop()).choice == FP32
    bench = Bench(losses)
    with pytest.raises(NothingWithinLimit, match=r"loses 50\.00") as caught:
        choose(bench, policy(repair={"fallback": ()}), bench.workshop())
    assert {step.choice.precision for step in caught.value.journal.steps} == {Precision.INT8}


def test_where_the_set_is_too_small_to_be_sure_the_gate_is_asked():
    bench = Bench(always(0.9))
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == ENTROPY
    assert "none of 10 is surely within it" in chosen.journal.reason


TIME_IS_UP = "the time was up (repair.minutes 3) after 3 graphs: with more of it another may be chosen"


def test_when_the_time_is_up_what_was_tried_so_far_decides_and_the_journal_says_so():
    bench = Bench(lambda choice: 0.9 if choice.method is CalibrationMethod.MINMAX else 5.0)
    chosen = choose(bench, policy(repair={"minutes": 3, "fallback": ()}), bench.workshop())
    assert [choice.method for choice in bench.tried] == ["entropy", "minmax", "percentile"]
    assert chosen.choice.method is CalibrationMethod.MINMAX
    assert chosen.journal.stopped == bench.said[-1] == TIME_IS_UP
    assert chosen.journal.told == f"{chosen.journal.reason}; {TIME_IS_UP}"
    bench = Bench(always(5.0))
    with pytest.raises(NothingWithinLimit, match=r"3 tried.*the time was up.*more `repair\.minutes`") as caught:
        choose(bench, policy(repair={"minutes": 3, "fallback": ()}), bench.workshop())
    assert caught.value.journal.stopped == TIME_IS_UP
    assert bench.ranked_by == [], "nor is time spent on what is not tried"


def test_wider_precisions_keep_their_places_when_the_time_is_up_and_nothing_is_cut_that_nobody_would_try():
    losses = by_width({Precision.INT8: 50.0, Precision.FP16: 0.0, Precision.FP32: 0.0})
    bench = Bench(losses)
    chosen = choose(bench, policy(repair={"minutes": 1}), bench.workshop())
    assert (chosen.choice, bench.tried[:2]) == (FP16, [ENTROPY, FP16])
    assert chosen.journal.stopped is not None
    for made in (policy(precision="FP16", repair={"minutes": 1}), policy(repair={"minutes": 1, "steps": 3})):
        bench = Bench(by_width({Precision.INT8: 0.1, Precision.FP16: 50.0, Precision.FP32: 0.0}))
        assert choose(bench, made, bench.workshop()).journal.stopped is None


@pytest.mark.parametrize(
    ("reachable", "where"), [(Forecast(0.0, 1.2), ""), (Forecast(0.0, 0.3, "device=phone"), " in device=phone")]
)
def test_a_repair_ends_where_no_graph_can_be_accepted_and_none_could_do_better(reachable: Forecast, where: str):
    """Too few samples: the bound of the reference's own answers, or one of their slices, is above the limit."""
    bench = Bench(lambda choice: 4.0 if choice == ENTROPY else 0.0, spread=reachable.upper)
    bench.reachable = reachable
    step = bench.step
    bench.step = lambda *of: step(*of).model_copy(update={"accepted": False, "slice": reachable.slice})
    chosen = choose(bench, policy(repair={"fallback": ()}), bench.workshop())
    assert bench.tried[-1] == chosen.choice == ENTROPY.model_copy(update={"method": CalibrationMethod.MINMAX})
    assert chosen.journal.stopped == (
        f"no graph can be surely within the limit{where} by 500 selection samples: "
        "not even one that answers as the reference"
    )


def test_another_slice_than_the_hopeless_one_is_worked_on():
    bench = Bench(always(0.0))
    bench.reachable = Forecast(0.0, 0.3, "device=phone")
    step = bench.step
    bench.step = lambda *of: step(*of).model_copy(update={"accepted": False, "slice": "device=scanner"})
    chosen = choose(bench, policy(repair={"fallback": ()}), bench.workshop())
    assert (len(bench.tried), chosen.journal.stopped) == (8, None)


def test_nonsense_from_an_engine_counts_as_the_loss_of_everything_and_is_told():
    bench = Bench(lambda choice: float("nan") if choice == ENTROPY else 0.0)
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice != ENTROPY
    assert chosen.journal.steps[0].failure == "NaN for sample 'a'"


@pytest.mark.parametrize(("speedup", "surely"), [(1.04, 1.03), (1.12, 1.01)])
def test_int8_that_is_not_surely_faster_gives_way_to_the_next_wider_precision(speedup, surely):
    bench = Bench(always(0.1), speedup=speedup, surely=surely)
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == FP16
    speed = f"{speedup:.2f}x the speed of FP16, surely {surely:.2f}x, 1.05x asked for"
    assert f"not worth it ({speed}): FP16 is shipped" in chosen.journal.reason
    assert chosen.journal.kept.loss == 0.1


def test_int8_that_is_not_faster_stays_where_nothing_wider_is_allowed_or_good_enough():
    bench = Bench(always(0.1), speedup=0.5)
    assert choose(bench, policy(repair={"fallback": ()}), bench.workshop()).choice == ENTROPY
    assert bench.compared == []
    bench = Bench(by_width({Precision.INT8: 0.1, Precision.FP16: 9.0, Precision.FP32: 9.0}), speedup=0.5)
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == ENTROPY
    assert "but FP16 loses too much" in chosen.journal.reason


def test_what_is_surely_good_enough_is_not_given_up_for_what_may_not_be():
    bench = Bench(by_width({Precision.INT8: 0.1, Precision.FP16: 0.9, Precision.FP32: 0.0}), speedup=0.5)
    assert choose(bench, policy(), bench.workshop()).choice == ENTROPY


def test_a_wider_graph_that_cannot_be_built_stops_neither_a_comparison_nor_a_repair():
    bench = Bench(always(0.1), speedup=0.5)
    bench.unbuildable = {Precision.FP16}
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == FP32
    assert bench.compared == [(ENTROPY, FP32)]
    bench.unbuildable = {Precision.FP16, Precision.FP32}
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == ENTROPY
    assert "no wider precision that the policy allows could be built" in chosen.journal.reason
    bench = Bench(by_width({Precision.INT8: 50.0, Precision.FP32: 0.0}))
    bench.unbuildable = {Precision.FP16}
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == FP32
    assert chosen.journal.steps[-2].failure == "UnsupportedOperator: an If"


def test_what_the_policy_states_and_cannot_be_built_is_an_error_and_no_repair():
    bench = Bench(always(0.0))
    bench.unbuildable = {Precision.INT8}
    with pytest.raises(UnsupportedOperator):
        choose(bench, policy(), bench.workshop())


def int8(choice: GraphChoice) -> bool:
    return choice.precision is Precision.INT8


def test_after_an_engine_that_miscomputes_its_graph_no_other_thresholds_are_tried():
    bench = Bench(always(0.1))
    bench.miscomputed = int8
    with pytest.raises(EngineMiscomputes) as caught:
        choose(bench, policy(repair={"fallback": []}), bench.workshop())
    assert caught.value.found == "0.7 of its size away in INT8"
    assert bench.tried == [ENTROPY]
    assert bench.ranked_by == []


def test_a_wider_precision_that_the_policy_allows_takes_its_place_and_is_told():
    bench = Bench(always(0.1))
    bench.miscomputed = int8
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == FP16
    assert bench.tried == [ENTROPY, FP16]
    assert [step.failure for step in chosen.journal.steps] == [
        "EngineMiscomputes: 0.7 of its size away in INT8",
        None,
    ]
    assert "INT8 engine answers otherwise than its own graph: 0.7 of its size away" in chosen.journal.reason
    assert "lose too much" not in chosen.journal.reason


def test_engines_of_every_precision_that_miscompute_are_that_error_and_no_loss():
    bench = Bench(always(0.1))
    bench.miscomputed = lambda _: True
    with pytest.raises(EngineMiscomputes, match="in INT8"):
        choose(bench, policy(), bench.workshop())
    assert bench.tried == [ENTROPY, FP16, FP32]


def test_an_attempt_that_miscomputes_after_others_that_lose_too_much_ends_its_precision():
    bench = Bench(by_width({Precision.INT8: 50.0, Precision.FP16: 0.0}))
    bench.miscomputed = lambda choice: choice.method is CalibrationMethod.PERCENTILE
    chosen = choose(bench, policy(), bench.workshop())
    assert chosen.choice == FP16
    assert [choice.method for choice in bench.tried if int8(choice)] == ["entropy", "minmax", "percentile"]
    assert "after 2 that lose too much" in chosen.journal.reason
    bench = Bench(always(50.0))
    bench.miscomputed = lambda choice: choice.method is CalibrationMethod.PERCENTILE
    with pytest.raises(NothingWithinLimit):
        choose(bench, policy(repair={"fallback": []}), bench.workshop())


def test_an_engine_to_compare_with_that_miscomputes_is_passed_over():
    bench = Bench(always(0.1), speedup=0.5)
    bench.miscomputed = lambda choice: choice.precision is Precision.FP16
    chosen = choose(bench, policy(), bench.workshop())
    assert (chosen.choice, bench.compared) == (FP32, [(ENTROPY, FP32)])


def test_a_metric_that_cannot_be_judged_is_an_error_and_no_loss():
    bench = Bench(always(-99.0))
    with pytest.raises(InvalidResults, match="another metric"):
        choose(bench, policy(), bench.workshop())


def test_an_fp16_region_falls_back_to_fp32_unless_it_is_locked():
    losses = by_width({Precision.FP16: 3.0, Precision.FP32: 0.0})
    bench = Bench(losses)
    assert choose(bench, policy(precision="FP16"), bench.workshop()).choice == FP32
    assert bench.compared == []
    with pytest.raises(NothingWithinLimit):
        choose(Bench(losses), policy(precision="FP16", repair={"fallback": ()}), Bench(losses).workshop())


@given(
    steps=st.integers(1, 14),
    fallback=st.sampled_from([(), ("FP16",), ("FP32",), ("FP16", "FP32")]),
    losses=st.lists(st.floats(-1, 60), min_size=16, max_size=16),
    speedup=st.floats(0.2, 5),
)
def test_a_repair_is_bounded_and_never_coarser_than_the_policy(steps, fallback, losses, speedup):
    given_losses = iter(losses)
    bench = Bench(lambda _: next(given_losses), speedup=speedup)
    asked = policy(repair={"steps": steps, "fallback": fallback})
    try:
        chosen = choose(bench, asked, bench.workshop())
    except NothingWithinLimit as error:
        tried, kept = error.journal.steps, None
    else:
        tried, kept = chosen.journal.steps, chosen.choice
    # The comparison's own engine may be scored once more.
    assert len(tried) <= max(steps, 1 + len(fallback)) + 1
    assert len({step.choice for step in tried}) == len(tried)
    assert all(wider_or_equal(step.choice.precision, asked.precision) for step in tried)
    allowed = {asked.precision, *asked.wider_precisions()}
    assert kept is None or kept.precision in allowed
    # What goes to the gate is within the limit where it could be seen.
    assert all(step.loss <= 1.0 for step in tried if step.choice == kept)
