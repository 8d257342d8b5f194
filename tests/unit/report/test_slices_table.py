"""The table of slices on the report's page."""

from __future__ import annotations

from regiolect.contracts import UNITS, Decision, GateDecision, LossUnit, SliceFigures
from regiolect.report.page import templates
from regiolect.report.words import SIGNS


def test_every_slice_is_told_with_its_figures_and_outcome_and_stays_text() -> None:
    figures = {"column": "device", "limit": 2.0}
    gate = GateDecision(
        outcome=Decision.INCONCLUSIVE,
        metric="accuracy",
        unit=LossUnit.ABSOLUTE_POINTS,
        loss=0.1,
        loss_lower=-0.1,
        loss_upper=0.3,
        threshold=0.5,
        confidence=0.95,
        samples=4000,
        slices=(
            SliceFigures(**figures, value="<b>", samples=3900, loss=0.1, loss_upper=0.4, outcome=Decision.APPROVED),
            SliceFigures(
                **figures, value="tablet", samples=0, loss=None, loss_upper=None, outcome=Decision.INCONCLUSIVE
            ),
        ),
        blocked_by=("slices",),
        reasons=("slices: device=tablet: no sample",),
    )
    page = str(templates().get_template("slices.html.j2").module.table(gate, UNITS, SIGNS))
    assert "Slices: 1 of 2 within their limit" in page
    assert "<details open>" in page
    assert "device = &lt;b&gt;" in page
    assert "+0.10 pt" in page
    assert "inconclusive" in page
    rounded = gate.slices[0].model_copy(update={"loss": -0.001, "loss_upper": -0.002})
    nothing = str(
        templates()
        .get_template("slices.html.j2")
        .module.table(gate.model_copy(update={"slices": (rounded,)}), UNITS, SIGNS)
    )
    assert "+0.00 pt" in nothing
    assert "-0.00" not in nothing
    passing = gate.model_copy(update={"slices": gate.slices[:1]})
    assert "<details open>" not in str(templates().get_template("slices.html.j2").module.table(passing, UNITS, SIGNS))
