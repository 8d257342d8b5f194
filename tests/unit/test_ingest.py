from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from regiolect.contracts import DeclaredStatistics, Split, TensorSpec
from regiolect.data import FolderSource, Samples, read_samples, save_samples
from regiolect.errors import EmptyDataset, InvalidSamples
from regiolect.ingest import ingest
from regiolect.storage import LocalStore

INPUTS = (TensorSpec(name="image", shape=("batch", 1, 6, "width")),)
DECLARED = DeclaredStatistics(mean=(0, 255), std=(0, 255))


def images(split: Split, dtype: type = np.uint8) -> Samples:
    rng = np.random.default_rng(len(split.value))
    return Samples(
        ids=np.array([f"{split.value}-{row}" for row in range(8)]),
        regions=np.array(["eu"] * 8),
        inputs={"image": rng.integers(0, 256, (8, 1, 6, 5)).astype(dtype)},
        targets=np.arange(8) % 4,
    )


@dataclass(frozen=True)
class MemorySource:
    sets: dict[Split, Samples]
    region: str = "eu"
    declared: DeclaredStatistics = field(default=DECLARED)
    classes: int | None = 4

    def identity(self) -> str:
        return "sha256:" + "0" * 64

    def load(self, split: Split) -> Samples:
        return self.sets[split]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


def source(change: Callable[[Samples], Samples] = lambda samples: samples, dtype: type = np.uint8) -> MemorySource:
    """Good sets, the gate set changed."""
    sets = {split: images(split, dtype) for split in Split}
    return MemorySource(sets={**sets, Split.GATE: change(sets[Split.GATE])})


def with_value(value: float) -> Callable[[Samples], Samples]:
    def change(samples: Samples) -> Samples:
        image = samples.inputs["image"].copy()
        image[3, 0, 2, 1] = value
        return replace(samples, inputs={"image": image})

    return change


def test_what_is_kept_reads_back_as_it_was(store: LocalStore) -> None:
    dataset = ingest(source(), store, INPUTS, "uint8")
    assert (dataset.region, dataset.classes, dataset.declared) == ("eu", 4, DECLARED)
    for split in Split:
        kept = getattr(dataset, split.value)
        assert (kept.region, kept.split, kept.samples) == ("eu", split, 8)
        found, wanted = read_samples(store.path_of(kept.blob)), images(split)
        np.testing.assert_array_equal(found.inputs["image"], wanted.inputs["image"])
        np.testing.assert_array_equal(found.ids, wanted.ids)
        np.testing.assert_array_equal(found.targets, wanted.targets)
    assert len({dataset.calibration.digest, dataset.selection.digest, dataset.gate.digest}) == 3


def test_the_same_samples_give_the_same_digests(store: LocalStore, tmp_path: Path) -> None:
    for split in Split:
        save_samples(tmp_path / "eu" / f"{split.value}.npz", images(split))
    folder = FolderSource(region="eu", folder=tmp_path / "eu", declared=DECLARED, classes=4)
    assert ingest(folder, store, INPUTS, "uint8") == ingest(source(), store, INPUTS, "uint8")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(store: LocalStore, value: float) -> None:
    with pytest.raises(InvalidSamples) as caught:
        ingest(source(with_value(value), np.float32), store, INPUTS, "float32")
    assert all(word in str(caught.value) for word in ("'image'", "gate-3", "gate set", "'eu'", "1 of 8"))
    assert "gate-2" not in str(caught.value)


def test_targets_must_be_finite_as_well(store: LocalStore) -> None:
    sets = {split: replace(images(split), targets=np.zeros(8)) for split in Split}
    sets[Split.GATE].targets[7] = np.nan
    with pytest.raises(InvalidSamples, match=r"'targets'.*gate-7"):
        ingest(MemorySource(sets, classes=None), store, INPUTS, "uint8")


@pytest.mark.parametrize(
    ("change", "expected", "found"),
    [
        (lambda s: replace(s, inputs={"picture": s.inputs["image"]}), "inputs image", "picture"),
        (lambda s: replace(s, inputs={**s.inputs, "extra": s.inputs["image"]}), "inputs image", "extra, image"),
        (lambda s: replace(s, inputs={"image": s.inputs["image"][:, :, :4]}), "(batch, 1, 6, width)", "(8, 1, 4, 5)"),
        (lambda s: replace(s, inputs={"image": s.inputs["image"][:, 0]}), "(batch, 1, 6, width)", "(8, 6, 5)"),
        (lambda s: replace(s, inputs={"image": s.inputs["image"][..., :0]}), "(batch, 1, 6, width)", "(8, 1, 6, 0)"),
        (lambda s: replace(s, inputs={"image": s.inputs["image"] / 255}), "uint8", "float64"),
        (lambda s: replace(s, targets=np.zeros((8, 2), np.int64)), "integer labels of shape (8,)", "(8, 2)"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    store: LocalStore, change: Callable[[Samples], Samples], expected: str, found: str
) -> None:
    with pytest.raises(InvalidSamples) as caught:
        ingest(source(change), store, INPUTS, "uint8")
    assert expected in caught.value.expected
    assert "gate set of region 'eu'" in caught.value.expected
    assert found in caught.value.found
    assert caught.value.remedy


def test_samples_of_another_dtype_than_the_preprocessing_takes_are_refused(store: LocalStore) -> None:
    with pytest.raises(InvalidSamples, match=r"float32.*Preprocessing\(raw_dtype='float32'\)"):
        ingest(source(dtype=np.float32), store, INPUTS, "uint8")


def test_a_missing_set_is_an_empty_dataset(store: LocalStore, tmp_path: Path) -> None:
    save_samples(tmp_path / "calibration.npz", images(Split.CALIBRATION))
    with pytest.raises(EmptyDataset, match="selection"):
        ingest(FolderSource(region="eu", folder=tmp_path, declared=DECLARED), store, INPUTS, "uint8")
