"""The tests of arithmetic once more, all in one process, on a processor where 8 x 8 bit products saturate.

Where they do so anyway, these tests are among the others as they stand.
"""

from __future__ import annotations

import platform
import re
import sys
from pathlib import Path

import pytest

from regiolect.engines.catalog import backend
from tests.haswell import emulator, python_on_haswell

ROOT = Path(__file__).parents[2]
# Every file with tests that are marked so: more would be imported by the emulator for nothing.
FILES = tuple(
    sorted(
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if "mark.arithmetic" in file.read_text()
    )
)
CODE = """
import sys
import pytest
from regiolect.engines.catalog import backend
classes = [backend(name).arithmetic() for name in ("openvino", "onnxruntime")]
assert classes == ["saturating", "saturating"], classes
sys.exit(pytest.main(sys.argv[1:]))
"""
on_linux_x86 = pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64"), reason="the emulator runs programs of Linux on x86-64"
)


@on_linux_x86
@pytest.mark.skipif(
    {backend(name).arithmetic() for name in ("openvino", "onnxruntime")} == {"saturating"}, reason="they saturate here"
)
def test_int8_answers_are_right_where_pairs_saturate(tmp_path: Path) -> None:
    options = ["-p", "no:cacheprovider", "-p", "no:randomly", "-m", "arithmetic", f"--rootdir={ROOT}", "--timeout=600"]
    done = python_on_haswell(tmp_path, "-c", CODE, *options, *FILES, seconds=840)
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert passed and int(passed[1]) >= 40 and "skipped" not in done.stdout, done.stdout[-2000:]


def test_a_missing_emulator_is_a_failure_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="apt-get install qemu-user"):
        emulator(path=str(tmp_path))
