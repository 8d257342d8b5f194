"""One row says what is true of a precision, and whoever wants to know asks it."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from regiolect import precision
from regiolect.calibrate.cached import observe_for
from regiolect.contracts import Arithmetic, Decision, Execution, Precision
from regiolect.engines.arithmetic import other_arithmetic
from regiolect.planning import has_classes
from regiolect.precision import Traits, traits
from tests.unit.gate import cases


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Mapping[Precision, Traits]:
    """The table, in which FP16 is as INT8 is and INT8 as FP32."""
    made_up = {
        Precision.FP32: traits(Precision.FP32),
        Precision.FP16: traits(Precision.INT8),
        Precision.INT8: traits(Precision.FP32),
    }
    monkeypatch.setattr(precision, "_TRAITS", made_up)
    return made_up


@pytest.mark.parametrize("each", Precision)
def test_every_precision_has_its_row(each: Precision) -> None:
    assert traits(each).alike >= traits(each).faithful > 0


def test_a_row_says_whether_a_method_of_calibration_chooses_thresholds(rows: Mapping[Precision, Traits]) -> None:
    assert cases.policy(precision=Precision.FP16).stated_choice().method is not None
    assert cases.policy(precision=Precision.INT8).stated_choice().method is None


def test_a_row_says_whether_anything_is_observed(rows: Mapping[Precision, Traits]) -> None:
    nothing: None = None
    # What is not observed needs neither model nor data.
    assert observe_for(Precision.INT8, nothing, nothing, nothing) is None  # type: ignore[arg-type]


def test_a_row_says_whether_an_engine_belongs_to_a_class_of_arithmetic(rows: Mapping[Precision, Traits]) -> None:
    assert has_classes(cases.policy(precision=Precision.FP16), cases.CPU)
    assert not has_classes(cases.policy(precision=Precision.INT8), cases.CPU)
    engine = cases.engine(precision=Precision.FP16, arithmetic=Arithmetic.VNNI)
    (misfit,) = other_arithmetic(engine, Arithmetic.AMX)
    assert misfit.blocks


def test_a_row_says_whether_the_gate_lets_int8_kernels_through(rows: Mapping[Precision, Traits]) -> None:
    region = cases.policy(precision=Precision.INT8)
    decided = cases.decide(cases.table(2000), region, cases.attestation(executed={Execution.INT8: 9}, INT8=9))
    assert decided.outcome is Decision.FAILED
    assert any("in an engine that was built as INT8" in reason for reason in decided.reasons)
