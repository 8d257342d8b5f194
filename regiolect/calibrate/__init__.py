"""Calibration: clip thresholds of a model's activations from a region's own data, in one streaming pass, sealed."""

from __future__ import annotations

from regiolect.calibrate.archive import keep_observed, read_observed, table_from_bytes, table_to_bytes
from regiolect.calibrate.observe import calibrate, observe
from regiolect.calibrate.observed import Observed, Shard, merge_observed, table_of
from regiolect.calibrate.watched import tensors_to_observe

__all__ = [
    "Observed",
    "Shard",
    "calibrate",
    "keep_observed",
    "merge_observed",
    "observe",
    "read_observed",
    "table_from_bytes",
    "table_of",
    "table_to_bytes",
    "tensors_to_observe",
]
