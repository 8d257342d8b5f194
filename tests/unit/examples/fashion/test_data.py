"""Each region's three sets: right sizes, own tags, no shared image, and the same on every call."""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from examples.fashion import data as fashion
from examples.fashion.cameras import CAMERAS
from examples.fashion.data import FOLDER, SEED, FashionSource, Sizes, originals, sources
from regiolect.contracts import Split
from regiolect.data import samples_to_bytes
from regiolect.errors import EmptyDataset, InvalidSamples

pytestmark = pytest.mark.slow

SIZES = {Split.CALIBRATION: 500, Split.SELECTION: 1_000, Split.GATE: 4_000}


def source(region: str) -> FashionSource:
    return sources()[region]


def test_the_shipped_arrays_are_all_test_images_and_a_stratified_tenth_of_the_training_images():
    test, train = originals("test"), originals("train")
    assert test.images.shape == (10_000, 28, 28)
    assert np.array_equal(test.index, np.arange(10_000))
    assert train.images.shape == (6_000, 28, 28)
    assert Counter(train.labels.tolist()) == dict.fromkeys(range(10), 600)
    assert len(set(train.index.tolist())) == 6_000
    assert train.index.max() < 60_000


def test_what_is_shipped_stays_small():
    shipped = [path for path in FOLDER.parent.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in shipped) <= 12_000_000


@pytest.mark.parametrize("region", CAMERAS)
def test_a_regions_sets(region):
    sets = {split: source(region).load(split) for split in Split}
    images = []
    for split, samples in sets.items():
        part = "train" if split is Split.CALIBRATION else "test"
        assert len(samples) == SIZES[split]
        assert set(samples.regions) == {region}
        assert samples.inputs["image"].shape == (SIZES[split], 1, 28, 28)
        assert samples.inputs["image"].dtype == np.uint8
        assert samples.targets.dtype == np.int64
        assert set(samples.targets) == set(range(source(region).classes))
        assert all(name.startswith(f"fashion/{part}/") and name.endswith(f"@{region}") for name in samples.ids)
        images += [name.split("@")[0] for name in samples.ids]
        declared = source(region).declared
        assert declared.mean[0] <= samples.inputs["image"].mean() <= declared.mean[1]
        assert declared.std[0] <= samples.inputs["image"].std() <= declared.std[1]
    assert len(set(images)) == 5_500, "an original image occurs twice among the sets"


def test_an_id_leads_back_to_its_image_and_label():
    samples = source("na").load(Split.SELECTION)
    clean = originals("test")
    for name, label, image in list(zip(samples.ids, samples.targets, samples.inputs["image"], strict=True))[:50]:
        index = int(name.split("/")[2].split("@")[0])
        assert clean.labels[index] == label
        assert np.corrcoef(clean.images[index].ravel(), image.ravel())[0, 1] > 0.9


def test_loading_is_deterministic_whatever_was_loaded_before():
    first = samples_to_bytes(source("hk").load(Split.SELECTION))
    source("hk").load(Split.GATE)
    source("me").load(Split.SELECTION)
    assert samples_to_bytes(source("hk").load(Split.SELECTION)) == first


def test_regions_and_sets_have_noise_and_order_of_their_own():
    twin = FashionSource(CAMERAS["eu"].model_copy(update={"region": "de"}))
    eu = source("eu").load(Split.SELECTION)
    assert not np.array_equal(eu.targets, twin.load(Split.SELECTION).targets)
    images = eu.inputs["image"].reshape(len(eu), -1)
    assert len(np.unique(images, axis=0)) == len(images)


def test_a_set_that_asks_for_more_than_is_shipped_is_refused():
    with pytest.raises(EmptyDataset, match="prepare"):
        replace(source("eu"), sizes=Sizes(gate=9_500)).load(Split.GATE)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(EmptyDataset, match=r"train\.npz"):
        FashionSource(CAMERAS["eu"], folder=tmp_path).identity()
    whole = (FOLDER / "test.npz").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:5000] + b"\xff" * 5000 + whole[10_000:]):
        (tmp_path / "test.npz").write_bytes(damaged)
        with pytest.raises(InvalidSamples, match=r"test\.npz"):
            FashionSource(CAMERAS["eu"], folder=tmp_path).load(Split.GATE)


class TestIdentity:
    def test_is_stable_and_differs_by_region(self):
        identities = {region: source(region).identity() for region in CAMERAS}
        assert identities == {region: source(region).identity() for region in CAMERAS}
        assert len(set(identities.values())) == len(CAMERAS)

    @pytest.mark.parametrize(
        "change",
        [
            {"camera": CAMERAS["eu"].model_copy(update={"read_noise": 6.5})},
            {"sizes": Sizes(calibration=501)},
            {"sizes": Sizes(selection=999)},
            {"sizes": Sizes(gate=3_999)},
            {"seed": SEED + 1},
        ],
        ids=["camera", "calibration", "selection", "gate", "seed"],
    )
    def test_changes_with_what_decides_the_samples(self, change):
        assert replace(source("eu"), **change).identity() != source("eu").identity()

    def test_changes_with_the_simulations_code(self, monkeypatch):
        before = source("eu").identity()
        monkeypatch.setattr(fashion, "SIMULATION", 2)
        assert source("eu").identity() != before

    def test_changes_with_the_files_but_not_with_their_place(self, tmp_path):
        for name in ("train.npz", "test.npz"):
            shutil.copy(FOLDER / name, tmp_path / name)
        moved = FashionSource(CAMERAS["eu"], folder=tmp_path)
        assert moved.identity() == source("eu").identity()
        with (tmp_path / "train.npz").open("ab") as file:
            file.write(b"\0")
        assert moved.identity() != source("eu").identity()
