"""A shape that the engine was not built for is refused by its name, through what consumers call."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from regiolect.contracts import DimensionProfile, TensorSpec
from regiolect.engines import catalog
from regiolect.errors import ShapeOutsideProfile
from regiolect.serving import ServedModel, _load_pyfunc
from tests.tiny_graph import averaged


@pytest.fixture(params=["openvino", "onnxruntime"])
def served(request: pytest.FixtureRequest, bundles, tmp_path: Path) -> ServedModel:
    wide = dataclasses.replace(bundles, inputs=(TensorSpec(name="image", shape=("batch", 1, 4, "width")),))
    graph = averaged(np.ones((1, 3), np.float32))
    asked = wide.request("eu", "cpu", request.param, graph).model_copy(
        update={"shapes": {"width": DimensionProfile(min=4, opt=8, max=16)}}
    )
    wide.write(tmp_path / "bundle", catalog.backend(request.param).build(asked, wide.store))
    return _load_pyfunc(str(tmp_path / "bundle"))


def images(rows: int, width: int) -> np.ndarray:
    return np.full((rows, 1, 4, width), 255, np.uint8)


@pytest.mark.parametrize("width", [4, 16])
def test_a_width_within_the_profile_is_answered(served: ServedModel, width: int) -> None:
    np.testing.assert_allclose(served.predict(images(9, width))["logits"], np.full((9, 3), 2.0), rtol=1e-3)


@pytest.mark.parametrize(("rows", "width"), [(2, 3), (2, 17), (0, 8)])
def test_what_lies_outside_is_refused_with_both_sides_and_a_remedy(served: ServedModel, rows: int, width: int) -> None:
    with pytest.raises(ShapeOutsideProfile) as caught:
        served.predict(images(rows, width))
    assert str(width if rows else rows) in caught.value.found
    assert "region's policy" in caught.value.remedy
