"""Regiolect's own code and the libraries that make engines: a part of every build key."""

from __future__ import annotations

import functools
import importlib.metadata
from pathlib import Path

from regiolect.integrity import digest_file, digest_of


@functools.cache
def own_code() -> str:
    """Digest of everything of Regiolect's own that takes part in a release, data checks included: another version may
    build, or let through, another engine."""
    root = Path(__file__).parents[2]
    packages = ("regiolect", "data_checks", "tasks", "flows")
    files = sorted(file for name in packages for kind in ("*.py", "*.yaml") for file in (root / name).rglob(kind))
    return digest_of({str(file.relative_to(root)): digest_file(file) for file in files})


@functools.cache
def toolchain() -> str:
    """The libraries that export, calibrate and measure, whatever the backend, with their versions."""
    return ", ".join(f"{name} {_version(name)}" for name in ("numpy", "onnx", "onnxruntime", "onnxscript", "torch"))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
