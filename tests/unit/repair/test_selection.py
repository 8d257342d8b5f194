"""What a selection set can tell at all: whether any engine could be surely within the limit by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from regiolect.data import Samples
from regiolect.evaluate.metrics import top1
from regiolect.policy import RegionPolicy
from regiolect.repair.selection import Selection

POLICY: dict[str, Any] = {
    "region": "na",
    "title": "North America",
    "reason": "A policy that exists to be tested, and for nothing else.",
    "precision": "INT8",
    "targets": ({"name": "cpu-x86", "backend": "openvino"},),
}


def selection(store: Any, **accuracy: Any) -> Selection:
    """A set of 500 of which every tenth is answered wrong, three of them of class 1; the gate has 2,000."""
    labels = (np.arange(500) < 3).astype(np.int64)
    samples = Samples(
        ids=np.asarray([f"s{number}" for number in range(500)]),
        regions=np.full(500, "na"),
        inputs={"x": np.zeros((500, 1), np.float32)},
        targets=labels,
    )
    reference = (np.arange(500) % 10 > 0).astype(np.float64)
    policy = RegionPolicy.model_validate(POLICY | {"accuracy": {"metric": "accuracy", **accuracy}})
    return Selection(samples, {}, reference, top1, policy, 2000, store)


@pytest.mark.parametrize(
    ("accuracy", "within", "slice_"),
    [
        ({"limit": 0.5}, True, None),
        ({"limit": 0.1}, False, None),
        ({"limit": 0.5, "slices": {"by": ("label",)}}, True, "label=1"),
        ({"limit": 0.5, "slices": {"by": ("label",), "limit": 50.0}}, True, None),
    ],
)
def test_what_even_the_references_own_answers_would_show(
    bundles, accuracy: dict[str, Any], within: bool, slice_: str | None
) -> None:
    reachable = selection(bundles.store, **accuracy).reachable
    assert (reachable.loss, reachable.slice) == (0.0, slice_)
    assert (reachable.upper <= accuracy["limit"]) is within
