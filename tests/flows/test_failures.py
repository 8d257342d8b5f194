"""What goes wrong is named, stays in its region, and leaves nothing that the next run mistakes for finished work."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import Decision, ReleaseResult, ReleaseRow, Split
from regiolect.data import Samples
from regiolect.errors import StorageError
from regiolect.integrity import digest_file
from regiolect.settings import load_settings
from tests.flows.kept import is_served, store_folder
from tests.flows.tiny_models import ADDRESS, CPU, Workshop
from tests.patience import PATIENCE

FLOATS = f"{ADDRESS}_FLOAT"


def _records(kind: str) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (store_folder() / "records" / kind).glob("[!.]*")}


def _assert_nothing_half_written() -> None:
    """No temporary file, and every blob under the digest of its content. (Records are read back by the next run.)"""
    files = [path for path in store_folder().rglob("*") if path.is_file()]
    assert not [path for path in files if path.name.startswith(".")]
    for path in files:
        if path.is_relative_to(store_folder() / "blobs"):
            assert digest_file(path) == f"sha256:{path.name}"


# ------------------------------------------------------------------------------------- one region's own failure


def _foreign(samples: Samples) -> Samples:
    tags = samples.regions.astype("U16")
    tags[7] = "elsewhere"
    return replace(samples, regions=tags)


def _not_a_number(samples: Samples) -> Samples:
    images = samples.inputs["image"].copy()
    images[3, 0, 5, 5] = np.nan
    return replace(samples, inputs={"image": images})


REFUSED = {
    "foreign": ("DataCheckFailed", "own region tag", "take out the samples of other regions"),
    "broken": ("InvalidSamples", "broken-gate-0003", "take out or repair"),
    "few": ("DataCheckFailed", "enough samples", "collect more samples"),
    "lost": ("EmptyDataset", "no such file", "save_samples"),
    "torn": ("InvalidSamples", "BadZipFile", "write the file again"),
    "typo": ("InvalidPolicy", "did you mean 'precision'?", "regiolect policies validate"),
    "ring": ("PolicyCycle", "ring -> loop -> ring", "remove `extends`"),
    "loop": ("PolicyCycle", "loop -> ring -> loop", "remove `extends`"),
    "loose": ("PolicyLoosens", "accuracy.limit 9 above 5", "tighten"),
    "orphan": ("InvalidPolicy", "extends: nobody", "did you mean"),
    "garbled": ("InvalidPolicy", "garbled.yaml", "mend what stands there"),
    "unknown": ("InvalidPolicy", "backend: openvin", "did you mean 'openvino'?"),
}


@pytest.fixture(scope="module")
def troubled(module_workshop: Workshop) -> ReleaseResult:
    """Every region but `good` has a fault of its own."""
    workshop = replace(module_workshop, raw_dtype="float32")
    for region in (*REFUSED, "good"):
        workshop.add(region)
    workshop.change("foreign", Split.CALIBRATION, _foreign)
    workshop.change("broken", Split.GATE, _not_a_number)
    workshop.write_data("few", gate=199)
    (workshop.data("lost") / "gate.npz").unlink()
    torn = workshop.data("torn") / "gate.npz"
    torn.write_bytes(torn.read_bytes()[:-1000])
    typo = workshop.policies / "typo.yaml"
    typo.write_text(typo.read_text().replace("precision", "precison"))
    (workshop.policies / "garbled.yaml").write_text("{ a list ]")
    for region, parent in (("ring", "loop"), ("loop", "ring"), ("orphan", "nobody")):
        workshop.write_policy(region, extends=parent)
    workshop.write_policy("loose", extends="good", limit=9.0)
    workshop.write_policy("unknown", {**CPU, "backend": "openvin"})
    return release(FLOATS)


def _row(result: ReleaseResult, region: str) -> ReleaseRow:
    (row,) = [row for row in result.rows if row.region == region]
    return row


@pytest.mark.parametrize("region", REFUSED)
def test_a_region_with_a_fault_is_refused_by_its_name_and_told_the_remedy(troubled: ReleaseResult, region: str) -> None:
    kind, told, remedy = REFUSED[region]
    row = _row(troubled, region)
    assert row.decision is Decision.REFUSED
    assert row.model_uri is None
    assert row.failure is not None
    assert row.failure.kind == kind
    assert told in f"{row.failure.expected}; {row.failure.found}"
    assert remedy in row.failure.remedy
    assert not is_served(region)


def test_the_region_without_a_fault_is_approved_and_served(troubled: ReleaseResult) -> None:
    row = _row(troubled, "good")
    assert row.failure is None
    assert row.decision is Decision.APPROVED
    assert row.model_uri == "models:/tiny-good@champion"
    assert is_served("good")
    assert exit_code(troubled) == 1, "a script must learn of the others"


def test_refusals_stand_in_the_report(troubled: ReleaseResult) -> None:
    page = Path(str(troubled.report)).read_text()
    assert all(kind in page for kind, _, _ in REFUSED.values())


def test_a_refused_region_is_tried_again_and_the_good_one_is_not_built_again(
    troubled: ReleaseResult, module_workshop: Workshop
) -> None:
    workshop = replace(module_workshop, raw_dtype="float32")
    workshop.write_data("broken")
    result = release(FLOATS, regions=["broken", "good"])
    mended, good = result.rows
    assert (mended.decision, mended.rebuilt) == (Decision.APPROVED, True)
    assert (good.decision, good.rebuilt) == (Decision.APPROVED, False)
    assert exit_code(result) == 0


# --------------------------------------------------------------------------------------------- MLflow is broken


def test_engines_outlive_a_broken_registry_and_are_registered_when_it_is_mended(workshop: Workshop) -> None:
    workshop.add("north", precision="FP32")
    database = load_settings().home / "mlflow.db"
    whole = database.read_bytes()
    database.write_bytes(b"this is no database" * 100)
    broken = release(ADDRESS)
    (row,) = broken.rows
    assert row.decision is Decision.APPROVED
    assert row.rebuilt
    assert row.model_uri is None
    assert row.failure is not None
    assert row.failure.kind == "RegistryError"
    assert str(database) in row.failure.remedy
    assert exit_code(broken) == 1
    assert Path(str(broken.report)).is_file()

    database.write_bytes(whole)
    mended = release(ADDRESS)
    assert [(row.model_uri, row.rebuilt) for row in mended.rows] == [("models:/tiny-north@champion", False)]
    assert exit_code(mended) == 0


# --------------------------------------------------------------------------------------------- the disk is full


@dataclass
class Disk:
    """A disk that is full from the first write below the folder `full_at` on."""

    full_at: str | None = None
    is_full: bool = False

    def has_room_for(self, file: str) -> bool:
        self.is_full |= self.full_at is not None and self.full_at in file
        return not self.is_full


@pytest.fixture
def disk(one_process: None, monkeypatch: pytest.MonkeyPatch) -> Disk:
    """Every file that is to last goes through fsync, which is where a full disk is found out at the latest."""
    sync, disk = os.fsync, Disk()

    def fsync(descriptor: int) -> None:
        if not disk.has_room_for(str(Path(f"/proc/self/fd/{descriptor}").readlink())):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    return disk


@pytest.mark.skipif(sys.platform != "linux", reason="finds a descriptor's file in /proc")
@pytest.mark.parametrize(
    "where",
    [
        pytest.param("records/exports", marks=pytest.mark.acceptance),
        pytest.param("records/observations", marks=pytest.mark.acceptance),
        "records/outcomes",
    ],
)
def test_a_disk_that_fills_up_is_named_and_the_next_run_completes(workshop: Workshop, disk: Disk, where: str) -> None:
    workshop.add("north")
    disk.full_at = where
    try:
        result = release(ADDRESS)
    except StorageError as error:
        told = error.found, error.remedy
    else:
        (row,) = result.rows
        assert row.model_uri is None
        assert row.failure is not None
        assert row.failure.kind == "StorageError"
        told = row.failure.found, row.failure.remedy
        assert exit_code(result) == 1
    assert disk.is_full
    assert "No space left on device" in told[0]
    assert "free space" in told[1]
    _assert_nothing_half_written()
    assert not is_served("north")

    disk.full_at, disk.is_full = None, False
    (row,) = release(ADDRESS).rows
    assert (row.decision, row.failure) == (Decision.APPROVED, None)
    assert row.rebuilt
    assert is_served("north")


# --------------------------------------------------------------------------------------------- killed in between


def test_a_run_that_is_killed_is_taken_up_where_it_stopped(workshop: Workshop, environment: Mapping[str, str]) -> None:
    """Killed while it scores the second region's engine: the first is finished, of the second only parts are kept."""
    workshop.add("north")
    workshop.add("south")
    # A region scores the reference and one graph on its selection set, both again on its gate set in two parts.
    workshop.fuse.write_text("7")
    killed = subprocess.run(
        [sys.executable, "-c", "from regiolect.cli.app import main; main()", "run", ADDRESS],
        env={**environment, "PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not is_served("north"), "registration comes after the last region"
    _assert_nothing_half_written()
    before = {kind: _records(kind) for kind in ("exports", "observations", "outcomes")}
    assert {kind: len(records) for kind, records in before.items()} == {"exports": 1, "observations": 2, "outcomes": 1}

    workshop.fuse.unlink()
    result = release(ADDRESS)
    north, south = result.rows
    assert (north.decision, north.rebuilt) == (Decision.APPROVED, False)
    assert (south.decision, south.rebuilt) == (Decision.APPROVED, True)
    assert is_served("north")
    assert is_served("south")
    assert exit_code(result) == 0
    assert _records("exports") == before["exports"], "not exported again"
    assert _records("observations") == before["observations"], "not observed again"
    assert before["outcomes"].items() <= _records("outcomes").items(), "what was finished was not touched"
