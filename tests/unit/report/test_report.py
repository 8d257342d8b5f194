"""A reader's view of the report: what it says, that it says it safely, and that it needs nothing else to be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from typing import Any

import pytest

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    CheckResult,
    ChosenGraph,
    Comparison,
    Decision,
    Drill,
    Execution,
    Failure,
    GateDecision,
    GraphChoice,
    LossUnit,
    Precision,
    RegionOutcome,
    ReleaseResult,
    ReleaseRow,
    RepairJournal,
    RepairStep,
    Seal,
    SensitiveOperator,
    Split,
    TensorRange,
    short,
)
from regiolect.errors import StorageError
from regiolect.integrity import digest_bytes
from regiolect.report import figures, markdown_table, render, write_report
from regiolect.report.words import build_words

HOSTILE = "<script>alert('1')</script>\" onload=\"x"
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


@pytest.fixture
def outcome_of(bundles) -> Callable[..., RegionOutcome]:
    """The outcome behind an approved row: real bundles' figures, with an INT8 calibration."""

    def make(
        about: ReleaseRow, sealed_to: str | None = None, journal: RepairJournal | None = None, **changes: Any
    ) -> RegionOutcome:
        artifact = bundles.artifact(about.region)
        approved = bundles.approved(artifact)
        seal = Seal(
            region=sealed_to or about.region,
            model=digest_bytes(b"graph"),
            preprocessing=digest_bytes(b"preprocessing"),
            dataset=digest_bytes(b"calibration set"),
            sample_ids=tuple(f"sample-{number}" for number in range(512)),
            checks=digest_bytes(b"checks"),
            made=datetime(2026, 3, 1, tzinfo=UTC),
        )
        table = CalibrationTable(
            seal=seal,
            method=CalibrationMethod.ENTROPY,
            tensors={"x": TensorRange(threshold=1.0, minimum=-1.0, maximum=1.0)},
        )
        fields: dict[str, Any] = {
            "model": "tiny",
            "region": about.region,
            "title": about.title,
            "target": artifact.request.target,
            "precision": about.precision,
            "policy": digest_bytes(b"policy"),
            "build_key": about.build_key,
            "key_parts": {"data": digest_bytes(b"data")},
            "decision": about.decision,
            "reasons": about.reasons,
            "seconds": 1.0,
            "chosen": ChosenGraph(
                choice=GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY),
                table=table,
                journal=journal,
            ),
            "engine": artifact.model_copy(
                update={"calibration": digest_bytes(b"table"), "fingerprint": {"cpu": "Some CPU", "isa": "avx2"}}
            ),
            "attestation": approved.attestation.model_copy(
                update={"executed": {Execution.INT8: 10, Execution.FP32: 1}}
            ),
            "evaluation": approved.evaluation,
        }
        return RegionOutcome(**(fields | changes))

    return make


# ------------------------------------------------------------------------------------------------ what it says


@pytest.mark.parametrize(
    ("decided", "said"),
    [
        (row(), ["1 approved. 1 served", "models:/tiny-na@champion", "+0.20 pt", "limit 2 pt", "2.44x"]),
        (
            row(decision=Decision.FAILED, model_uri=None, reasons=("latency: p99 120 ms, limit 100 ms",)),
            ["1 failed. 0 served", "na on cpu-x86: ✕ failed at the gate", "latency: p99 120 ms, limit 100 ms"],
        ),
        (
            row(decision=Decision.INCONCLUSIVE, model_uri=None, reasons=("about 9,000 samples are needed",)),
            ["1 inconclusive. 0 served", "na on cpu-x86: ? inconclusive at the gate", "about 9,000 samples are needed"],
        ),
        (
            unjudged("na", Decision.NOT_ATTESTED, executed="unknown", reasons=("no NVIDIA driver on this machine",)),
            ["1 built, not attested. 0 served", "kernels unknown", "no NVIDIA driver on this machine"],
        ),
        (
            unjudged("na", Decision.REFUSED, failure=FAILURE, target=None, backend=None, precision=None),
            ["1 refused. 0 served", "na: ⊘ refused, DataCheckFailed", "mean from 103 to 141", "12.4", "look at the"],
        ),
        (
            row(model_uri=None, failure=FAILURE.model_copy(update={"kind": "RegistryError"})),
            ["1 approved. 0 served", "approved but not served: na", "na on cpu-x86: approved, but not served"],
        ),
    ],
    ids=["approved", "failed", "inconclusive", "not attested", "refused", "not registered"],
)
def test_each_decision_is_told_with_its_reason(decided, said):
    text = Page(render(release(decided), [])).text
    for words in said:
        assert words in text


