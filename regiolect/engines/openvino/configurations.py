"""What tuning tries on a processor through OpenVINO. Imports nothing of OpenVINO's."""

from __future__ import annotations

from pathlib import Path

from regiolect.contracts import Configuration, Performance
from regiolect.host.processors import processor_counts, processors

THREADS = "INFERENCE_NUM_THREADS"
HINTS = {Performance.LATENCY: "LATENCY", Performance.THROUGHPUT: "THROUGHPUT"}
TUNABLE = frozenset(
    {
        "ENABLE_CPU_PINNING",
        "ENABLE_HYPER_THREADING",
        THREADS,
        "NUM_STREAMS",
        "PERFORMANCE_HINT",
        "SCHEDULING_CORE_TYPE",
    }
)
# More would each get a smaller share of the time to measure them in.
_MOST_STREAMS = 6
_SIBLINGS = Path("/sys/devices/system/cpu/smt/active")
_SMALL_CORES = Path("/sys/devices/cpu_atom")


def configurations(performance: Performance) -> tuple[Configuration, ...]:
    """Numbers of streams, the other hint, threads that may move between cores, and what else this processor has.

    Args:
        performance: what the backend is asked for where nothing is tuned; its hint is the default.
    """
    other = next(hint for kind, hint in HINTS.items() if kind is not performance)
    streams = processor_counts()[-_MOST_STREAMS:]
    offered: list[Configuration] = [
        {},
        {"PERFORMANCE_HINT": other},
        *({"NUM_STREAMS": str(count)} for count in streams),
        {"ENABLE_CPU_PINNING": "NO"},
        {"PERFORMANCE_HINT": other, "ENABLE_CPU_PINNING": "NO"},
    ]
    if processors() > 2:
        # A processor that is left to the caller: it prepares inputs and copies outputs meanwhile.
        offered.append({THREADS: str(processors() - 1)})
    if _SIBLINGS.is_file() and _SIBLINGS.read_text().strip() == "1":
        offered.append({"ENABLE_HYPER_THREADING": "NO"})
    if _SMALL_CORES.exists():
        offered.append({"SCHEDULING_CORE_TYPE": "PCORE_ONLY"})
    return tuple(offered)
