"""Releases to report on, with invented figures, and the page as its reader meets it."""

from __future__ import annotations

from datetime import UTC, datetime
from html.parser import HTMLParser
from typing import Any

from regiolect.contracts import Decision, Drill, Failure, GateDecision, LossUnit, Precision, ReleaseResult, ReleaseRow
from regiolect.integrity import digest_bytes

FAILURE = Failure(
    kind="DataCheckFailed", expected="mean from 103 to 141", found="12.4", remedy="look at the calibration set"
)
NOTHING = dict.fromkeys(
    [
        *("loss", "loss_lower", "loss_upper", "threshold", "unit", "confidence", "samples"),
        *("speedup", "p50_ms", "p99_ms", "model_uri", "executed"),
    ]
)
VOID = {"meta", "circle", "path", "line", "rect", "br"}
INLINE = {"a", "b", "code", "span"}


class Page(HTMLParser):
    """The page as a browser sees it: elements with their attributes, and the text outside of style."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._space_around(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag
        self._space_around(tag)

    def _space_around(self, tag: str) -> None:
        if tag not in INLINE:
            self.words.append(" ")

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]


def row(region: str = "na", **changes: Any) -> ReleaseRow:
    """An approved and served INT8 engine."""
    fields: dict[str, Any] = {
        "region": region,
        "title": region.upper(),
        "target": "cpu-x86",
        "backend": "openvino",
        "precision": Precision.INT8,
        "executed": "INT8 10 + FP32 1",
        "decision": Decision.APPROVED,
        "loss": 0.2,
        "loss_lower": -0.004,
        "loss_upper": 0.42,
        "threshold": 2.0,
        "unit": LossUnit.ABSOLUTE_POINTS,
        "confidence": 0.95,
        "samples": 4000,
        "speedup": 2.44,
        "p50_ms": 1.45,
        "p99_ms": 1.78,
        "rebuilt": True,
        "seconds": 25.8,
        "model_uri": f"models:/tiny-{region}@champion",
        "build_key": digest_bytes(region.encode()),
        "reasons": ("accuracy: loss 0.20 points",),
        "failure": None,
    }
    return ReleaseRow(**(fields | changes))


def unjudged(region: str, decision: Decision, **changes: Any) -> ReleaseRow:
    return row(region, **(NOTHING | {"decision": decision} | changes))


def release(*rows: ReleaseRow, **changes: Any) -> ReleaseResult:
    fields: dict[str, Any] = {
        "model": "tiny",
        "started": datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC),
        "seconds": 113.3,
        "rows": rows,
        "tracking_uri": "sqlite:///mlflow.db",
    }
    return ReleaseResult(**(fields | changes))


def over_threshold(loss: float = 75.6) -> Drill:
    gate = GateDecision(
        outcome=Decision.FAILED,
        metric="accuracy",
        unit=LossUnit.ABSOLUTE_POINTS,
        loss=loss,
        loss_lower=loss - 1,
        loss_upper=loss + 1,
        threshold=2.0,
        confidence=0.95,
        samples=4000,
        reasons=("loss 75.60 points",),
    )
    return Drill(
        name="over its threshold", region="na", attempt="approve", refused=True, by="gate", detail="no", gate=gate
    )