def test_a_clean_release_raises_no_alarm_and_a_bad_row_does():
    assert "Needs attention" not in render(release(row(), unjudged("jp", Decision.NOT_ATTESTED)), [])
    assert "Needs attention" in render(release(row(), row("jp", decision=Decision.INCONCLUSIVE)), [])


def test_a_drill_is_marked_as_deliberate_and_one_that_got_through_is_an_alarm():
    drill = over_threshold()
    held = Page(render(release(row(), drills=(drill,)), [])).text
    assert "DELIBERATE DRILL" in held
    assert "refused by gate, as it must be" in held
    assert "Needs attention" not in held
    through = drill.model_copy(update={"refused": False, "by": "nothing: approved"})
    let = Page(render(release(row(), drills=(through,)), [])).text
    assert "Needs attention a deliberate drill was not refused: over its threshold" in let
    assert "NOT refused (nothing: approved)" in let


def test_a_release_of_nothing_is_a_page_that_says_so():
    page = Page(render(release(), []))
    assert "asked for no engine" in page.text
    assert "Nothing was refused or held back" in page.text
    assert not page.all("svg")


def test_regions_stand_under_their_precision_widest_first():
    rows = [row("na"), row("eu", precision=Precision.FP16, executed="FP32 11"), row("jp")]
    rows += [row("de", precision=Precision.FP32), unjudged("hk", Decision.REFUSED, precision=None)]
    text = Page(render(release(*rows), [])).text
    listed = text[text.index("Regions by precision") : text.index("Engines")]
    assert listed.strip() == "Regions by precision FP32 de ✓ FP16 eu ✓ INT8 na ✓ jp ✓ no precision known hk ⊘"


@pytest.mark.parametrize(
    ("precision", "executed", "words"),
    [
        (Precision.FP16, "FP32 11", "FP16 graph FP32 kernels"),
        (Precision.INT8, "INT8 10 + FP32 1", "INT8 graph 10 INT8 and 1 FP32 kernels"),
        (Precision.INT8, "INT8 8 + FP16 3 + FP32 1", "INT8 graph 8 INT8, 3 FP16 and 1 FP32 kernels"),
        (Precision.INT8, "unknown", "INT8 graph kernels unknown"),
    ],
)
def test_precision_is_put_in_words(precision, executed, words):
    result = release(row(precision=precision, executed=executed))
    assert words in Page(render(result, [])).text
    assert words.replace("graph ", "graph, ") in markdown_table(result)


@pytest.mark.parametrize(
    ("rebuilt", "decision", "told"),
    [
        (True, Decision.APPROVED, "25.8 s"),
        (True, Decision.REFUSED, "25.8 s"),
        (False, Decision.APPROVED, "unchanged"),
        (False, Decision.REFUSED, "-"),
    ],
)
def test_a_build_tells_its_time_and_what_never_came_to_be_built_is_not_unchanged(rebuilt, decision, told):
    assert build_words(row(rebuilt=rebuilt, decision=decision)) == told


def test_a_bound_just_under_its_limit_does_not_read_as_the_limit():
    page = Page(render(release(row(loss=0.0, loss_lower=-0.07, loss_upper=0.0998, threshold=0.1)), []))
    assert "to +0.0998" in page.text
    assert "-0.00" not in Page(render(release(row(loss=-0.0001)), [])).text


