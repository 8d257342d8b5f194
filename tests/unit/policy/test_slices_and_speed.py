"""What a policy may say of slices and speed, what a child may change of it, and what it does to the digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.errors import InvalidPolicy, PolicyLoosens
from regiolect.policy import AccuracyLimit, PolicyBook, RegionPolicy

PARENT = """
region: parent
title: Parent
reason: The parent of every policy in this test folder.
precision: FP16
accuracy:
  metric: accuracy
  limit: 0.5
  least: 0.8
  regression: 1.0
  slices: {by: [label, device], limit: 2.0, least_samples: 100, expected: {device: [phone, scanner]}}
speed: {least_throughput: 200, least_speedup: 1.5}
targets:
  - {name: cpu-x86, backend: openvino}
"""


def child(folder: Path, text: str) -> RegionPolicy:
    (folder / "parent.yaml").write_text(PARENT)
    reason = "reason: Extends its parent for the purpose of a test."
    (folder / "child.yaml").write_text(f"region: child\ntitle: Child\n{reason}\nextends: parent\n{text}")
    return PolicyBook(folder).load("child")


def test_a_child_inherits_slices_and_speed_and_may_tighten_each(tmp_path: Path) -> None:
    policy = child(
        tmp_path, "accuracy: {slices: {by: [label, device, light], limit: 1}}\nspeed: {least_speedup: 2}\nlatency: null"
    )
    assert policy.accuracy.slices is not None
    assert policy.speed is not None
    assert (policy.accuracy.slices.by, policy.accuracy.slices.limit) == (("label", "device", "light"), 1.0)
    assert policy.accuracy.slices.expected == {"device": ("phone", "scanner")}
    assert (policy.speed.least_throughput, policy.speed.least_speedup) == (200, 2)


@pytest.mark.parametrize(
    ("loosening", "named"),
    [
        ("accuracy: {slices: null}", "accuracy.slices is left out"),
        ("accuracy: {slices: {by: [label], expected: null}}", "expected"),
        ("accuracy: {slices: {by: [device]}}", "accuracy.slices.by no longer lists label"),
        ("accuracy: {slices: {limit: 2.5}}", "accuracy.slices.limit 2.5 above 2"),
        ("accuracy: {slices: {least_samples: 99}}", "accuracy.slices.least_samples 99 below 100"),
        ("accuracy: {slices: {expected: {device: [phone]}}}", "expected no longer lists device scanner"),
        ("accuracy: {least: 0.7}", "accuracy.least 0.7 below 0.8"),
        ("accuracy: {least: null}", "accuracy.least none below 0.8"),
        ("accuracy: {regression: 1.1}", "accuracy.regression 1.1 above 1"),
        ("speed: null", "speed is left out"),
        ("speed: {least_throughput: 199}", "speed.least_throughput 199 below 200"),
        ("speed: {least_speedup: null}", "speed.least_speedup none below 1.5"),
        ("batch: {opt: 1}", "so that speed would be measured on something else"),
        ("performance: throughput", "so that speed would be measured on something else"),
    ],
)
def test_a_child_that_loosens_is_refused_by_field(tmp_path: Path, loosening: str, named: str) -> None:
    with pytest.raises((PolicyLoosens, InvalidPolicy)) as caught:
        child(tmp_path, loosening)
    assert named in caught.value.found


def test_a_slice_limit_that_is_not_stated_follows_that_of_the_whole(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT.replace("limit: 2.0, ", "limit: 0.4, "))
    (tmp_path / "child.yaml").write_text(
        "region: child\ntitle: Child\nreason: Extends its parent for the purpose of a test.\nextends: parent\n"
        "accuracy: {slices: {limit: null}}"
    )
    book = PolicyBook(tmp_path)
    with pytest.raises(PolicyLoosens, match=r"accuracy\.slices\.limit 0\.5 above 0\.4"):
        book.load("child")


def test_a_child_cannot_drop_or_raise_the_median_latency(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT + "latency: {p50_ms: 20, p99_ms: 50}\n")
    for stated, told in (("{p50_ms: 21}", "latency.p50_ms 21, above 20"), ("{p50_ms: null}", "p50_ms none, above 20")):
        (tmp_path / "child.yaml").write_text(
            "region: child\ntitle: Child\nreason: Extends its parent for the purpose of a test.\nextends: parent\n"
            f"latency: {stated}"
        )
        with pytest.raises(PolicyLoosens) as caught:
            PolicyBook(tmp_path).load("child")
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("slices: {by: []}", "accuracy.slices.by"),
        ("slices: {by: [device, device]}", "each once"),
        ("slices: {by: [device], expected: {devise: [a]}}", "did you mean 'device'?"),
        ("slices: {by: [device], expected: {device: []}}", "needs values"),
        ("slices: {by: [device], limt: 1}", "did you mean 'limit'?"),
        ("slices: {by: [device], limit: -1}", "greater than or equal to 0"),
        ("slices: {by: [device], limit: .nan}", "accuracy.slices.limit"),
        ("slices: {by: [device], least_samples: 0}", "greater than 0"),
    ],
)
def test_mistakes_are_told_with_the_nearest_name(tmp_path: Path, wrong: str, told: str) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT.replace("slices: {by: [label, device],", f"{wrong}\n  #"))
    with pytest.raises(InvalidPolicy) as caught:
        PolicyBook(tmp_path).load("parent")
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("stated", "wrong", "told"),
    [("least: 0.8", "least: 80", "accuracy.least"), ("regression: 1.0", "regression: -1", "accuracy.regression")],
)
def test_a_floor_is_a_share_and_a_regression_is_no_gain(tmp_path: Path, stated: str, wrong: str, told: str) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT.replace(stated, wrong))
    with pytest.raises(InvalidPolicy) as caught:
        PolicyBook(tmp_path).load("parent")
    assert told in str(caught.value)


def test_a_speed_that_says_nothing_is_a_mistake(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(PARENT.replace("{least_throughput: 200, least_speedup: 1.5}", "{}"))
    with pytest.raises(InvalidPolicy, match="least_throughput, least_speedup or both"):
        PolicyBook(tmp_path).load("parent")


def test_what_is_not_stated_leaves_the_digest_as_it_was_before_such_rules_were_known() -> None:
    kept = AccuracyLimit(metric="accuracy", limit=0.5).model_dump(mode="json")
    assert sorted(kept) == ["confidence", "limit", "metric", "unit"]
    whole = PolicyBook().load("de").model_dump(mode="json")
    assert "speed" not in whole
    assert whole["latency"] == {"p99_ms": 100.0}
