"""The page's proof of precision: every engine with its counts and its layers by name, and never without bound."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from regiolect.attest import read_layers
from regiolect.contracts import (
    Decision,
    Execution,
    LayerReport,
    Layers,
    Precision,
    RegionOutcome,
    ReleaseResult,
    ReleaseRow,
)
from regiolect.integrity import canonical_json
from regiolect.report import layers_of, render
from regiolect.report.layers import FEWEST_OF_ONE, MOST_OF_ALL, MOST_OF_ONE, most_lines

Outcome = Callable[..., RegionOutcome]


@pytest.fixture
def outcome(bundles) -> Outcome:
    """An approved FP32 engine's outcome; its layers can be exchanged."""

    def make(region: str = "eu", change: Callable[[Layers], Layers] | None = None) -> RegionOutcome:
        made = bundles.outcome(bundles.artifact(region))
        attestation = made.attestation
        if change is not None:
            layers = change(read_layers(attestation, bundles.store.path_of(attestation.layers).read_bytes()))
            attestation = attestation.model_copy(
                update={
                    "executed": layers.executed() or None,
                    "graph": layers.graph_counts(),
                    "layers": bundles.store.put_bytes(canonical_json(layers)),
                }
            )
        return made.model_copy(update={"attestation": attestation})

    return make


def page(bundles, *outcomes: RegionOutcome) -> str:
    nothing = dict.fromkeys(
        [
            *("loss", "loss_lower", "loss_upper", "threshold", "unit", "confidence", "samples"),
            *("speedup", "p50_ms", "p99_ms", "model_uri", "failure"),
        ]
    )
    rows = [
        ReleaseRow(
            **nothing,
            region=each.region,
            title=each.title,
            target=each.target.name,
            backend=each.target.backend,
            precision=each.precision,
            executed=each.attestation.summary(),
            decision=each.decision,
            rebuilt=True,
            seconds=1.0,
            build_key=each.build_key,
            reasons=each.reasons,
        )
        for each in outcomes
    ]
    result = ReleaseResult(
        model="tiny", started=datetime(2026, 3, 4, tzinfo=UTC), seconds=1.0, rows=tuple(rows), tracking_uri="sqlite://"
    )
    return render(result, outcomes, layers_of(outcomes, lambda region: bundles.store))


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def test_counts_fusion_strength_and_every_layer_are_told(bundles, outcome):
    html = page(bundles, outcome())
    said = text(html)
    assert "eu cpu 3 FP32 2 FP32 3 → 2 each kernel names the type that it computes in a test" in said
    assert "stem/Conv Convolution FP32 stem/Conv , stem/Relu f32, brgconv_avx512_f32" in said
    assert "1 further layer only moves or converts values" in said
    assert "INFERENCE_PRECISION_HINT=f32" in said
    assert "FP32 stem/Conv , stem/Relu , head/Gemm" in said
    assert "attestations/cpu.json" in said
    assert "too coarse" not in said
    assert "<details open>" not in html


def test_a_large_engine_does_not_make_a_large_page(bundles, outcome):
    def large(layers: Layers) -> Layers:
        kernels = tuple(
            LayerReport(name=f"kernel-{i}", kind="Convolution", precision=Execution.FP32, told="f32")
            for i in range(5000)
        )
        wrong = LayerReport(name="late", kind="Convolution", precision=Execution.BF16, told="bf16")
        return layers.model_copy(update={"engine": (*kernels, wrong)})

    html = page(bundles, outcome(change=large))
    assert html.count("kernel-") == MOST_OF_ONE - 1
    assert "4,701 more kernels are in the file" in text(html)
    assert "late Convolution BF16 ✕ too coarse" in text(html)  # whatever is wrong is never what is left out
    assert len(html) < 200_000
    assert (most_lines(1), most_lines(100), most_lines(10_000)) == (MOST_OF_ONE, MOST_OF_ALL // 100, FEWEST_OF_ONE)


def test_an_engine_that_did_not_run_shows_the_nodes_of_its_graph(bundles, outcome):
    made = outcome(change=lambda layers: layers.model_copy(update={"engine": ()}))
    attestation = made.attestation.model_copy(update={"source": "not run: no driver", "strength": None})
    said = text(page(bundles, made.model_copy(update={"attestation": attestation, "decision": Decision.NOT_ATTESTED})))
    assert "3 FP32 ◌ unknown 3 → ? not run: no driver" in said
    assert "Compute nodes of the typed graph by type FP32 stem/Conv" in said


def test_layers_that_cannot_be_read_are_told_and_hide_nothing_else(bundles, outcome):
    lost, whole = outcome("na"), outcome("eu")
    bundles.store.path_of(lost.attestation.layers).write_bytes(b"changed")
    said = text(page(bundles, lost, whole))
    assert "Layers are not listed: " in said
    assert "stem/Conv Convolution FP32" in said
    older = lost.model_copy(update={"attestation": lost.attestation.model_copy(update={"layers": None})})
    assert "attested before layers were kept" in text(page(bundles, older))


def test_names_stay_text(bundles, outcome):
    hostile = "<script>alert(1)</script>"

    def named(layers: Layers) -> Layers:
        layer = LayerReport(name=hostile, kind=hostile, precision=Execution.FP32, told=hostile, nodes=(hostile,))
        node = layers.graph[0].model_copy(update={"name": hostile})
        return layers.model_copy(update={"engine": (layer,), "graph": (node,), "settings": {hostile: hostile}})

    made = outcome(change=named)
    html = page(bundles, made)
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 7
    assert made.attestation.graph[Precision.FP32] == 1