def repaired(shipped: Precision = Precision.FP16) -> RepairJournal:
    """An INT8 graph that gives nonsense, a mixed one that loses too much, and a wider one."""
    int8, wide = GraphChoice(precision=Precision.INT8, method=CalibrationMethod.ENTROPY), GraphChoice(precision=shipped)
    mixed = int8.model_copy(update={"wider": ("y1", "y2")})
    return RepairJournal(
        metric="accuracy",
        unit=LossUnit.ABSOLUTE_POINTS,
        limit=2.0,
        samples=500,
        operators=54,
        steps=(
            RepairStep(choice=int8, loss=100, loss_upper=100, accepted=False, failure="NaN for sample 'a-7'"),
            RepairStep(choice=mixed, loss=12.5, loss_upper=14.25, accepted=False),
            RepairStep(choice=wide, loss=0.1, loss_upper=0.75, accepted=True),
        ),
        sensitive=(SensitiveOperator(output="conv_7", kind="Conv", error=0.31),),
        comparison=Comparison(precision=Precision.FP16, speedup=0.97, required=1.05),
        chosen=wide,
        reason="FP16: loss 0.10, after 2 that lose too much",
    )


def test_every_step_of_a_repair_is_told_with_its_figures(outcome_of):
    about = row(precision=Precision.FP16, asked=Precision.INT8)
    text = Page(render(release(about), [outcome_of(about, journal=repaired())])).text
    assert "FP16: loss 0.10, after 2 that lose too much" in text
    assert "INT8, entropy, 2 operators wider +12.50 pt +14.25 pt 2 pt ✕ over the limit" in text
    assert "✕ unusable NaN for sample 'a-7'" in text
    assert "FP16 +0.10 pt +0.75 pt 2 pt ✓ within the limit shipped to the gate" in text
    assert "conv_7 (Conv) 0.31" in text
    assert "0.97x FP16 1.05x asked for" in text
    assert "FP16 graph (INT8 asked for)" in text


def test_a_repair_that_found_nothing_says_so(outcome_of):
    about = row(decision=Decision.REFUSED, failure=FAILURE, **NOTHING)
    outcome = outcome_of(about, chosen=None, engine=None, attestation=None, evaluation=None)
    outcome = outcome.model_copy(update={"journal": repaired()})
    assert "✕ none 3" in Page(render(release(about), [outcome])).text


def test_calibration_provenance_names_method_samples_and_seal(outcome_of):
    about = row("na")
    outcome = outcome_of(about)
    text = Page(render(release(about), [outcome])).text
    told = text[text.index("Calibration provenance") :]
    sealed = [short(digest_bytes(content)) for content in (b"calibration set", b"graph", b"preprocessing", b"table")]
    for words in ("na cpu entropy 512", "na ✓ its own", *sealed):
        assert words in told
    foreign = Page(render(release(about), [outcome_of(about, sealed_to="eu")])).text
    assert "eu ✕ FOREIGN" in foreign


def test_evidence_holds_the_digests_in_full_and_the_machine(outcome_of):
    about = row("na")
    outcome = outcome_of(about)
    text = Page(render(release(about), [outcome])).text
    assert "Measured on Some CPU (avx2)" in text
    for digest in (outcome.build_key, outcome.policy, outcome.evaluation.results.digest):
        assert digest in text
    assert "10 INT8 and 1 FP32 kernels (kernels by type: 10 INT8, 1 FP32)" in text


def test_evidence_follows_the_table_whatever_the_order_of_outcomes(outcome_of):
    rows = [row("na"), row("eu"), row("jp")]
    outcomes = [outcome_of(about) for about in rows]
    assert render(release(*rows), outcomes) == render(release(*rows), outcomes[::-1])


def test_failed_data_checks_stand_with_the_refusal(outcome_of):
    check = CheckResult(
        expectation="mean as declared", split=Split.GATE, passed=False, expected="from 1 to 2", observed="77.7"
    )
    about = unjudged("na", Decision.REFUSED, failure=FAILURE)
    fine = check.model_copy(update={"passed": True, "observed": "1.5"})
    nothing = dict.fromkeys(("chosen", "engine", "attestation", "evaluation"))
    outcome = outcome_of(about, failure=FAILURE, checks=(fine, check), **nothing)
    text = Page(render(release(about), [outcome])).text
    refusals = text[text.index("What was refused") : text.index("Calibration provenance")]
    assert "77.7 ✕ FAILED" in refusals
    assert "1.5 passed" not in refusals
    assert "Data checks: 1 of 2 passed" in text


# ------------------------------------------------------------------------------------------------ plots


def positions(html: str, label: str) -> tuple[float, float]:
    """Where the interval of the line whose spoken label starts with `label` begins and ends, in percent."""
    drawn = html[html.index(f'aria-label="{label}') :]
    found = re.search(r'class="range" x1="([\d.]+)%" x2="([\d.]+)%"', drawn)
    assert found
    return float(found[1]), float(found[2])


