"""How many processors there are: by affinity and by quota, from files that are handed in and in a real cgroup."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from regiolect.host.processors import physical_cores, processor_counts, processors, quota_files
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[3]
AFFINE = len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("max 100000", AFFINE),
        ("100000 100000", 1),
        # Down, for a thread more than is paid for makes all of them stand still; and never none.
        ("150000 100000", 1),
        ("50000 100000", 1),
        ("1000 1000000", 1),
        ("99900000 100000", AFFINE),
        ("20000 10000", min(2, AFFINE)),
        ("", AFFINE),
        ("some text", AFFINE),
        ("100000", AFFINE),
        ("100000 0", AFFINE),
    ],
)
def test_a_quota_is_rounded_down_and_never_to_none(stated: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(stated + "\n")
    assert processors([tmp_path / "cpu.max"]) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", AFFINE), ("100000", 1), ("50000", 1), ("9900000", AFFINE)])
def test_a_quota_of_the_older_kind_has_its_period_beside_it(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert processors([tmp_path / "cpu.cfs_quota_us"]) == expected


def test_the_tightest_of_all_quotas_counts_and_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    for name, stated in (("outer", "100000 100000"), ("inner", "max 100000")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "cpu.max").write_text(stated)
    assert processors([tmp_path / name / "cpu.max" for name in ("nothing", "inner", "outer")]) == 1
    assert processors([tmp_path / "nothing" / "cpu.max"]) == AFFINE


V2 = "31 23 0:28 / {point} rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "31 23 0:28 {root} {point}/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "32 23 0:29 {root} {point}/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
)


@pytest.mark.parametrize(
    ("cgroup", "mountinfo", "expected"),
    [
        # A service of a machine with cgroup v2: its own, and every one above it.
        ("0::/a.slice/b.service\n", V2, ["a.slice/b.service/cpu.max", "a.slice/cpu.max", "cpu.max"]),
        # A container that sees its own cgroup as the topmost.
        ("0::/\n", V2, ["cpu.max"]),
        (
            "4:cpuset:/a\n3:cpu,cpuacct:/a\n0::/a\n",
            V1,
            ["cpu,cpuacct/a/cpu.cfs_quota_us", "cpu,cpuacct/cpu.cfs_quota_us"],
        ),
        # One whose own cgroup is mounted as the topmost, though the process is told its whole path.
        ("3:cpu,cpuacct:/docker/f00\n", V1.replace("{root}", "/docker/f00"), ["cpu,cpuacct/cpu.cfs_quota_us"]),
        ("3:cpu,cpuacct:/elsewhere\n", V1.replace("{root}", "/docker/f00"), ["cpu,cpuacct/cpu.cfs_quota_us"]),
        ("2:memory:/a\n", V1, []),
    ],
)
def test_quotas_are_looked_for_in_the_own_cgroup_and_above(
    cgroup: str, mountinfo: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / "cgroup").write_text(cgroup)
    (tmp_path / "mountinfo").write_text(mountinfo.format(point="/sys/fs/cgroup", root="/"))
    assert [str(file.relative_to("/sys/fs/cgroup")) for file in quota_files(tmp_path)] == expected


@pytest.mark.parametrize(
    "other",
    [
        # What `mount -t tmpfs "" /mnt` writes.
        b"29 23 0:25 / /mnt rw,relatime shared:5 - tmpfs  rw,size=1k\n",
        b"29 23 0:25 / /mnt/\xe9t\xe9\x85\x0c rw - tmpfs tmpfs rw\n",
        b"29 23 0:25 / /mnt rw - cgroup2\n",
        b"cgroup2\n\n",
    ],
    ids=["without a source", "in another encoding", "cut short", "no mount"],
)
def test_a_mount_of_any_kind_hides_no_quota(other: bytes, tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("no group\n0::/\n")
    (tmp_path / "mountinfo").write_bytes(other + V2.format(point="/sys/fs/cgroup").encode())
    assert quota_files(tmp_path) == (Path("/sys/fs/cgroup/cpu.max"),)


def test_a_cgroup_is_found_where_its_mount_has_a_space_in_its_name_and_no_source(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")
    (tmp_path / "mountinfo").write_text("31 23 0:28 / /run/my\\040groups rw - cgroup2  rw\n")
    assert quota_files(tmp_path) == (Path("/run/my groups/cpu.max"),)


def test_where_the_system_tells_of_no_cgroup_there_is_no_quota(tmp_path: Path) -> None:
    assert quota_files(tmp_path) == ()
    assert processors(()) == AFFINE


def test_counts_end_at_all_and_cores_are_not_more() -> None:
    counts = processor_counts()
    assert counts[0] == 1 and counts[-1] == processors() and list(counts) == sorted(set(counts))
    assert 1 <= physical_cores() <= processors()


# What a process does that has one processor: how many it counts, and the threads that a session adds to it.
COUNTED = """
import os
from regiolect.engines.onnxruntime.session import open_session
from regiolect.host.processors import physical_cores, processors
from tests.tiny_graph import dense
import numpy as np

before = len(os.listdir("/proc/self/task"))
session = open_session(dense(np.ones((16, 3), np.float32)))
session.run(None, {"image": np.ones((1, 1, 4, 4), np.float32)})
print(processors(), physical_cores(), len(os.listdir("/proc/self/task")) - before)
"""


def counted(prepare: Callable[[], object]) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", COUNTED],
        cwd=ROOT,
        env=environment,
        # No thread of this process holds a lock that the child takes: it sets its own affinity or cgroup alone.
        preexec_fn=prepare,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
    )
    return done.stdout


def test_a_process_that_is_bound_to_one_processor_takes_one_thread() -> None:
    first = min(os.sched_getaffinity(0))
    assert counted(lambda: os.sched_setaffinity(0, {first})) == "1 1 0\n"


@pytest.fixture
def paid_for_one() -> Iterator[Path]:
    """A real cgroup whose quota is one processor."""
    for file in quota_files():
        folder = file.parent / f"regiolect-test-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            (folder / file.name).write_text("100000" if file.name == "cpu.cfs_quota_us" else "100000 100000")
        except OSError:
            folder.rmdir()
            continue
        yield folder
        folder.rmdir()
        return
    pytest.skip("no cgroup with a quota can be made here: that needs root and a writable /sys/fs/cgroup")


def test_a_process_whose_cgroup_pays_for_one_processor_takes_one_thread(paid_for_one: Path) -> None:
    joined = paid_for_one / "cgroup.procs"
    assert counted(lambda: joined.write_text(str(os.getpid()))) == "1 1 0\n"


def test_nothing_else_counts_processors_or_leaves_a_number_of_threads_to_a_library() -> None:
    """Each of these names belongs to the one module that asks for the process's own number."""
    owners = {
        "cpu_count": "regiolect/host/processors.py",
        "sched_getaffinity": "regiolect/host/processors.py",
        "SessionOptions": "regiolect/engines/onnxruntime/session.py",
        "compile_model": "regiolect/engines/openvino/runtime.py",
    }
    found = {
        (node.attr, str(path.relative_to(ROOT)))
        for part in ("regiolect", "tasks", "flows", "data_checks", "examples", "benchmarks")
        for path in (ROOT / part).rglob("*.py")
        if "rivals" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in owners
    }
    assert found == set(owners.items())
