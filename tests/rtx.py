"""TensorRT-RTX for tests: what the project installs must be there, or a promise would be skipped in silence."""

from __future__ import annotations

import importlib
import platform
import sys
from typing import Any

import pytest


def tensorrt_rtx() -> Any:
    """The module; a test is skipped only on machines for which there is no such library."""
    if (sys.platform, platform.machine()) == ("linux", "x86_64"):
        return importlib.import_module("tensorrt_rtx")
    return pytest.importorskip("tensorrt_rtx")
