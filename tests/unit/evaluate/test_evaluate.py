"""Evaluation of real engines on simulated samples: what is measured, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from onnx import helper

from regiolect.contracts import Blob, OperatingPoint, Performance, Split, TunedEngine
from regiolect.errors import ForeignSamples, InvalidModelSpec, InvalidResults, InvalidSamples, ReferenceFailed
from regiolect.evaluate.evaluate import evaluate_engine, fp32_baseline
from regiolect.evaluate.metrics import top1
from regiolect.evaluate.reference import reference_outputs
from regiolect.evaluate.results import PairedResults
from regiolect.integrity import digest_bytes
from regiolect.model import Measure
from regiolect.policy import AccuracyLimit, LatencyLimit, SliceRules, SpeedLimit


def test_engine_and_reference_are_scored_on_the_same_samples(lab) -> None:
    samples = lab.samples()
    found = lab.evaluate(gate=lab.gate(samples))
    assert (found.reference_score, found.engine_score, found.samples) == (1.0, 1.0, 60)
    assert found.dataset == lab.gate(samples).digest
    rows = PairedResults.from_csv(lab.store.path_of(found.results))
    assert rows.sample_ids == tuple(samples.ids)


def test_an_engine_that_answers_wrong_loses_what_it_loses(lab, dense_graph) -> None:
    model = lab.exported(lab.spec())
    wrong = lab.engine(model, dense_graph(helper.make_node("Neg", ["x"], ["n"]), start="n"))
    found = lab.evaluate(artifact=wrong)
    assert found.reference_score == 1.0
    assert found.engine_score < 0.5


# ------------------------------------------------------------------------------------------------ not a number


def test_a_row_with_nan_is_no_right_answer() -> None:
    logits = np.array([[0, np.nan, 9], [0, 9, 1], [np.nan] * 3])
    assert top1({"y": logits}, np.array([1, 1, 0])).tolist() == [False, True, False]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_engine_that_gives_no_numbers_is_refused_by_its_samples(lab, dense_graph, value) -> None:
    # 0 / 0 or 1 / 0 where the first feature is positive, the answer itself elsewhere.
    nodes = (
        helper.make_node("Slice", ["x", "first", "second", "axis"], ["f"]),
        helper.make_node("Greater", ["f", "zero"], ["g"]),
        helper.make_node("Where", ["g", "broken", "zero"], ["b"]),
        helper.make_node("Add", ["m", "b"], ["y"]),
    )
    constants = {"first": [0], "second": [1], "axis": [1], "zero": np.float32([0]), "broken": np.float32([value])}
    broken = dense_graph(*nodes, end="m", **{name: np.asarray(constant) for name, constant in constants.items()})
    model, samples = lab.exported(lab.spec()), lab.samples()
    hit = samples.ids[samples.inputs["x"][:, 0] > 0]
    with pytest.raises(InvalidResults) as failure:
        lab.evaluate(model=model, artifact=lab.engine(model, broken), gate=lab.gate(samples))
    assert failure.value.expected == "finite values in output 'y' of the engine"
    for name in hit[:5]:
        assert repr(str(name)) in failure.value.found
    assert repr(str(hit[5])) not in failure.value.found
    assert f"and {len(hit) - 5} more, {len(hit)} of 60" in failure.value.found


def test_a_reference_that_gives_no_numbers_is_refused_even_if_the_engine_agrees(lab, dense_graph) -> None:
    broken = dense_graph(helper.make_node("Log", ["x"], ["l"]), start="l")
    model = lab.exported(lab.spec())
    nowhere = model.model_copy(update={"reference": lab.store.put_bytes(broken.SerializeToString())})
    with pytest.raises(InvalidResults, match="of the reference"):
        lab.evaluate(model=nowhere, artifact=lab.engine(model, broken))


# ------------------------------------------------------------------------------------------------ whose samples


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"split": Split.SELECTION}, "selection set of region 'eu'"),
        ({"split": Split.CALIBRATION}, "calibration set of region 'eu'"),
        ({"region": "na"}, "gate set of region 'na'"),
    ],
)
def test_only_the_regions_own_gate_set_is_taken(lab, changes, found) -> None:
    with pytest.raises(ForeignSamples, match=found):
        lab.evaluate(gate=lab.gate(lab.samples(), **changes))


def test_a_foreign_sample_in_the_gate_set_is_named(lab) -> None:
    samples = lab.samples()
    tags = samples.regions.copy()
    tags[[7, 9]] = "na"
    with pytest.raises(ForeignSamples, match="2 of another, the first 'eu-007' of 'na'"):
        lab.evaluate(gate=lab.gate(replace(samples, regions=tags)))


def test_a_set_of_another_size_than_recorded_is_refused(lab) -> None:
    with pytest.raises(InvalidSamples, match="61 samples"):
        lab.evaluate(gate=lab.gate(lab.samples()).model_copy(update={"samples": 61}))


# ------------------------------------------------------------------------------------------------ the metric


@pytest.mark.parametrize(
    ("scores", "found"),
    [
        (np.ones(59), r"shape \(59,\)"),
        (np.float64(1.0), r"shape \(\)"),
        (np.ones((60, 1)), r"shape \(60, 1\)"),
        (np.where(np.arange(60) == 3, np.nan, 1.0), "nan for sample 'eu-003'"),
        ([[1], [1, 0]], "inhomogeneous"),
        (np.ma.masked_less(np.arange(60) / 60, 0.5), "30 of 60 masked"),
    ],
)
def test_a_metric_must_give_one_finite_score_a_sample(lab, always, scores, found) -> None:
    with pytest.raises(InvalidResults, match=found):
        lab.evaluate(spec=lab.spec(metrics={"accuracy": always(scores)}))


def errors(outputs, targets):
    return 1.0 - top1(outputs, targets)


def test_of_an_error_less_is_better_in_every_score_that_is_kept(lab, dense_graph) -> None:
    """Taken as it comes, an error rate makes the worst engine the best: a loss of -100 points in place of +100."""
    spec = lab.spec(metrics={"accuracy": Measure(errors, greater_is_better=False)})
    wrong = lab.engine(lab.exported(spec), dense_graph(helper.make_node("Neg", ["x"], ["n"]), start="n"))
    found = lab.evaluate(spec=spec, artifact=wrong)
    assert found.reference_score == 1.0
    assert found.engine_score < 0.5
    with pytest.raises(InvalidResults, match=r"errors in \[0, 1\].*found 3"):
        Measure(lambda outputs, targets: np.array([0.0, 3.0]), greater_is_better=False)({}, np.zeros(2))


@pytest.mark.parametrize("count", [60, 600])
@pytest.mark.parametrize("kind", [float, Decimal, Fraction])
def test_one_figure_of_all_samples_is_not_taken_for_a_score_of_each(lab, count, kind) -> None:
    def f1(outputs, targets):
        wrong = 0.25 + 0.5 * float(np.mean(targets == 0))
        return np.full(len(targets), kind(1.0 - wrong))

    with pytest.raises(InvalidResults, match="one figure of all, repeated"):
        lab.evaluate(spec=lab.spec(metrics={"accuracy": f1}), gate=lab.gate(lab.samples(count)))


@pytest.mark.parametrize("honest", [np.ones(60), np.zeros(60), np.where(np.arange(60) == 3, 0.5, 0.75)])
def test_scores_that_all_or_nearly_all_samples_share_are_taken(lab, always, honest) -> None:
    assert lab.evaluate(spec=lab.spec(metrics={"accuracy": always(honest)})).engine_score == honest.mean()


def test_a_metric_that_cannot_read_the_outputs_is_named_with_what_they_are(lab) -> None:
    def other(outputs, targets):
        return outputs["scores"]

    with pytest.raises(InvalidResults, match=r"reference: y \(60, 4\); found KeyError: 'scores'.*let the metric"):
        lab.evaluate(spec=lab.spec(metrics={"accuracy": other}))


def test_a_metric_that_the_model_lacks_is_named(lab) -> None:
    with pytest.raises(InvalidModelSpec, match=r"'f1'.*found metrics accuracy"):
        lab.evaluate(policy=lab.policy(accuracy=AccuracyLimit(metric="f1", limit=1.0)))


def test_what_the_policy_slices_by_goes_into_the_results(lab) -> None:
    samples = lab.samples()
    device = np.array(["phone", "scanner"] * 30)
    slices = SliceRules(by=("label", "device"))
    policy = lab.policy(accuracy=AccuracyLimit(metric="accuracy", limit=5.0, slices=slices))
    gate = lab.gate(replace(samples, attributes={"device": device}))
    found = lab.evaluate(gate=gate, policy=policy)
    rows = PairedResults.from_csv(lab.store.path_of(found.results))
    assert rows.columns["device"].tolist() == device.tolist()
    assert rows.columns["label"].tolist() == [str(label) for label in samples.targets]
    with pytest.raises(InvalidSamples, match="attribute 'device'"):
        lab.evaluate(policy=policy)


# ------------------------------------------------------------------------------------------------ latency


def test_a_limit_on_latency_is_timed_on_single_batches_until_it_can_be_bounded(lab) -> None:
    model = lab.exported(lab.spec())
    busy = lab.engine(model, performance=Performance.THROUGHPUT)
    free = lab.evaluate(model=model, artifact=busy).timing
    assert free.batches == 8
    limited = lab.evaluate(model=model, artifact=busy, policy=lab.policy(latency=LatencyLimit(p99_ms=50))).timing
    assert (limited.batch, limited.batches) == (4, 1)
    assert limited.rounds >= 299
    assert limited.p99_upper_ms is not None
    assert limited.p99_upper_ms >= limited.p99_ms
    assert limited.p50_upper_ms is not None
    assert limited.p50_ms <= limited.p50_upper_ms <= limited.p99_upper_ms
    assert limited.speedup_lower is not None
    assert limited.speedup_lower <= limited.speedup


@pytest.mark.parametrize(
    ("limits", "batch", "batches"),
    [({}, 16, 8), ({"speed": SpeedLimit(least_speedup=0.1)}, 4, 8), ({"latency": LatencyLimit(p99_ms=50)}, 4, 1)],
    ids=["no limit", "speed", "latency"],
)
def test_tuned_to_another_batch_it_is_timed_at_the_one_that_a_limit_is_on(
    lab, limits, batch: int, batches: int
) -> None:
    spec = lab.spec()
    model = lab.exported(spec)
    artifact = lab.engine(model, performance=Performance.THROUGHPUT)
    point = OperatingPoint(batch=16, configuration={}, at_once=1, p50_ms=1.0, p99_ms=1.0, throughput=16e3)
    tuning = TunedEngine(
        build_key=artifact.request.build_key,
        device={},
        default=point.model_copy(update={"batch": 4, "throughput": 4e3}),
        points=(point,),
        chosen=point,
        noise=0.0,
        journal=Blob(uri="file:///journal", digest=digest_bytes(b"journal"), size=7),
    )
    policy = lab.policy(performance=Performance.THROUGHPUT, **limits)
    found = evaluate_engine(spec, model, artifact, lab.gate(lab.samples()), policy, lab.store, tuning)
    assert (found.timing.batch, found.timing.batches) == (batch, batches)


def test_more_confidence_takes_more_rounds(lab) -> None:
    sure = lab.policy(
        latency=LatencyLimit(p99_ms=50), accuracy=AccuracyLimit(metric="accuracy", limit=5.0, confidence=0.99)
    )
    timing = lab.evaluate(policy=sure).timing
    assert timing.rounds >= 459
    assert timing.p99_upper_ms is not None


# ------------------------------------------------------------------------------------------------ the reference


def test_a_quantized_file_with_scales_too_small_shows_its_loss(lab, dense_graph, quantized_graph) -> None:
    fp32 = lab.folder / "fp32.onnx"
    fp32.write_bytes(dense_graph().SerializeToString())
    samples = lab.samples()
    fine = float(np.abs(samples.inputs["x"]).max() / 127)
    losses = []
    for scale in (fine, fine / 32):
        spec = lab.spec(quantized_graph(scale), reference=fp32)
        found = lab.evaluate(spec=spec, gate=lab.gate(samples))
        assert found.reference_score == 1.0
        losses.append(found.reference_score - found.engine_score)
    assert losses[0] < 0.1 < losses[1]


def test_the_baseline_of_a_float_model_in_which_values_pass_through_8_bits_is_the_model_as_it_is(
    lab, dense_graph
) -> None:
    """There is no FP32 graph of it to ship; what an engine's speed is compared with is there all the same."""
    through = (helper.make_node("Cast", ["x"], ["n"], to=3), helper.make_node("Cast", ["n"], ["m"], to=1))
    model = lab.exported(lab.spec(dense_graph(*through, start="m")))
    assert fp32_baseline(model, lab.engine(model).request, lab.store).request.graph == model.reference


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_the_speed_up_of_a_quantized_file_is_over_its_original(lab, dense_graph, quantized_graph, name) -> None:
    fp32 = lab.folder / "fp32.onnx"
    fp32.write_bytes(dense_graph().SerializeToString())
    spec = lab.spec(quantized_graph(0.03), reference=fp32)
    model = lab.exported(spec)
    artifact = lab.engine(model, backend=name)
    assert artifact.request.graph == model.graph != model.reference
    baseline = fp32_baseline(model, artifact.request, lab.store)
    assert baseline.request.graph == model.reference
    assert baseline.request.build_key != artifact.request.build_key
    assert lab.evaluate(spec=spec, model=model, artifact=artifact).timing.speedup > 0


def test_a_reference_that_cannot_be_loaded_or_run_is_a_named_error(lab, dense_graph) -> None:
    model = lab.exported(lab.spec())
    good = {"x": np.zeros((3, 8), np.float32)}
    assert reference_outputs(model, good, lab.store)["y"].shape == (3, 4)
    unreadable = model.model_copy(update={"reference": lab.store.put_bytes(b"no graph")})
    for told, inputs in ((unreadable, good), (model, {"x": np.zeros((3, 7), np.float32)}), (model, {"z": good["x"]})):
        with pytest.raises(ReferenceFailed) as failure:
            reference_outputs(told, inputs, lab.store)
        assert failure.value.__cause__ is not None
        assert "regiolect run MODEL --force" in failure.value.remedy


@pytest.mark.parametrize("batch", [1, 7, 64])
def test_the_batch_has_no_influence_on_the_reference(lab, batch) -> None:
    model, inputs = lab.exported(lab.spec()), lab.samples().inputs
    found = reference_outputs(model, inputs, lab.store, batch)["y"]
    np.testing.assert_allclose(found, reference_outputs(model, inputs, lab.store)["y"], atol=1e-6)
