"""What is served passed its self-test on this very machine; what does not gives way to what does."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.bundle.manifest import selftest_path
from regiolect.errors import IntegrityError, NotRunnableHere
from regiolect.serving import load_adaptive, load_bundle


def test_an_engine_that_passes_is_served_and_tells_what_it_took(bundles, built, probes, tmp_path) -> None:
    bundles.selftests["cpu"] = probes(0.05)
    bundles.write(tmp_path / "bundle", built("cpu", "onnxruntime"))
    served = load_bundle(tmp_path / "bundle")
    assert served.self_test is not None
    assert served.self_test.probes == 5
    assert 0.4 < served.self_test.share < 0.6
    assert served.self_test.seconds > 0


def test_one_that_answers_otherwise_gives_way_to_the_next_and_is_told(bundles, built, probes, tmp_path) -> None:
    bundles.selftests["cpu-first"] = probes(0.5)
    bundles.write(tmp_path / "bundle", built("cpu-first", "onnxruntime"), built("cpu-second", "openvino"))
    with pytest.warns(UserWarning, match=r"cpu-first.*0\.5 away on this machine"):
        served = load_bundle(tmp_path / "bundle")
    assert (served.target, served.self_test) == ("cpu-second", None)


def test_where_nothing_else_is_there_it_is_refused(bundles, built, probes, tmp_path) -> None:
    bundles.selftests["cpu"] = probes(0.5)
    bundles.write(tmp_path / "bundle", built("cpu", "onnxruntime"))
    for load in (load_bundle, load_adaptive):
        with pytest.raises(NotRunnableHere, match=r"within 0\.1 of what it answered where it was judged"):
            load(tmp_path / "bundle")


def _swapped(folder: Path, data: bytes) -> None:
    (folder / selftest_path("cpu")).write_bytes(data)


def test_probes_are_part_of_what_is_verified(bundles, built, probes, tmp_path) -> None:
    bundles.selftests["cpu"] = probes(0.5)
    bundles.write(tmp_path / "bundle", built("cpu", "onnxruntime"))
    easy = bundles.store.path_of(probes(0.0)).read_bytes()
    _swapped(tmp_path / "bundle", easy)
    with pytest.raises(IntegrityError):
        load_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / selftest_path("cpu")).unlink()
    with pytest.raises(IntegrityError):
        load_bundle(tmp_path / "bundle")
