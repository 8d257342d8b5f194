"""Each region's three sets: right sizes, own tags, no shared text, and the same on every call."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from examples.ocr import data as ocr
from examples.ocr.data import SEED, LineSource, Sizes, sources
from examples.ocr.lines import STYLES
from regiolect.contracts import Split
from regiolect.data import samples_to_bytes
from regiolect.policy import PolicyBook

SMALL = Sizes(calibration=60, selection=30, gate=40)


def source(region: str) -> LineSource:
    return LineSource(STYLES[region], SMALL)


@pytest.mark.parametrize("region", STYLES)
def test_a_regions_sets(region):
    sets = {split: source(region).load(split) for split in Split}
    texts = []
    for split, samples in sets.items():
        assert len(samples) == getattr(SMALL, split.value)
        assert set(samples.regions) == {region}
        assert samples.inputs["x"].shape == (len(samples), 3, 48, STYLES[region].width)
        assert samples.inputs["x"].dtype == np.uint8
        assert all(name.startswith(f"ocr/{split.value}/") and name.endswith(f"@{region}") for name in samples.ids)
        declared = source(region).declared
        assert declared.mean[0] <= samples.inputs["x"].mean() <= declared.mean[1]
        assert declared.std[0] <= samples.inputs["x"].std() <= declared.std[1]
        texts += samples.targets.tolist()
    assert len(set(texts)) == len(texts) == 130, "a text occurs twice among the sets"


@pytest.mark.parametrize("region", STYLES)
def test_the_sets_are_as_large_as_the_regions_policy_asks_and_fit_its_profile(region):
    policy, whole = PolicyBook().load(region), sources()[region]
    for split, fewest in policy.samples.by_split().items():
        assert getattr(whole.sizes, split.value) >= fewest
    width = policy.shapes["width"]
    assert width.min <= whole.style.width <= width.max


def test_loading_is_deterministic_whatever_was_loaded_before():
    first = samples_to_bytes(source("hk").load(Split.SELECTION))
    source("hk").load(Split.GATE)
    source("me").load(Split.SELECTION)
    assert samples_to_bytes(source("hk").load(Split.SELECTION)) == first


class TestIdentity:
    def test_is_stable_and_differs_by_region(self):
        identities = {region: one.identity() for region, one in sources().items()}
        assert identities == {region: one.identity() for region, one in sources().items()}
        assert len(set(identities.values())) == len(STYLES)

    @pytest.mark.parametrize(
        "change",
        [
            {"style": STYLES["eu"].model_copy(update={"noise": 12.5})},
            {"sizes": Sizes(calibration=257)},
            {"seed": SEED + 1},
        ],
        ids=["style", "sizes", "seed"],
    )
    def test_changes_with_what_decides_the_samples(self, change):
        assert replace(sources()["eu"], **change).identity() != sources()["eu"].identity()

    def test_changes_with_the_simulations_code(self, monkeypatch):
        before = source("eu").identity()
        monkeypatch.setattr(ocr, "SIMULATION", 2)
        assert source("eu").identity() != before
