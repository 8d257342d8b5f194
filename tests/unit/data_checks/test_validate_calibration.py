"""Real Great Expectations on small simulated images."""

from __future__ import annotations

import ctypes
import importlib.abc
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import data_checks
from data_checks import validate_calibration
from regiolect.contracts import DeclaredStatistics, RegionDataset, SampleSet, Split
from regiolect.data import Samples, samples_to_bytes
from regiolect.errors import DataCheckFailed, InvalidSamples
from regiolect.storage import LocalStore
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.slow

COUNT = 40
CLASSES = 5
MINIMUM = dict.fromkeys(Split, COUNT)
DECLARED = DeclaredStatistics(mean=(110, 145), std=(60, 90))
PER_SET = 11

Change = Callable[[dict[Split, Samples]], None]


def simulated(region: str, split: Split) -> Samples:
    rng = np.random.default_rng([*region.encode(), *split.value.encode()])
    return Samples(
        ids=np.array([f"{region}-{split.value}-{row}" for row in range(COUNT)]),
        regions=np.array([region] * COUNT),
        inputs={"image": rng.integers(0, 256, (COUNT, 1, 8, 8), dtype=np.uint8)},
        targets=np.arange(COUNT) % CLASSES,
    )


def good(region: str = "eu") -> dict[Split, Samples]:
    return {split: simulated(region, split) for split in Split}


def kept(
    store: LocalStore,
    sets: Mapping[Split, Samples],
    region: str = "eu",
    declared: DeclaredStatistics = DECLARED,
    classes: int | None = CLASSES,
) -> RegionDataset:
    blobs = {
        split.value: SampleSet(
            region=region, split=split, samples=len(samples), blob=store.put_bytes(samples_to_bytes(samples))
        )
        for split, samples in sets.items()
    }
    return RegionDataset(region=region, declared=declared, classes=classes, **blobs)


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def edited(sets: dict[Split, Samples], split: Split, **rows: tuple[Any, Any]) -> None:
    """Replace values of one set: field=(rows, values)."""
    samples = sets[split]
    arrays = {"ids": samples.ids, "regions": samples.regions, "targets": samples.targets, **samples.inputs}
    for name, (index, values) in rows.items():
        array = arrays[name].astype(object) if arrays[name].dtype.kind == "U" else arrays[name].copy()
        array[index] = values
        arrays[name] = array.astype(str) if array.dtype == object else array
    sets[split] = Samples(
        ids=arrays["ids"], regions=arrays["regions"], inputs={"image": arrays["image"]}, targets=arrays["targets"]
    )


def foreign_tag(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, regions=([4, 9], "na"))


def too_few(sets: dict[Split, Samples]) -> None:
    sets[Split.SELECTION] = sets[Split.SELECTION].take(slice(0, 15))


def duplicate_id(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.CALIBRATION, ids=(7, "eu-calibration-8"))


def duplicate_image(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.CALIBRATION, image=(7, sets[Split.CALIBRATION].inputs["image"][8]))


def shared_image(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, image=(3, sets[Split.CALIBRATION].inputs["image"][8]))


def shared_id(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, ids=(3, "eu-selection-11"))


def empty_image(sets: dict[Split, Samples]) -> None:
    image = np.zeros((1, 8, 8), np.uint8)
    image[0, 0, :2] = 90  # 62 of 64 values at the lowest
    edited(sets, Split.SELECTION, image=(5, image))


def saturated_image(sets: dict[Split, Samples]) -> None:
    image = np.full((1, 8, 8), 255, np.uint8)
    image[0, 0, :2] = 250
    edited(sets, Split.SELECTION, image=(5, image))


def missing_class(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, targets=(slice(None), np.arange(COUNT) % (CLASSES - 1)))


def label_out_of_range(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, targets=(2, CLASSES))


