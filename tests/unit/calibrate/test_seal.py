from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from regiolect.calibrate import calibrate
from regiolect.contracts import CalibrationMethod, Preprocessing, Split, short
from regiolect.errors import ForeignCalibration, InvalidSamples
from regiolect.integrity import digest_of
from regiolect.provenance import require_own, too_old

ENTROPY = CalibrationMethod.ENTROPY


def test_a_table_is_sealed_to_what_it_was_made_from(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    table = calibrate(model, data, ENTROPY, workshop.store)
    own = table.seal
    assert (own.region, table.method, own.sample_ids) == ("eu", ENTROPY, tuple(samples.ids.tolist()))
    assert own.model == model.graph.digest
    assert own.dataset == data.dataset.calibration.digest
    assert own.preprocessing == model.preprocessing_digest
    assert own.checks == digest_of([check.model_dump(mode="json") for check in data.checks])
    assert datetime.now(UTC) - own.made < timedelta(minutes=5)
    require_own(own, region="eu", model=model, dataset=data.dataset.calibration)
    require_own(own, region="eu", model=model)


def test_the_same_data_gives_the_same_table(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    one, other = (calibrate(model, data, ENTROPY, workshop.store) for _ in range(2))
    assert one.tensors == other.tensors
    assert one.seal.model_copy(update={"made": other.seal.made}) == other.seal


def test_a_table_of_another_region_is_refused_with_both_named_and_the_remedy(workshop, samples) -> None:
    model = workshop.model()
    table = calibrate(model, workshop.data(samples), ENTROPY, workshop.store)
    with pytest.raises(ForeignCalibration) as caught:
        require_own(table.seal, region="na", model=model)
    assert "'na'" in caught.value.expected
    assert "region eu" in caught.value.found
    assert "regiolect run MODEL --regions na" in caught.value.remedy


def test_a_table_of_another_model_preprocessing_or_dataset_is_refused(workshop, network, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    table = calibrate(model, data, ENTROPY, workshop.store)
    retrained = workshop.model(network(seed=9))
    dimmed = workshop.model(preprocessing=Preprocessing(scale=1 / 127))
    fresh = workshop.data(samples.take(slice(0, 5))).dataset.calibration
    cases = [
        (retrained, None, retrained.graph.digest, table.seal.model),
        (dimmed, None, dimmed.preprocessing_digest, table.seal.preprocessing),
        (model, fresh, fresh.digest, table.seal.dataset),
    ]
    for other, dataset, wanted, sealed in cases:
        with pytest.raises(ForeignCalibration) as caught:
            require_own(table.seal, region="eu", model=other, dataset=dataset)
        assert short(wanted) in caught.value.expected
        assert short(sealed) in caught.value.found


def test_every_difference_is_named_at_once(workshop, network, samples) -> None:
    table = calibrate(workshop.model(), workshop.data(samples), ENTROPY, workshop.store)
    with pytest.raises(ForeignCalibration, match=r"region na.*model graph.*preprocessing"):
        require_own(table.seal, region="na", model=workshop.model(network(seed=9), preprocessing=Preprocessing()))


def test_a_foreign_sample_in_the_set_is_refused_and_named(workshop, samples) -> None:
    tags = samples.regions.copy()
    tags[7] = "na"
    with pytest.raises(ForeignCalibration, match=r"'eu-007' of 'na'"):
        calibrate(workshop.model(), workshop.data(replace(samples, regions=tags)), ENTROPY, workshop.store)


def test_the_set_of_another_region_or_split_is_refused(workshop, samples) -> None:
    with pytest.raises(ForeignCalibration, match="'na'"):
        calibrate(workshop.model(), workshop.data(samples, calibration_region="na"), ENTROPY, workshop.store)
    with pytest.raises(ForeignCalibration, match="gate"):
        calibrate(workshop.model(), workshop.data(samples, split=Split.GATE), ENTROPY, workshop.store)


def test_a_set_of_another_size_than_recorded_is_refused(workshop, samples) -> None:
    with pytest.raises(InvalidSamples, match="12"):
        calibrate(workshop.model(), workshop.data(samples, recorded=12), ENTROPY, workshop.store)


def test_a_calibration_is_as_old_as_the_policy_lets_it_be(workshop, samples) -> None:
    own = calibrate(workshop.model(), workshop.data(samples), ENTROPY, workshop.store).seal
    later = own.made + timedelta(days=7)
    assert too_old(own, None, own.made + timedelta(days=10_000)) is None
    assert too_old(own, 7, later) is None
    assert too_old(own, 7, later + timedelta(seconds=1)) == "its calibration is 7 days old, the policy allows 7"
    assert too_old(own, 0.5, later)
    assert too_old(own, 1) is None
    ahead = too_old(own, 7, own.made - timedelta(days=8))
    assert ahead == "its calibration is dated 8 days ahead of the clock, the policy allows 7", "a clock was wrong"