def limit_of(html: str) -> float:
    found = re.search(r'class="limit" x1="([\d.]+)%"', html)
    assert found
    return float(found[1])


def test_one_bad_loss_does_not_squash_the_others():
    strict = row("de", loss=0.0, loss_lower=-0.07, loss_upper=0.07, threshold=0.1)
    html = render(release(row("na"), strict, drills=(over_threshold(),)), [])
    left, right = positions(html, "de on cpu-x86")
    assert right - left > 30
    bad = positions(html, "na, drill")
    assert bad[0] > limit_of(html)
    assert bad[1] == 100
    assert "failed, off the scale" in Page(html).text


@pytest.mark.parametrize(
    ("lower", "upper", "decision"),
    [(0.1, 0.99, Decision.APPROVED), (0.8, 1.2, Decision.INCONCLUSIVE), (1.01, 1.4, Decision.FAILED)],
)
@pytest.mark.parametrize("limit", [0.1, 3.0])
def test_an_interval_lies_on_the_side_of_the_limit_that_it_was_judged_by(lower, upper, decision, limit):
    bounds = {"loss_lower": lower * limit, "loss_upper": upper * limit, "loss": (lower + upper) / 2 * limit}
    html = render(release(row(decision=decision, threshold=limit, **bounds)), [])
    left, right = positions(html, "na on cpu-x86")
    assert (left < limit_of(html), right < limit_of(html)) == (lower < 1, upper < 1)


def test_a_limit_of_zero_has_no_scale_and_is_still_told():
    html = render(release(row(threshold=0.0, loss=0.5, decision=Decision.FAILED)), [])
    assert 'class="range"' not in html
    assert "no scale at a limit of 0" in Page(html).text


def test_every_plot_line_can_be_read_aloud():
    page = Page(render(release(row("na"), row("jp", speedup=0.5), drills=(over_threshold(),)), []))
    labels = [svg["aria-label"] for svg in page.all("svg") if svg.get("role") == "img"]
    assert labels[0] == "na on cpu-x86, INT8: loss +0.20 pt, interval +0.00 to +0.42, limit 2 pt, approved"
    assert labels[-1] == "jp on cpu-x86, INT8: 0.50 times as fast as FP32"
    assert len(labels) == 5


def test_slower_is_left_of_one_and_faster_is_right_of_it():
    html = render(release(row("na", speedup=4.0), row("jp", speedup=0.25), row("eu", speedup=60.0)), [])
    bars = [(float(x), float(width)) for x, width in re.findall(r'class="bar" x="([\d.]+)%" width="([\d.]+)%"', html)]
    assert bars[0][0] == pytest.approx(bars[1][0] + bars[1][1], abs=0.02)
    assert bars[0][1] == pytest.approx(bars[1][1], abs=0.02)
    assert bars[0][1] > 20
    assert all(x >= 0 and x + width <= 100.01 for x, width in bars)


# ------------------------------------------------------------------------------------------------ safety


def test_what_people_wrote_stays_text(outcome_of):
    failure = Failure(kind="Kind", expected=HOSTILE, found=HOSTILE, remedy=HOSTILE)
    drill = over_threshold().model_copy(update={"name": HOSTILE, "attempt": HOSTILE, "by": HOSTILE, "detail": HOSTILE})
    about = row("na", title=HOSTILE, reasons=(HOSTILE,))
    refused = unjudged("jp", Decision.REFUSED, title=HOSTILE, failure=failure)
    blocked = row("hk", decision=Decision.FAILED, reasons=(HOSTILE,), model_uri=HOSTILE)
    result = release(about, refused, blocked, drills=(drill,), model=HOSTILE, tracking_uri=HOSTILE)
    page = Page(render(result, [outcome_of(about)]))
    assert not page.all("script")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert page.text.count("<script>alert('1')</script>") >= 12
    assert "<script" not in markdown_table(result)