def too_dark(sets: dict[Split, Samples]) -> None:
    edited(sets, Split.GATE, image=(slice(None), sets[Split.GATE].inputs["image"] // 2))


BAD: dict[str, tuple[Change, dict[str, str]]] = {
    "foreign tag": (foreign_tag, {"own region tag (gate set)": "2 of 40 samples: eu-gate-4 (na), eu-gate-9 (na)"}),
    "too few": (too_few, {"enough samples (selection set)": "15"}),
    "duplicate id": (duplicate_id, {"unique ids (calibration set)": "2 of 40 samples: eu-calibration-8"}),
    "duplicate image": (
        duplicate_image,
        {"unique images (calibration set)": "2 of 40 samples: eu-calibration-7, eu-calibration-8"},
    ),
    "image in two sets": (
        shared_image,
        {"images in one set only (all sets)": "calibration eu-calibration-8 (gate eu-gate-3)"},
    ),
    "id in two sets": (
        shared_id,
        {"ids in one set only (all sets)": "selection eu-selection-11 (gate eu-selection-11)"},
    ),
    "empty image": (empty_image, {"no empty images (selection set)": "1 of 40 samples: eu-selection-5 (0.9688)"}),
    "saturated image": (
        saturated_image,
        {"no saturated images (selection set)": "1 of 40 samples: eu-selection-5 (0.9688)"},
    ),
    "missing class": (missing_class, {"every label occurs (gate set)": "missing 4"}),
    "unknown label": (label_out_of_range, {"labels in range (gate set)": "1 of 40 samples: eu-gate-2 (5)"}),
    "too dark": (too_dark, {"mean as declared (gate set)": "6", "deviation as declared (gate set)": "3"}),
}


def test_good_data_pass_and_every_check_says_what_it_saw(store: LocalStore) -> None:
    dataset = kept(store, good())
    validated = validate_calibration(dataset, store, MINIMUM)
    assert validated.dataset == dataset
    assert len(validated.checks) == 3 * PER_SET + 2
    assert all(check.passed and check.expected and check.observed for check in validated.checks)
    means = {c.split: float(c.observed) for c in validated.checks if c.expectation == "mean as declared"}
    deviations = {c.split: float(c.observed) for c in validated.checks if c.expectation == "deviation as declared"}
    for split, samples in good().items():
        assert means[split] == pytest.approx(samples.inputs["image"].mean(), rel=1e-3)
        assert deviations[split] == pytest.approx(samples.inputs["image"].std(), rel=1e-3)


@pytest.mark.parametrize("kind", BAD)
def test_bad_data_are_caught_by_name(store: LocalStore, kind: str) -> None:
    change, wanted = BAD[kind]
    sets = good()
    change(sets)
    with pytest.raises(DataCheckFailed) as caught:
        validate_calibration(kept(store, sets), store, MINIMUM)
    error = caught.value
    failed = [check for check in error.checks if not check.passed]
    assert len(failed) == len(wanted)  # and nothing else is blamed
    assert len(error.checks) == 3 * PER_SET + 2
    assert "region 'eu'" in error.expected
    for check, (name, observed) in zip(failed, wanted.items(), strict=True):
        assert f"{name}: {check.expected}" in error.expected
        assert f"{name}: {check.observed}" in error.found
        assert observed in check.observed
    assert len(error.remedy) > 20
    assert all(part in str(error) for part in (error.expected, error.found, error.remedy))


def test_all_failures_are_listed_at_once(store: LocalStore) -> None:
    sets = good()
    foreign_tag(sets)
    too_few(sets)
    duplicate_id(sets)
    with pytest.raises(DataCheckFailed) as caught:
        validate_calibration(kept(store, sets), store, MINIMUM)
    assert all(name in str(caught.value) for name in ("own region tag", "enough samples", "unique ids"))


def test_many_bad_samples_are_named_in_part(store: LocalStore) -> None:
    sets = good()
    edited(sets, Split.GATE, regions=(slice(0, 30), "na"))
    with pytest.raises(DataCheckFailed, match=r"30 of 40 samples: .*, \.\.\.") as caught:
        validate_calibration(kept(store, sets), store, MINIMUM)
    assert str(caught.value).count("(na)") == 5


def test_the_checks_travel_between_processes(store: LocalStore) -> None:
    sets = good()
    missing_class(sets)
    with pytest.raises(DataCheckFailed) as caught:
        validate_calibration(kept(store, sets), store, MINIMUM)
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - bytes of our own
    assert (str(again), again.checks) == (str(caught.value), caught.value.checks)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16])
def test_constant_images_are_empty_in_every_type(store: LocalStore, dtype: type) -> None:
    sets = {
        split: replace(samples, inputs={"image": samples.inputs["image"].astype(dtype)})
        for split, samples in good().items()
    }
    edited(sets, Split.GATE, image=(6, 128))
    with pytest.raises(DataCheckFailed, match=r"no empty images \(gate set\): 1 of 40 samples: eu-gate-6 \(1\)"):
        validate_calibration(kept(store, sets), store, MINIMUM)


def test_values_that_are_not_finite_never_pass(store: LocalStore) -> None:
    sets = {
        split: replace(samples, inputs={"image": samples.inputs["image"].astype(np.float32)})
        for split, samples in good().items()
    }
    edited(sets, Split.GATE, image=((2, 0, 0, 0), np.nan))
    with pytest.raises(DataCheckFailed, match=r"finite values \(gate set\): 1 of 40 samples: eu-gate-2"):
        validate_calibration(kept(store, sets), store, MINIMUM)


