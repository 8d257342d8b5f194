"""What machine this is, as far as an engine cares. Cheap: `plan` asks on every call."""

from __future__ import annotations

import functools
import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import ReadWriteLock

UNKNOWN = "unknown"
"""A fact that a machine does not tell. It is no value: two machines that do not tell need not be alike."""

# Instruction sets that change which kernels a backend picks, and so what an engine built here would be.
_TELLING = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "amx_fp16",
)


@functools.cache
def cpu_fingerprint() -> dict[str, str]:
    """Architecture, processor and the instruction sets that change kernels.

    Linux tells them in /proc/cpuinfo; elsewhere `isa` is `unknown`, which is a value of its own in a build key.
    """
    name, isa = platform.processor() or UNKNOWN, UNKNOWN
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = dict(line.split(":", 1) for line in cpuinfo.read_text().split("\n\n")[0].splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in lines.items()}
        name = fields.get("model name", name)
        flags = set((fields.get("flags") or fields.get("Features") or "").split())
        isa = " ".join(flag for flag in _TELLING if flag in flags) or "baseline"
    return {"machine": platform.machine(), "system": platform.system(), "cpu": name, "isa": isa}


@contextmanager
def sharing_machine() -> Iterator[None]:
    """Work that may run beside other work on this machine, but not beside a timing."""
    with _lock().read_lock():
        yield


@contextmanager
def whole_machine() -> Iterator[None]:
    """Wait for the machine to be quiet and keep it so: timings beside a neighbour's build measure the neighbour."""
    with _lock().write_lock():
        yield


def _lock() -> ReadWriteLock:
    folder = Path(tempfile.gettempdir()) / f"regiolect-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # One instance a use: an instance coordinates processes, and here the threads of one must wait for each other too.
    return ReadWriteLock(folder / "machine.db", is_singleton=False)
