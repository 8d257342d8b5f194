"""What is kept on a machine is loaded for exactly its key, and never when it is damaged."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path

import pytest

from regiolect.engines.tensorrt.caches import KeptNowAndThen, MachineCache, cache_folder

KEY = {"gpu": "NVIDIA L4", "compute capability": "8.9", "driver": "580.1", "cuda": "13.0", "tensorrt": "11.4.0.106"}


def kept(folder: Path, data: bytes = b"timings\n\x00of kernels", **changes: str) -> MachineCache:
    cache = MachineCache("timing", {**KEY, **changes}, folder)
    cache.keep(data)
    return cache


def test_a_cache_comes_back_for_its_own_key(tmp_path: Path) -> None:
    kept(tmp_path)
    assert MachineCache("timing", KEY, tmp_path).load() == b"timings\n\x00of kernels"


@pytest.mark.parametrize("part", sorted(KEY))
def test_another_gpu_capability_driver_cuda_or_version_has_a_cache_of_its_own(part: str, tmp_path: Path) -> None:
    kept(tmp_path)
    other = MachineCache("timing", {**KEY, part: "another"}, tmp_path)
    assert other.load() is None
    other.keep(b"other timings")
    assert MachineCache("timing", KEY, tmp_path).load() == b"timings\n\x00of kernels"


def test_another_kind_of_the_same_key_is_another_cache(tmp_path: Path) -> None:
    kept(tmp_path)
    assert MachineCache("runtime", KEY, tmp_path).load() is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:30],
        lambda data: b"",
        lambda data: data.replace(b"kernels", b"kernel5"),
        lambda data: b"[]\n" + data,
    ],
    ids=["cut short", "cut in the header", "empty", "one byte changed", "another header"],
)
def test_a_corrupt_cache_is_named_set_aside_and_never_used(
    damage: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = kept(tmp_path)
    broken = damage(cache.path.read_bytes())  # type: ignore[operator]
    cache.path.write_bytes(broken)
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        assert cache.load() is None
    assert str(cache.path) in caplog.text and "is corrupt" in caplog.text
    (aside,) = tmp_path.glob("*.corrupt-*")
    assert aside.read_bytes() == broken
    assert aside.name in caplog.text
    assert cache.load() is None
    cache.keep(b"learnt anew")
    assert cache.load() == b"learnt anew"


def test_another_machines_cache_under_this_ones_name_is_set_aside_as_foreign(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    foreign, own = kept(tmp_path, gpu="NVIDIA T4"), MachineCache("timing", KEY, tmp_path)
    foreign.path.rename(own.path)
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        assert own.load() is None
    assert "is foreign" in caplog.text and "NVIDIA T4" in caplog.text and "NVIDIA L4" in caplog.text
    assert len(list(tmp_path.glob("*.foreign-*"))) == 1


def test_a_cache_that_cannot_be_written_is_told_and_breaks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("in the way of a folder")
    cache = MachineCache("timing", KEY, tmp_path / "file")
    with caplog.at_level(logging.INFO, "regiolect.progress"), cache.alone():
        cache.keep(b"timings")
    assert "is not kept" in caplog.text
    assert "without a lock" in caplog.text


WRITER = """
import sys
from pathlib import Path
from regiolect.engines.tensorrt.caches import MachineCache
cache = MachineCache("timing", {"gpu": "NVIDIA L4"}, Path(sys.argv[1]))
print("writing", flush=True)
for turn in range(300):
    cache.keep(bytes([turn % 256]) * 100_000)
"""


def test_what_is_kept_is_whole_whoever_reads_meanwhile(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = MachineCache("timing", {"gpu": "NVIDIA L4"}, tmp_path)
    seen = set()
    with (
        caplog.at_level(logging.INFO, "regiolect.progress"),
        subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE) as writer,
    ):
        assert writer.stdout is not None and writer.stdout.readline() == b"writing\n"
        while writer.poll() is None:
            data = cache.load()
            if data is not None:
                assert len(data) == 100_000 and len(set(data)) == 1
                seen.add(data[0])
    assert writer.returncode == 0
    assert len(seen) > 2, "else nothing was read while it wrote"
    assert caplog.text == ""
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix != ".lock"] == [".cache"]


def test_a_good_file_that_another_process_put_there_is_not_set_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = kept(tmp_path)
    cache.keep(b"what another process has kept since")
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        cache.set_aside("foreign", "TensorRT does not take it", b"timings\n\x00of kernels")
    assert cache.load() == b"what another process has kept since"
    assert "another process has replaced it" in caplog.text
    cache.set_aside("foreign", "TensorRT does not take it", b"what another process has kept since")
    assert cache.load() is None


def test_a_damaged_file_that_cannot_be_moved_is_told_and_breaks_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = kept(tmp_path)
    cache.path.write_bytes(b"damaged")

    def read_only(self: Path, target: Path) -> Path:
        raise PermissionError(13, "Read-only file system")

    monkeypatch.setattr(Path, "replace", read_only)
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        assert cache.load() is None
    assert "is corrupt" in caplog.text and "not set aside: " in caplog.text and "Read-only" in caplog.text


def test_a_damaged_file_that_is_gone_already_breaks_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = kept(tmp_path)
    cache.path.unlink()
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        cache.set_aside("foreign", "TensorRT does not take it", b"timings\n\x00of kernels")
    assert "not set aside" in caplog.text


def test_what_is_learnt_with_requests_waiting_is_kept_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    cache, now, known = MachineCache("runtime", KEY, tmp_path), [100.0], [b"one kernel"]
    sparing = KeptNowAndThen(cache, lambda: known[0], seconds=30.0, clock=lambda: now[0])
    sparing.finish()
    assert cache.load() is None, "nothing was learnt"
    sparing.learnt()
    assert cache.load() == b"one kernel"
    known[0], now[0] = b"two kernels", 129.0
    sparing.learnt()
    assert cache.load() == b"one kernel"
    sparing.finish()
    assert cache.load() == b"two kernels"
    known[0], now[0] = b"three kernels", 130.0
    sparing.learnt()
    assert cache.load() == b"three kernels"


def test_caches_lie_in_the_users_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "regiolect" / "tensorrt"
