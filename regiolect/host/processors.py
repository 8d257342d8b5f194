"""How many processors this process may use: the one place that counts them.

Two things bound it: the processors that the system may run it on (affinity: `taskset`, a cgroup's cpuset), and the time
that its cgroup may take of them (quota: a container's `--cpus`, a pod's limit). Libraries ask for the first at best.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from regiolect.host.cgroups import limit_files

_PROCESS = Path("/proc/self")
_TOPOLOGY = Path("/sys/devices/system/cpu")
_CPU_MAX, _CFS_QUOTA, _CFS_PERIOD = "cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"


def processors(limits: Iterable[Path] | None = None) -> int:
    """Processors that this process may keep busy, at least 1.

    A quota is rounded down: with a thread more than its quota pays for, a process stands still for the rest of every
    period, all of its threads at once. So a quota of 1.5 processors is 1, and one of 0.5 is 1 as well. Of several
    quotas the tightest counts. Cheap, and asked anew each time, since both bounds may change while a process runs.

    Args:
        limits: files that state quotas, `cpu.max` of cgroup v2 or `cpu.cfs_quota_us` of v1 with its period beside it;
            by default those of this process's cgroup and of every one above it that can be seen from here.
    """
    found = [quota for limit in (quota_files() if limits is None else limits) if (quota := _quota(limit)) is not None]
    return max(1, int(min([len(allowed()), *found])))


def physical_cores() -> int:
    """Cores among those processors: two hardware threads of a core share what multiplies, so one thread fills it.

    `processors()` where the system does not tell which processors share a core.
    """
    cores = {_siblings(number) for number in allowed()}
    return min(len(cores), processors())


def processor_counts() -> tuple[int, ...]:
    """The powers of two up to `processors`, and that itself: numbers of threads or streams that are worth trying."""
    most = processors()
    return tuple(sorted({*(1 << power for power in range(most.bit_length())), most}))


def quota_files(process: Path = _PROCESS) -> tuple[Path, ...]:
    """The files in which quotas on a process's time may stand: in its cgroup and in each one above, v2 and v1.

    Args:
        process: its folder in /proc.
    """
    return limit_files("cpu", _CPU_MAX, _CFS_QUOTA, process)


def _quota(limit: Path) -> float | None:
    """Processors that a file pays for; None if it states no bound, or is not there."""
    try:
        quota, *period = limit.read_text().split()
        if limit.name == _CFS_QUOTA:
            period = [(limit.parent / _CFS_PERIOD).read_text()]
        return int(quota) / int(period[0]) if quota != "max" and int(quota) > 0 else None
    except (OSError, ValueError, IndexError, ZeroDivisionError):
        return None


def allowed() -> frozenset[int]:
    """Numbers of the processors on which the system may run this process, whatever its quota."""
    affine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return frozenset(affine)


def _siblings(number: int) -> str:
    """The processors that share a core with one, as the system writes them; that one alone if it does not."""
    try:
        return (_TOPOLOGY / f"cpu{number}" / "topology" / "thread_siblings_list").read_text().strip()
    except OSError:
        return str(number)
