"""The region matrix that the product promises, policy by policy."""

from __future__ import annotations

import pytest

from regiolect.contracts import Execution, LossUnit, Performance, Precision
from regiolect.engines import catalog
from regiolect.policy import PolicyBook

MATRIX = {
    "na": (Precision.INT8, 2.0),
    "eu": (Precision.FP16, 0.5),
    "de": (Precision.FP32, 0.1),
    "sea": (Precision.INT8, 3.0),
    "jp": (Precision.INT8, 1.5),
    "br": (Precision.FP16, 0.5),
    "in": (Precision.INT8, 3.0),
    "me": (Precision.FP16, 1.0),
    "hk": (Precision.INT8, 1.0),
}


def test_there_is_one_policy_per_region_of_the_matrix() -> None:
    assert set(PolicyBook().regions()) == set(MATRIX)


@pytest.mark.parametrize("region", sorted(MATRIX))
def test_precision_and_limit_are_those_of_the_matrix(region: str) -> None:
    policy = PolicyBook().load(region)
    assert (policy.precision, policy.accuracy.limit) == MATRIX[region]
    assert policy.accuracy.unit is LossUnit.ABSOLUTE_POINTS
    assert {target.backend for target in policy.targets} <= set(catalog.names())


def test_europe_forbids_int8_and_germany_everything_but_fp32() -> None:
    assert Execution.INT8 in PolicyBook().load("eu").forbidden
    germany = PolicyBook().load("de")
    assert set(germany.forbidden) == set(Execution) - {Execution.FP32}
    assert germany.extends == "eu"
    assert germany.latency is not None
    assert germany.latency.p99_ms == 100


def test_india_is_tuned_for_throughput_and_hong_kong_for_latency() -> None:
    assert PolicyBook().load("in").performance is Performance.THROUGHPUT
    hong_kong = PolicyBook().load("hk")
    assert (hong_kong.performance, hong_kong.batch.opt) == (Performance.LATENCY, 1)


def test_the_middle_east_pads_to_buckets() -> None:
    batch = PolicyBook().load("me").batch
    assert batch.buckets
    assert batch.buckets[-1] == batch.max
