from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from regiolect.calibrate import calibrate, require_own
from regiolect.contracts import CalibrationMethod, Preprocessing, Split, short
from regiolect.errors import ForeignCalibration, InvalidSamples

ENTROPY = CalibrationMethod.ENTROPY


def test_a_table_is_sealed_to_what_it_was_made_from(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    table = calibrate(model, data, ENTROPY, workshop.store)
    assert (table.region, table.method, table.samples) == ("eu", ENTROPY, len(samples))
    assert table.model == model.graph.digest
    assert table.dataset == data.dataset.calibration.digest
    assert table.preprocessing == model.preprocessing_digest
    require_own(table, region="eu", model=model, dataset=data.dataset.calibration)
    require_own(table, region="eu", model=model)


def test_the_same_data_gives_the_same_table(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    assert calibrate(model, data, ENTROPY, workshop.store) == calibrate(model, data, ENTROPY, workshop.store)


def test_a_table_of_another_region_is_refused_with_both_named_and_the_remedy(workshop, samples) -> None:
    model = workshop.model()
    table = calibrate(model, workshop.data(samples), ENTROPY, workshop.store)
    with pytest.raises(ForeignCalibration) as caught:
        require_own(table, region="na", model=model)
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
        (retrained, None, retrained.graph.digest, table.model),
        (dimmed, None, dimmed.preprocessing_digest, table.preprocessing),
        (model, fresh, fresh.digest, table.dataset),
    ]
    for other, dataset, wanted, sealed in cases:
        with pytest.raises(ForeignCalibration) as caught:
            require_own(table, region="eu", model=other, dataset=dataset)
        assert short(wanted) in caught.value.expected
        assert short(sealed) in caught.value.found


def test_every_difference_is_named_at_once(workshop, network, samples) -> None:
    table = calibrate(workshop.model(), workshop.data(samples), ENTROPY, workshop.store)
    with pytest.raises(ForeignCalibration, match=r"region na.*model graph.*preprocessing"):
        require_own(table, region="na", model=workshop.model(network(seed=9), preprocessing=Preprocessing()))


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


def test_a_table_survives_its_own_json(workshop, samples) -> None:
    table = calibrate(workshop.model(), workshop.data(samples), ENTROPY, workshop.store)
    workshop.store.put_record("calibrations", "sha256:" + "1" * 64, table)
    assert workshop.store.get_record("calibrations", "sha256:" + "1" * 64, type(table)) == table
    assert np.isfinite([found.threshold for found in table.tensors.values()]).all()