def test_without_classes_targets_are_free(store: LocalStore) -> None:
    sets = {split: replace(samples, targets=np.linspace(0, 1, COUNT)) for split, samples in good().items()}
    validated = validate_calibration(kept(store, sets, classes=None), store, MINIMUM)
    assert not any("label" in check.expectation for check in validated.checks)
    with pytest.raises(InvalidSamples, match="integer labels"):
        validate_calibration(kept(store, sets, classes=CLASSES), store, MINIMUM)


def test_inputs_that_are_no_images_are_not_judged_as_images(store: LocalStore) -> None:
    sets = {
        split: replace(samples, inputs={"row": samples.inputs["image"].reshape(COUNT, -1), "bias": np.ones((COUNT, 1))})
        for split, samples in good().items()
    }
    names = {check.expectation for check in validate_calibration(kept(store, sets), store, MINIMUM).checks}
    assert "mean as declared" in names
    assert not any("images" in name for name in names - {"unique images", "images in one set only"})


class Deadline(Exception):
    pass


class SlowToImport(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Stands in for what the checks import, until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def find_spec(self, name: str, path: object, target: object = None) -> ModuleSpec | None:
        return spec_from_loader(name, self) if name == "data_checks.suite" else None

    def exec_module(self, module: Any) -> None:
        self.begun.set()
        assert self.go.wait(PATIENCE)
        module.run_checks = lambda *given: given


def test_a_deadline_does_not_end_an_import_midway(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock may never be given back then, and every other region waits for it."""
    slow, ended = SlowToImport(), []
    monkeypatch.setattr(sys, "meta_path", [slow, *sys.meta_path])
    # Set before they are deleted, so that what is imported here is taken away again.
    monkeypatch.setattr(data_checks, "suite", None, raising=False)
    monkeypatch.setitem(sys.modules, "data_checks.suite", None)  # type: ignore[arg-type]
    del sys.modules["data_checks.suite"]

    def check() -> None:
        try:
            validate_calibration(None, None, {})  # type: ignore[arg-type]
        except Deadline:
            ended.append("by its deadline")

    checking = threading.Thread(target=check)
    checking.start()
    assert slow.begun.wait(PATIENCE)
    # As Prefect does to a flow whose time is up.
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(checking.ident or 0), ctypes.py_object(Deadline))
    slow.go.set()
    checking.join(PATIENCE)
    assert ended == ["by its deadline"]
    until(lambda: hasattr(sys.modules.get("data_checks.suite"), "run_checks"))


def test_regions_side_by_side_do_not_mix(store: LocalStore) -> None:
    regions = ["eu", "na", "jp", "br"] * 3
    datasets = {}
    for region in set(regions):
        sets = good(region)
        if region == "na":
            sets[Split.GATE] = simulated("eu", Split.GATE)
        datasets[region] = kept(store, sets, region)

    def outcome(region: str) -> str:
        try:
            return validate_calibration(datasets[region], store, MINIMUM).region
        except DataCheckFailed as error:
            return f"{region} failed: {error.found}"

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(outcome, regions))
    for region, text in zip(regions, found, strict=True):
        if region == "na":
            assert text.startswith("na failed: own region tag (gate set): 40 of 40 samples: eu-gate-0 (eu)")
            assert text.count("set)") == 1
        else:
            assert text == region


FRESH = """
import logging, sys
from pathlib import Path
from data_checks import validate_calibration
from regiolect.contracts import RegionDataset, Split
from regiolect.errors import DataCheckFailed
from regiolect.storage import LocalStore

assert not {"great_expectations", "pandas"} & set(sys.modules)
logging.basicConfig(level=logging.INFO)
store = LocalStore(Path(sys.argv[1]))
for text, failures in zip(sys.argv[2:], (0, 1), strict=True):
    try:
        validate_calibration(RegionDataset.model_validate_json(text), store, dict.fromkeys(Split, 1))
        found = 0
    except DataCheckFailed as error:
        found = sum(not check.passed for check in error.checks)
    assert found == failures
"""


def test_a_fresh_process_prints_logs_and_writes_nothing(store: LocalStore, tmp_path: Path) -> None:
    sets = good()
    foreign_tag(sets)
    texts = [kept(store, good()).model_dump_json(), kept(store, sets).model_dump_json()]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    root = Path(data_checks.__file__).parents[1]
    environment = {"PATH": "/nowhere", "HOME": str(elsewhere), "TMPDIR": str(elsewhere), "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-B", "-c", FRESH, str(store.root), *texts],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert not list(elsewhere.iterdir())
