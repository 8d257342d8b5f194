"""Fixtures over `cases`: decisions under stated rules, and results in slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import pytest

from regiolect.contracts import GateDecision
from regiolect.evaluate.results import PairedResults
from tests.unit.gate import cases


class Decide(Protocol):
    """Decides on results under `accuracy` (limit 0.5, unless stated) and other rules of a policy."""

    def __call__(
        self,
        rows: PairedResults,
        accuracy: Mapping[str, Any] | None = None,
        timing: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> GateDecision: ...


@pytest.fixture
def decide() -> Decide:
    def decided(
        rows: PairedResults,
        accuracy: Mapping[str, Any] | None = None,
        timing: Mapping[str, Any] | None = None,
        **rules: Any,
    ) -> GateDecision:
        policy = cases.policy(accuracy=dict(accuracy or {}), **rules)
        return cases.decide(rows, policy, timing=cases.BOUNDED | dict(timing or {}))

    return decided


def table(counts: Mapping[str, tuple[int, int, int]]) -> PairedResults:
    """Right/wrong results in slices of `device`: (samples, lost, gained) by device."""
    parts = []
    for device, (n, lost, gained) in counts.items():
        reference, engine = np.ones(n), np.ones(n)
        engine[:lost] = 0
        reference[lost : lost + gained] = 0
        parts.append((np.full(n, device), reference, engine))
    device, reference, engine = (np.concatenate(column) for column in zip(*parts, strict=True))
    return PairedResults(tuple(f"s{i:06d}" for i in range(len(device))), reference, engine, {"device": device})


@pytest.fixture
def by_device():
    """`table`, for tests: right/wrong results in slices of `device`, (samples, lost, gained) by device."""
    return table
