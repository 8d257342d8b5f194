"""Calibration: clip thresholds of a model's activations from a region's own data, in one streaming pass, sealed."""

from __future__ import annotations

from regiolect.calibrate.observe import calibrate, observe, tensors_to_observe
from regiolect.calibrate.seal import require_own, seal

__all__ = ["calibrate", "observe", "require_own", "seal", "tensors_to_observe"]
