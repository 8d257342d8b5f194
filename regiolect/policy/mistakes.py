"""One validation error of a policy file in a line: where, what, and the nearest valid name for a typo."""

from __future__ import annotations

import difflib
import functools
from typing import Any

from regiolect.contracts import BatchProfile, Target
from regiolect.policy.rules import (
    AccuracyLimit,
    ApprovalRules,
    CalibrationRules,
    LatencyLimit,
    NightlyRules,
    RegionPolicy,
    RepairRules,
    SampleMinimum,
    SliceRules,
    SpeedLimit,
)


@functools.cache
def _known_keys() -> frozenset[str]:
    models = (
        *(RegionPolicy, AccuracyLimit, LatencyLimit, CalibrationRules, SampleMinimum, BatchProfile, Target),
        *(NightlyRules, ApprovalRules, RepairRules, SliceRules, SpeedLimit),
    )
    return frozenset(name for model in models for name in model.model_fields)


def explained(mistake: Any) -> str:
    """A mistake as pydantic tells it, for people."""
    where = ".".join(str(part) for part in mistake["loc"]) or "the policy as a whole"
    if mistake["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(mistake["loc"][-1]), _known_keys(), n=1)
        return f"unknown field {where!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    if mistake["type"] == "missing":
        return f"{where!r} is missing"
    return f"{where}: {mistake['msg']}, found {mistake['input']!r}"
