"""What processor this is, as far as an engine cares. Cheap: `plan` asks on every call."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

UNKNOWN = "unknown"


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
