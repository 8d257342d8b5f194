"""How much memory there is: of the machine, or of the tightest cgroup that this process is in."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from regiolect.host.cgroups import limit_files
from regiolect.host.memory import usable_memory

V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 23 0:30 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        ("0::/a.slice/b.service\n", V2, ["a.slice/b.service/memory.max", "a.slice/memory.max", "memory.max"]),
        ("5:memory:/a\n", V1, ["memory/a/memory.limit_in_bytes", "memory/memory.limit_in_bytes"]),
        ("5:cpu:/a\n", V1, []),
    ],
)
def test_limits_are_looked_for_in_the_own_cgroup_and_above(
    cgroup: str, mountinfo: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mountinfo)
    found = limit_files("memory", "memory.max", "memory.limit_in_bytes", tmp_path)
    assert [str(file.relative_to("/sys/fs/cgroup")) for file in found] == expected


def test_memory_is_what_the_machine_has_or_the_tightest_limit() -> None:
    assert 0 < usable_memory() <= psutil.virtual_memory().total


@pytest.mark.parametrize("inner", ["max", "9223372036854771712", "some text", ""])
def test_a_limit_of_a_nested_cgroup_counts_and_one_that_states_none_does_not(tmp_path: Path, inner: str) -> None:
    files = [tmp_path / name for name in ("inner", "middle", "outer", "nothing")]
    for file, stated in zip(files, (inner, "1048576", "2097152"), strict=False):
        file.write_text(f"{stated}\n")
    assert usable_memory(files) == 1 << 20
    assert usable_memory(files[:1]) == psutil.virtual_memory().total
