"""Why a TensorRT-RTX plan is not run by this version."""

from __future__ import annotations

from pathlib import Path

# Linux's driver, and its stand-in under Windows' Linux subsystem.
_DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/dev/nvidia0"), Path("/dev/dxg"))


def obstacle() -> str:
    """What keeps plans from running on this machine. Plans are built and kept; this version has no runner for them."""
    if not any(path.exists() for path in _DRIVER_FILES):
        return "no NVIDIA driver on this machine"
    return "an NVIDIA driver, but this version of Regiolect builds and keeps TensorRT-RTX plans and does not run them"