def test_the_page_refers_to_nothing_outside_itself(outcome_of):
    about = row("na")
    html = render(release(about, tracking_uri="https://mlflow.example"), [outcome_of(about)])
    page = Page(html)
    for tag in ("script", "link", "img", "iframe", "object", "embed", "base"):
        assert not page.all(tag)
    links = [value for _, attributes in page.elements for name, value in attributes.items() if name in ("href", "src")]
    assert links
    anchors = {attributes["id"] for _, attributes in page.elements if "id" in attributes}
    assert {link.removeprefix("#") for link in links} <= anchors
    assert not re.search(r"@import|url\(|xmlns", html)


def test_every_element_that_opens_closes(outcome_of):
    rows = [row("na"), unjudged("jp", Decision.REFUSED, failure=FAILURE), row("eu", decision=Decision.FAILED)]
    assert Page(render(release(*rows, drills=(over_threshold(),)), [outcome_of(rows[0])])).open == []


def test_what_the_owner_notes_is_shown():
    html = render(release(row(), note="Cameras are SIMULATED."), [])
    assert "Cameras are SIMULATED." in html


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours. Source: WCAG 2.2, relative luminance."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_text_has_enough_contrast_in_light_and_dark():
    schemes = re.findall(r":root \{(.*?)\}", render(release(), []), re.DOTALL)
    assert len(schemes) == 2
    for scheme in schemes:
        colour = dict(re.findall(r"--(\w+): (#\w{6})", scheme))
        for text in ("ink", "muted", "good", "bad", "doubt", "wait"):
            for ground in ("card", "ground"):
                assert contrast(colour[text], colour[ground]) >= 4.5, (text, ground)


# ------------------------------------------------------------------------------------------------ files and figures


def test_equal_input_gives_equal_bytes_and_the_json_reads_back(tmp_path, outcome_of):
    about = row("na")
    result, outcomes = release(about, drills=(over_threshold(),)), [outcome_of(about)]
    written = write_report(result, outcomes, tmp_path)
    path = tmp_path / "tiny-20260304T050607.html"
    first = path.read_bytes()
    assert written.report == str(path)
    assert written == ReleaseResult.model_validate_json(path.with_suffix(".json").read_bytes())
    assert written.model_copy(update={"report": None}) == result
    write_report(result, outcomes, tmp_path)
    assert path.read_bytes() == first
    assert {file.suffix for file in tmp_path.glob("*tiny-*")} == {".html", ".json"}


def test_times_are_shown_in_utc(tmp_path):
    eastern = datetime(2026, 3, 4, 0, 6, 7, tzinfo=timezone(timedelta(hours=-5)))
    written = write_report(release(started=eastern), [], tmp_path)
    assert str(written.report).endswith("tiny-20260304T050607.html")
    assert "04 March 2026, 05:06 UTC" in render(written, [])


def test_a_folder_that_cannot_be_written_is_a_storage_error(tmp_path):
    blocked = tmp_path / "reports"
    blocked.write_text("a file, not a folder")
    with pytest.raises(StorageError, match=r"tiny-20260304T050607\.html"):
        write_report(release(row()), [], blocked)


def test_figures_count_and_name_each_engine():
    rows = (row("na"), row("eu", decision=Decision.FAILED, loss_upper=0.0, model_uri=None))
    assert figures(release(*rows, unjudged("jp", Decision.NOT_ATTESTED))) == {
        "engines": 3,
        "approved": 1,
        "served": 1,
        "seconds": 113.3,
        "loss_upper/na-cpu-x86": 0.42,
        "loss_upper/eu-cpu-x86": 0.0,
        "speedup/na-cpu-x86": 2.44,
        "speedup/eu-cpu-x86": 2.44,
    }


def test_markdown_keeps_its_columns_and_tells_refusals_and_drills():
    failure = FAILURE.model_copy(update={"found": "a | b\nc"})
    result = release(
        row("na"),
        unjudged("jp", Decision.REFUSED, failure=failure, model_uri="models:/a|b"),
        row("hk", decision=Decision.INCONCLUSIVE, reasons=("more samples are needed",)),
        drills=(over_threshold(),),
    )
    text = markdown_table(result)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "| na | cpu-x86 | INT8 graph, 10 INT8 and 1 FP32 kernels | approved | +0.20 pt |" in text
    assert r"found a \| b c. Remedy: look at the calibration set" in text
    assert "**hk, inconclusive**: more samples are needed" in text
    assert "**Deliberate drill, over its threshold**: refused by gate, as it must be" in text
