"""One row says what is true of a precision, and whoever wants to know asks it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from onnx import TensorProto

from regiolect import precision
from regiolect.calibrate.cached import observe_for
from regiolect.contracts import Arithmetic, Decision, Execution, Precision
from regiolect.engines.arithmetic import other_arithmetic
from regiolect.planning import has_classes
from regiolect.precision import WIDEST_FIRST, Traits, coarser_than, stored_in, traits, width
from tests.made_up_precision import NAME
from tests.pages import ROOT, run_page
from tests.unit.gate import cases


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> Mapping[Precision, Traits]:
    """The table, in which FP16 is as INT8 is and INT8 as FP32, but that kernels of any type may execute."""
    made_up = {
        Precision.FP32: traits(Precision.FP32),
        Precision.FP16: traits(Precision.INT8),
        Precision.INT8: replace(traits(Precision.FP32), executes=traits(Precision.INT8).executes),
    }
    monkeypatch.setattr(precision, "_TRAITS", made_up)
    return made_up


# ------------------------------------------------------------------------------------------------ the table


def test_every_precision_has_its_row_and_both_lists_begin_with_the_widest() -> None:
    assert [width(each) for each in Precision] == list(range(len(Precision)))


@pytest.mark.parametrize("each", Precision)
def test_what_satisfies_a_precision_is_its_own_type_and_every_wider_one(each: Precision) -> None:
    row = traits(each)
    assert row.executes == WIDEST_FIRST[: len(row.executes)]
    assert row.execution == each.value
    assert [kind for kind in Execution if not coarser_than(kind, each)] == list(row.executes)
    assert row.alike >= row.faithful > 0


def test_a_stored_type_stands_for_one_precision() -> None:
    named = [name for each in Precision for name in traits(each).stored]
    assert len(set(named)) == len(named)
    assert all(TensorProto.DataType.Value(name) for name in named)
    assert stored_in(quantized=True) == {"INT8": Precision.INT8, "UINT8": Precision.INT8}
    assert stored_in(quantized=False) == {"FLOAT": Precision.FP32, "FLOAT16": Precision.FP16}


# ------------------------------------------------------------------------------------------------ one row more


def test_a_name_and_a_row_are_all_that_a_made_up_precision_needs(tmp_path: Path) -> None:
    """Policies, width, planning, calibration, the scan of graphs, the gate and the report, in a copy of Regiolect."""
    for package in ("regiolect", "region_policies"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    assert run_page(ROOT / "docs" / "extending" / "precision.md", tmp_path) == "held\n"


def test_without_its_row_it_is_no_precision() -> None:
    """Else the test above would show nothing."""
    assert NAME not in Precision.__members__


# ------------------------------------------------------------------------------------------------ each column


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
    assert decided.verdict is Decision.FAILED
    assert any("in an engine that was built as INT8" in reason for reason in decided.reasons)
