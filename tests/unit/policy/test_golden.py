"""Policies of earlier formats go on reading, and go on being the same policies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regiolect.contracts import CalibrationMethod, Execution, LossUnit, Performance, Precision
from regiolect.errors import PolicyTooNew
from regiolect.policy import PolicyBook

GOLDEN = Path(__file__).parents[2] / "golden" / "policies_v1"
DIGESTS, DEMANDS = (json.loads((GOLDEN / f"{name}.json").read_text()) for name in ("digests", "demands"))


@pytest.mark.parametrize("region", sorted(DIGESTS))
def test_a_policy_of_format_1_keeps_its_digests(region: str) -> None:
    policy = PolicyBook(GOLDEN).load(region)
    assert (policy.digest(), policy.demands_digest()) == (DIGESTS[region], DEMANDS[region]), (
        "engines are signed over the first and kept under the second: give a field that came later a default that asks "
        "for nothing, and leave it out where it says that, with Field(exclude_if=...)"
    )


def test_every_field_of_format_1_still_says_what_it_said() -> None:
    policy = PolicyBook(GOLDEN).load("whole")
    assert (policy.precision, policy.forbidden) == (Precision.INT8, (Execution.BF16, Execution.TF32))
    assert (policy.accuracy.unit, policy.accuracy.confidence) == (LossUnit.RELATIVE_PERCENT, 0.99)
    assert policy.latency is not None and policy.latency.p99_ms == 12.5
    assert (policy.performance, policy.batch.buckets) == (Performance.THROUGHPUT, (16, 32))
    assert (policy.shapes["width"].buckets, policy.shapes["height"].opt) == ((320, 640), 48)
    assert (policy.calibration.method, policy.calibration.max_age_days) == (CalibrationMethod.PERCENTILE, 90)
    assert (policy.repair.steps, policy.repair.fallback) == (6, (Precision.FP16, Precision.FP32))
    assert policy.repair.least_speedup == 1.25
    assert (policy.samples.calibration, policy.samples.selection, policy.samples.gate) == (512, 1000, 4000)
    assert [(target.name, target.backend) for target in policy.targets][1] == ("gpu-rtx", "tensorrt")
    assert policy.approval is not None and policy.approval.wait_minutes == 30
    assert (policy.nightly.cron, policy.nightly.timezone) == ("30 1 * * *", "Asia/Tokyo")
    child = PolicyBook(GOLDEN).load("child")
    assert (child.accuracy.limit, child.accuracy.confidence, child.samples.selection) == (1.0, 0.99, 1000)


def test_a_file_without_a_format_is_of_format_1() -> None:
    assert "format" not in (GOLDEN / "plain.yaml").read_text()
    assert PolicyBook(GOLDEN).load("plain").format == 1


def test_a_policy_of_a_newer_format_is_refused_by_name_and_nothing_else_of_it_is_judged(tmp_path: Path) -> None:
    text = (GOLDEN / "whole.yaml").read_text().replace("format: 1\n", "format: 2\nfairness: {}\n")
    (tmp_path / "whole.yaml").write_text(text)
    (tmp_path / "child.yaml").write_text((GOLDEN / "child.yaml").read_text())
    for region in ("whole", "child"):
        with pytest.raises(PolicyTooNew) as refused:
            PolicyBook(tmp_path).load(region)
        assert str(tmp_path / "whole.yaml") in refused.value.expected
        assert refused.value.found == "line 2: format: 2, which a newer Regiolect wrote"
        assert "upgrade" in refused.value.remedy
