"""Kept calibrations come back as they were, and nothing that is wrong with one goes unnoticed."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regiolect.calibrate import (
    Observed,
    Shard,
    keep_observed,
    observe,
    read_observed,
    table_from_bytes,
    table_of,
    table_to_bytes,
)
from regiolect.calibrate.histogram import Extremes, histogram_of
from regiolect.contracts import CalibrationMethod, Observation
from regiolect.errors import ContentMissing, ForeignCalibration, IntegrityError, InvalidCalibration

GOLDEN = Path(__file__).parents[2] / "golden" / "calibration_v1"
ENTROPY = CalibrationMethod.ENTROPY


def content(observed: Observed) -> tuple[object, ...]:
    return (
        observed.seal,
        observed.shard,
        [
            (name, each.exponent, each.minimum, each.maximum, each.counts.tolist())
            for name, each in observed.histograms.items()
        ],
        [(name, each.minimum, each.maximum) for name, each in observed.ranges.items()],
    )


@pytest.fixture
def observed(workshop, samples) -> Observed:
    return observe(workshop.model(), workshop.data(samples), workshop.store, ranges=True)


@pytest.fixture
def rewritten(workshop, observed) -> Callable[..., Observation]:
    """An observation with some of its arrays replaced, or left out where None is given, kept like a sound one."""

    def _rewritten(**changes: NDArray[Any] | None) -> Observation:
        kept = keep_observed(observed, workshop.store)
        with np.load(workshop.store.path_of(kept.histograms)) as archive:
            arrays = {**{name: archive[name] for name in archive.files}, **changes}
        buffer = io.BytesIO()
        np.savez(buffer, **{name: array for name, array in arrays.items() if array is not None})
        return kept.model_copy(update={"histograms": workshop.store.put_bytes(buffer.getvalue())})

    return _rewritten


def test_an_observation_comes_back_as_it_was(workshop, observed) -> None:
    kept = keep_observed(observed, workshop.store)
    assert keep_observed(observed, workshop.store) == kept, "the same content has the same bytes"
    read = read_observed(kept, workshop.store)
    assert content(read) == content(observed)
    for method in CalibrationMethod:
        assert table_of(read, method) == table_of(observed, method)
    assert kept.histograms.size < 64 << 10, "counts are mostly zeros"


def test_parts_and_tensors_never_reached_come_back_too(workshop, observed) -> None:
    strange = Observed(
        observed.seal,
        {"empty": histogram_of(np.array([], np.float32)), "zero": histogram_of(np.zeros(4, np.float32))},
        {"never": Extremes(), "größe": Extremes(-1.5, 3e38)},
        Shard(1, 4),
    )
    assert content(read_observed(keep_observed(strange, workshop.store), workshop.store)) == content(strange)
    bare = Observed(observed.seal, {}, {"a": Extremes(0.0, 0.0)})
    assert content(read_observed(keep_observed(bare, workshop.store), workshop.store)) == content(bare)


def test_histograms_under_another_seal_are_refused(workshop, observed) -> None:
    kept = keep_observed(observed, workshop.store)
    moved = kept.model_copy(update={"seal": kept.seal.model_copy(update={"region": "na"})})
    with pytest.raises(ForeignCalibration, match="region 'na'"):
        read_observed(moved, workshop.store)


def test_changed_and_missing_content_is_refused(workshop, observed) -> None:
    kept = keep_observed(observed, workshop.store)
    path = workshop.store.path_of(kept.histograms)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError):
        read_observed(kept, workshop.store)
    path.unlink()
    with pytest.raises(ContentMissing):
        read_observed(kept, workshop.store)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_observation_is_refused(workshop, observed, share) -> None:
    kept = keep_observed(observed, workshop.store)
    data = workshop.store.path_of(kept.histograms).read_bytes()
    blob = workshop.store.put_bytes(data[: int(share * len(data))])
    with pytest.raises(InvalidCalibration, match="--force"):
        read_observed(kept.model_copy(update={"histograms": blob}), workshop.store)


def test_an_observation_with_pickled_objects_is_refused(rewritten, workshop) -> None:
    with pytest.raises(InvalidCalibration):
        read_observed(rewritten(names=np.array([{"a": 1}], object)), workshop.store)


def test_an_observation_of_another_format_is_refused(rewritten, workshop) -> None:
    with pytest.raises(InvalidCalibration, match="format 2") as caught:
        read_observed(rewritten(format=np.array(2)), workshop.store)
    assert "version of regiolect" in caught.value.remedy


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"counts": None}, "counts missing or unknown"),
        ({"extra": np.zeros(1)}, "extra missing or unknown"),
        ({"counts": np.zeros((6, 100), np.int64)}, r"counts: int64 of shape \(6, 100\)"),
        ({"counts": np.zeros((6, 1 << 14))}, "counts: float64"),
        ({"exponents": np.zeros(5, np.int64)}, r"exponents: .* shape \(5,\)"),
        ({"range_maxima": np.zeros(5)}, r"range_maxima: .* shape \(5,\)"),
        ({"names": np.array(["a", "b", "c", "d", "e", "a"])}, "twice"),
        ({"counts": np.full((6, 1 << 14), -1)}, "image: -16384 values"),
        ({"minima": np.full(6, np.nan)}, "image: .* from nan"),
        ({"exponents": np.full(6, -90)}, r"image: .* 2\*\*-90"),
        ({"shard": np.array([3, 2])}, r"shard \[3, 2\]"),
        ({"range_minima": np.full(6, np.inf)}, "values from inf to"),
    ],
)
def test_arrays_that_do_not_fit_together_are_refused(rewritten, workshop, change, told) -> None:
    with pytest.raises(InvalidCalibration, match=told):
        read_observed(rewritten(**change), workshop.store)


def test_a_table_comes_back_as_it_was(observed) -> None:
    table = table_of(observed, ENTROPY)
    assert table_from_bytes(table_to_bytes(table)) == table
    assert table_to_bytes(table_from_bytes(table_to_bytes(table))) == table_to_bytes(table)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_table_is_refused(observed, share) -> None:
    data = table_to_bytes(table_of(observed, ENTROPY))
    with pytest.raises(InvalidCalibration, match="none"):
        table_from_bytes(data[: int(share * len(data))])


@pytest.mark.parametrize("change", [{"format": 2}, {"format": None}, {"format": "1"}])
def test_a_table_of_another_format_is_refused(observed, change) -> None:
    value = json.loads(table_to_bytes(table_of(observed, ENTROPY)))
    with pytest.raises(InvalidCalibration, match=f"format {change['format']!r}") as caught:
        table_from_bytes(json.dumps({**value, **change}).encode())
    assert "version of regiolect" in caught.value.remedy
    with pytest.raises(InvalidCalibration, match="format None"):
        table_from_bytes(b"[]")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("method",), "best", "method"),
        (("tensors",), {}, "tensors"),
        (("tensors", "image", "threshold"), -1.0, "tensors.image.threshold"),
        (("tensors", "image", "threshold"), None, "tensors.image.threshold"),
        (("seal", "sample_ids"), [], "seal.sample_ids"),
        (("seal", "model"), "mine", "seal.model"),
        (("note",), "hello", "note"),
    ],
)
def test_a_table_with_an_impossible_field_names_it(observed, path, value, told) -> None:
    document = json.loads(table_to_bytes(table_of(observed, ENTROPY)))
    place = document
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(InvalidCalibration, match=f"found {told}: "):
        table_from_bytes(json.dumps(document).encode())


@pytest.mark.parametrize("field", ["method", "seal", "tensors"])
def test_a_table_without_a_field_names_it(observed, field) -> None:
    document = json.loads(table_to_bytes(table_of(observed, ENTROPY)))
    del document[field]
    with pytest.raises(InvalidCalibration, match=f"found {field}: Field required"):
        table_from_bytes(json.dumps(document).encode())


def test_kept_calibrations_of_format_1_go_on_loading(workshop) -> None:
    """Written when the formats were new. A change that breaks this breaks what users have in their stores."""
    table = table_from_bytes((GOLDEN / "table.json").read_bytes())
    assert (table.seal.region, table.seal.sample_ids, table.method) == ("eu", ("eu-0", "eu-1"), ENTROPY)
    assert table.tensors["image"].maximum == 0.25
    observation = Observation.model_validate_json((GOLDEN / "observation.json").read_bytes())
    blob = workshop.store.put_file(GOLDEN / "histograms.npz")
    assert blob.digest == observation.histograms.digest
    observed = read_observed(observation, workshop.store)
    assert observed.seal == table.seal
    assert (list(observed.histograms), list(observed.ranges)) == (["image", "hidden"], ["scores"])
    assert observed.histograms["hidden"].total == 2000
    assert (observed.ranges["scores"].minimum, observed.ranges["scores"].maximum) == (-3.0, 70000.0)
    assert table_of(observed, ENTROPY) == table
