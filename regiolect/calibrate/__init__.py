"""Calibration: clip thresholds of a model's activations from a region's own data, in one streaming pass, sealed."""

from __future__ import annotations

from regiolect.calibrate.observe import calibrate, observe, tensors_to_observe
from regiolect.calibrate.seal import Observed, require_own, seal, table_of

__all__ = ["Observed", "calibrate", "observe", "require_own", "seal", "table_of", "tensors_to_observe"]
