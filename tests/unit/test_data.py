"""Samples as users hand them in: kept byte for byte, and refused when they are not what they say."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from regiolect.contracts import DeclaredStatistics, Preprocessing, Split
from regiolect.data import FolderSource, Samples, preprocess, read_samples, samples_to_bytes, save_samples
from regiolect.errors import EmptyDataset, InvalidSamples
from regiolect.integrity import digest_of

DECLARED = DeclaredStatistics(mean=(0, 255), std=(0, 128))


def samples(count: int = 5, **changes: Any) -> Samples:
    images = np.random.default_rng(1).integers(0, 256, (count, 1, 3, 3), np.uint8)
    usable = {
        "ids": np.asarray([f"s{row}" for row in range(count)], dtype=str),
        "regions": np.full(count, "eu"),
        "inputs": {"image": images},
        "targets": np.arange(count),
    }
    return Samples(**{**usable, **changes})


@given(
    images=arrays.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
        arrays.array_shapes(min_dims=2, max_dims=4, max_side=4),
        elements=st.integers(0, 100),
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
def test_samples_come_back_as_they_were_saved(tmp_path: Path, images: np.ndarray) -> None:
    given_samples = samples(len(images), inputs={"image": images, "other": images[:, :1]})
    save_samples(tmp_path / "set.npz", given_samples)
    read = read_samples(tmp_path / "set.npz")
    assert read.ids.tolist() == given_samples.ids.tolist()
    assert read.regions.tolist() == given_samples.regions.tolist()
    np.testing.assert_array_equal(read.targets, given_samples.targets)
    assert list(read.inputs) == ["image", "other"]
    for name, array in given_samples.inputs.items():
        assert read.inputs[name].dtype == array.dtype
        np.testing.assert_array_equal(read.inputs[name], array)


def test_equal_samples_give_equal_bytes_and_others_do_not() -> None:
    one = samples()
    turned = np.asfortranarray(one.inputs["image"])
    assert samples_to_bytes(replace(one, inputs={"image": turned})) == samples_to_bytes(one)
    two = replace(one, inputs={"b": one.inputs["image"], "a": turned})
    assert samples_to_bytes(two) == samples_to_bytes(replace(two, inputs=dict(reversed(two.inputs.items()))))
    changed = one.inputs["image"].copy()
    changed[0, 0, 0, 0] ^= 1
    assert samples_to_bytes(replace(one, inputs={"image": changed})) != samples_to_bytes(one)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"count": 0}, EmptyDataset, "0 samples"),
        ({"inputs": {}}, EmptyDataset, "0 inputs"),
        ({"targets": np.arange(4)}, InvalidSamples, "5 rows in 'targets'"),
        ({"inputs": {"image": np.zeros((6, 2))}}, InvalidSamples, "5 rows in 'image'"),
        ({"ids": np.arange(5)}, InvalidSamples, "ids and regions as text"),
        ({"regions": np.full(5, b"eu")}, InvalidSamples, "ids and regions as text"),
        ({"inputs": {"image": np.full((5, 2), "x")}}, InvalidSamples, "integers or floats"),
        ({"inputs": {"image": np.zeros((5, 2), complex)}}, InvalidSamples, "integers or floats"),
        (
            {"inputs": {"image": np.ma.masked_less(np.eye(5), 1)}},
            InvalidSamples,
            "'image' as a plain.*20 of its 25",
        ),
        ({"targets": np.ma.array(np.arange(5))}, InvalidSamples, "'targets' as a plain array"),
    ],
)
def test_samples_that_do_not_fit_together_are_refused(changes: dict[str, Any], error: Any, told: str) -> None:
    with pytest.raises(error, match=told):
        samples(**changes)


def test_rows_can_be_taken_in_any_order() -> None:
    taken = samples().take(np.array([3, 1]))
    assert (taken.ids.tolist(), taken.targets.tolist(), len(taken)) == (["s3", "s1"], [3, 1], 2)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickled_objects_are_not_opened(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", ids=np.array([Trap()], dtype=object))
    with pytest.raises(InvalidSamples, match=r"set\.npz"):
        read_samples(tmp_path / "set.npz")
    (tmp_path / "bare.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InvalidSamples):
        read_samples(tmp_path / "bare.npz")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    data = samples_to_bytes(samples())
    for length in range(0, len(data), 97):
        (tmp_path / "set.npz").write_bytes(data[:length])
        with pytest.raises(InvalidSamples, match="write the file again"):
            read_samples(tmp_path / "set.npz")


def test_a_file_with_a_changed_byte_in_an_array_is_refused(tmp_path: Path) -> None:
    data = bytearray(samples_to_bytes(samples()))
    data[data.index(samples().inputs["image"].tobytes()) + 4] ^= 1
    (tmp_path / "set.npz").write_bytes(data)
    with pytest.raises(InvalidSamples, match="CRC"):
        read_samples(tmp_path / "set.npz")


def test_an_archive_without_the_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=np.zeros(3))
    with pytest.raises(InvalidSamples, match="arrays ids, regions, targets"):
        read_samples(tmp_path / "set.npz")


@pytest.fixture
def source(tmp_path: Path) -> FolderSource:
    for number, split in enumerate(Split):
        save_samples(tmp_path / f"{split.value}.npz", samples(4 + number))
    return FolderSource("eu", tmp_path, DECLARED, classes=3)


def test_each_set_is_its_own_file(source: FolderSource) -> None:
    assert [len(source.load(split)) for split in Split] == [4, 5, 6]


@pytest.mark.parametrize("split", list(Split))
def test_a_missing_set_is_named_with_its_path(source: FolderSource, split: Split) -> None:
    (source.folder / f"{split.value}.npz").unlink()
    with pytest.raises(EmptyDataset, match=f"{split.value} set of region 'eu'"):
        source.load(split)
    with pytest.raises(EmptyDataset):
        source.identity()


def test_the_identity_follows_samples_and_declarations_and_nothing_else(source: FolderSource, tmp_path: Path) -> None:
    before = source.identity()
    save_samples(source.folder / "gate.npz", samples(6))
    assert source.identity() == before, "written again, the same"
    others = [replace(source, classes=4), replace(source, declared=DeclaredStatistics(mean=(0, 1), std=(0, 1)))]
    assert before not in [other.identity() for other in others]
    save_samples(source.folder / "selection.npz", samples(7))
    assert source.identity() != before


# ------------------------------------------------------------------------------------------------- preprocessing


def test_preprocessing_is_the_formula_per_channel() -> None:
    raw = np.arange(2 * 3 * 2 * 2, dtype=np.uint8).reshape(2, 3, 2, 2)
    how = Preprocessing(raw_dtype="uint8", scale=0.5, mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    prepared = preprocess(raw, how)
    assert prepared.dtype == np.float32
    for channel, (mean, std) in enumerate(((1, 1), (2, 2), (3, 4))):
        np.testing.assert_allclose(prepared[:, channel], (raw[:, channel] * 0.5 - mean) / std)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 4, 4, 3), (3,), (2, 4)])
@pytest.mark.parametrize("what", ["mean", "std"])
def test_preprocessing_by_channel_makes_no_other_shape(shape: tuple[int, ...], what: str) -> None:
    how = Preprocessing(**{what: (1.0, 2.0, 3.0)})
    with pytest.raises(InvalidSamples, match=r"inputs with 3 channels on axis 1") as refused:
        preprocess(np.zeros(shape, np.float32), how)
    assert str(shape) in refused.value.found
    assert preprocess(np.zeros(shape, np.float32), Preprocessing()).shape == shape


@given(raw=arrays.arrays(np.int16, st.tuples(st.integers(1, 4), st.integers(1, 5)), elements=st.integers(-999, 999)))
def test_preprocessing_of_a_row_does_not_depend_on_its_neighbours(raw: np.ndarray) -> None:
    how = Preprocessing(raw_dtype="int16", scale=1 / 7, mean=(0.25,), std=(0.5,))
    np.testing.assert_array_equal(preprocess(raw, how)[:1], preprocess(raw[:1], how))


def test_preprocessing_has_an_identity_of_its_own() -> None:
    assert digest_of(Preprocessing(mean=(0.5,))) != digest_of(Preprocessing(mean=(0.25,)))


def test_attributes_are_saved_taken_and_read_back(tmp_path: Path) -> None:
    one = samples(attributes={"device": np.array(["phone", "scanner", "phone", "tablet", "phone"])})
    save_samples(tmp_path / "set.npz", one)
    read = read_samples(tmp_path / "set.npz")
    assert read.column("device").tolist() == ["phone", "scanner", "phone", "tablet", "phone"]
    assert read.take(slice(1, 4)).column("device").tolist() == ["scanner", "phone", "tablet"]
    assert read.column("label").tolist() == ["0", "1", "2", "3", "4"]
    assert samples_to_bytes(read) == samples_to_bytes(one) != samples_to_bytes(samples())


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        ({"device": np.arange(5)}, "int64 of shape"),
        ({"device": np.array(["a"] * 4)}, "5 rows in 'device'|expected 5 rows"),
        ({"device": np.array(["a", "", "b", "c", "d"])}, "an empty value for sample 's1'"),
        ({"device": np.array(["a", "b\n", "b", "c", "d"])}, "for sample 's1'"),
        ({"label": np.array(["a"] * 5)}, "the name 'label'"),
        ({"": np.array(["a"] * 5)}, "the name ''"),
    ],
)
def test_attributes_are_text_for_every_sample(attributes: dict[str, np.ndarray], told: str) -> None:
    with pytest.raises(InvalidSamples, match=told):
        samples(attributes=attributes)


def test_a_column_that_samples_lack_is_named() -> None:
    one = samples(attributes={"device": np.array(["a"] * 5)})
    with pytest.raises(InvalidSamples, match="did you mean 'device'"):
        one.column("devise")
    with pytest.raises(InvalidSamples, match=r"light.*attributes: device"):
        one.column("light")
    with pytest.raises(InvalidSamples, match="integer labels"):
        samples(targets=np.array(["text"] * 5)).column("label")


def test_a_folder_tells_its_sets_by_their_headers_and_a_damaged_one_without_a_number(tmp_path: Path) -> None:
    source = FolderSource("eu", tmp_path, DECLARED)
    for split, count in zip(Split, (5, 1, 7), strict=True):
        save_samples(tmp_path / f"{split.value}.npz", samples(count))
    told = source.sets()
    assert {split.value: each.samples for split, each in told.items()} == {"calibration": 5, "selection": 1, "gate": 7}
    (tmp_path / "gate.npz").write_bytes(b"no archive")
    damaged = source.sets()
    assert damaged[Split.GATE].samples is None
    assert damaged[Split.GATE].digest != told[Split.GATE].digest
    assert damaged[Split.SELECTION] == told[Split.SELECTION]


def test_a_folder_with_an_identity_of_its_own_tells_no_sets(tmp_path: Path) -> None:
    class Elsewhere(FolderSource):
        def identity(self) -> str:
            return digest_of("a database")

    assert Elsewhere("eu", tmp_path, DECLARED).sets() == {}
