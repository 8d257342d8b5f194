"""Python on an emulated Haswell: AVX2 and no VNNI, so that 8 x 8 bit products saturate there, whatever runs the tests.

For answers, never for speed: it is some thirty times as slow.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EMULATOR = "qemu-x86_64"
# What the emulator cannot do and would tell of at each start; no program here asks for it.
_WITHOUT = ("pcid", "x2apic", "tsc-deadline", "hle", "invpcid", "rtm")
_FLAGS = "fpu sse sse2 pni ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand bmi1 avx2 bmi2 erms"
# Of a processor's own account of itself, which the emulator would show as the host's.
_CPUINFO = f"""processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel Core Processor (Haswell)
flags\t\t: {_FLAGS}

"""


def emulator(path: str | None = None) -> str:
    """The emulator, from `path` if it is given, else from PATH; the test fails without it."""
    found = shutil.which(EMULATOR, path=path)
    if found is None:
        pytest.fail(f"no {EMULATOR}, to run on a processor without VNNI: apt-get install qemu-user", pytrace=False)
    return found


def python_on_haswell(folder: Path, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run this Python there; its own child processes run on the host's processor.

    Args:
        folder: where files lie that stand before the host's of the same path.
        arguments: as the command line has them.
        seconds: how long it may take.
    """
    (folder / "proc").mkdir(parents=True)
    (folder / "proc" / "cpuinfo").write_text(_CPUINFO)
    processor = ",".join(["Haswell", *(f"-{flag}" for flag in _WITHOUT)])
    command = [emulator(), "-L", str(folder), "-cpu", processor, sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds)
