"""Weights beside an ONNX file: links of model hubs are followed, and places that are none are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import GraphProto, ModelProto, TensorProto, helper

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.errors import InvalidModelSpec, InvalidOnnx
from regiolect.export import export_model
from regiolect.export.external import all_tensors
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import conv_net

Listed = Callable[..., ModelSpec]


@pytest.fixture
def listed(make_spec: Listed) -> Listed:
    def spec(path: Path, *sources: Path) -> ModelSpec:
        inputs = (TensorSpec(name="x", shape=("batch", 2, 6, 6)),)
        return make_spec(path, sources=sources, inputs=inputs, outputs=("y",), preprocessing=Preprocessing())

    return spec


def hub_cache(folder: Path) -> Path:
    """A model and its weights as links to blobs that are named by digest."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "r"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    onnx.save(conv_net(), blobs / "made", save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    (blobs / "made").rename(blobs / "aaa")
    (blobs / "model.onnx_data").rename(blobs / "bbb")
    (snapshot / "model.onnx").symlink_to("../../blobs/aaa")
    (snapshot / "model.onnx_data").symlink_to("../../blobs/bbb")
    return snapshot / "model.onnx"


def test_weights_that_a_hubs_cache_links_to_are_taken(listed: Listed, store: LocalStore, tmp_path: Path) -> None:
    """They were called weights outside of the model's folder."""
    path = hub_cache(tmp_path)
    weights = path.parent / "model.onnx_data"
    exported = export_model(listed(path, weights), store, None)
    whole = tmp_path / "whole.onnx"
    whole.write_bytes(conv_net().SerializeToString())
    assert exported.graph == export_model(listed(whole), store, None).graph
    assert exported.bytes_before == path.stat().st_size + weights.stat().st_size


def test_a_link_that_the_spec_does_not_list_is_not_followed(listed: Listed, store: LocalStore, tmp_path: Path) -> None:
    path = hub_cache(tmp_path)
    with pytest.raises(InvalidModelSpec, match=r"model\.onnx_data"):
        export_model(listed(path), store, None)


def beside(tmp_path: Path, **entries: str) -> tuple[Path, Path]:
    """A model whose first weight says of its place what `entries` say, and a file beside it."""
    model, weights = conv_net(), tmp_path / "weights.bin"
    tensor = model.graph.initializer[0]
    weights.write_bytes(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path, weights


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"offset": "abc"}, "offset 'abc'"),
        ({"offset": "-8"}, "offset '-8'"),
        ({"offset": "1_0"}, "no number of bytes"),
        ({"length": "9" * 4000}, "no number of bytes"),
        ({"length": "4"}, "4 bytes of weights"),
        ({"offset": "1"}, "at least 289 bytes"),
        ({"location": ""}, "no weights file"),
        ({"location": "a\0b"}, "no weights file"),
        ({"location": "a" * 5000}, "File name too long"),
        ({"location": "sub/../weights.bin"}, "outside of its folder"),
        ({"location": "..\\weights.bin"}, "outside of its folder"),
        ({"location": "/etc/passwd"}, "outside of its folder"),
        ({"location": "C:\\weights.bin"}, "outside of its folder"),
    ],
)
def test_places_that_are_none_are_named(
    listed: Listed, store: LocalStore, tmp_path: Path, entries: dict[str, str], said: str
) -> None:
    """Most of them ended in a stack trace."""
    path, weights = beside(tmp_path, **entries)
    with pytest.raises(InvalidOnnx, match=said) as failure:
        export_model(listed(path, weights), store, None)
    assert len(str(failure.value)) < 700


def test_weights_beyond_what_onnx_holds_are_refused_before_they_are_read(
    listed: Listed, store: LocalStore, tmp_path: Path
) -> None:
    path, weights = beside(tmp_path)
    model = ModelProto.FromString(path.read_bytes())
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([2**20, 2**10, 1, 1])
    path.write_bytes(model.SerializeToString())
    with weights.open("wb") as file:
        file.truncate(2**32)
    with pytest.raises(InvalidOnnx, match=r"at most 2 GiB.*4\.0 GiB beside it"):
        export_model(listed(path, weights), store, None)


def test_weights_of_subgraphs_are_asked_for_as_well(listed: Listed, store: LocalStore, tmp_path: Path) -> None:
    """A file that the spec does not list was read where a branch named it."""
    hidden = TensorProto(name="hidden", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    hidden.external_data.add(key="location", value="other.bin")
    (tmp_path / "other.bin").write_bytes(bytes(4))
    value = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [1])
    branch = GraphProto(name="branch", initializer=[hidden], output=[value])
    choice = helper.make_node("If", ["m"], ["y"], then_branch=branch, else_branch=branch)
    model = conv_net(extra=(choice,))
    assert sum(tensor.name == "hidden" for tensor in all_tensors(model)) == 2
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidModelSpec, match=r"other\.bin"):
        export_model(listed(path), store, None)
