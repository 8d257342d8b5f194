"""What `regiolect init` writes: an example that holds together, and a frame in which nothing unfilled passes."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import yaml

from regiolect.cli.scaffold import MODELS, PREPARE, SETTINGS, around, example, unfilled, write
from regiolect.errors import InvalidPolicy, UsageError
from regiolect.policy import PolicyBook
from tests.tiny_graph import averaged, dense


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The .onnx file of an `image` of any width."""
    path = tmp_path / "My 2 nets.onnx"
    path.write_bytes(averaged(np.ones((1, 3), np.float32)))
    return path


def run_as_module(texts: Mapping[str, str], name: str, folder: Path) -> SimpleNamespace:
    """What a file defines."""
    defined = {"__file__": str(folder / name)}
    exec(compile(texts[name], str(folder / name), "exec"), defined)  # noqa: S102
    return SimpleNamespace(**defined)


def test_the_inputs_and_outputs_of_a_file_are_filled_in(tmp_path: Path, model: Path) -> None:
    texts = around(model, tmp_path / "project")
    assert 'name="project"' in texts[MODELS]
    assert 'loader=HERE / "../My 2 nets.onnx"' in texts[MODELS]
    assert 'TensorSpec(name="image", dtype="float32", shape=("batch", 1, 4, "width"))' in texts[MODELS]
    assert 'outputs=("logits",)' in texts[MODELS]
    assert "shape (n, 1, 4, width)" in texts[PREPARE]


def test_what_only_its_owner_knows_is_an_error_that_names_the_line(tmp_path: Path, model: Path) -> None:
    texts = around(model, tmp_path)
    lines = dict(unfilled(texts))
    for name in (MODELS, PREPARE):
        with pytest.raises(NotImplementedError) as error:
            run_as_module(texts, name, tmp_path)
        assert lines[name][0] in {entry.lineno + 1 for entry in error.traceback}
    write(tmp_path, texts)
    with pytest.raises(InvalidPolicy, match=rf"eu\.yaml:{lines['policies/eu.yaml'][0]}: shapes\.width") as told:
        PolicyBook(tmp_path / "policies").all()
    assert "FILL IN" in told.value.found


def test_once_it_is_filled_in_it_is_a_model_with_its_policies(tmp_path: Path, model: Path) -> None:
    (tmp_path / "project").mkdir()
    texts = around(model, tmp_path / "project")
    answers = iter(["Preprocessing()", "top1", *["DeclaredStatistics(mean=(0, 1), std=(0, 1))"] * 2])
    filled = re.sub(r'(?<!def )fill_in\(".*?"\)', lambda _: next(answers), texts[MODELS])
    spec = run_as_module({MODELS: filled}, MODELS, tmp_path / "project").MODEL
    assert sorted(spec.source().files)[0] == "My 2 nets.onnx"
    bounds = "min: 4, opt: 8, max: 9"
    write(
        tmp_path / "project",
        {path: text.replace("min: FILL IN, opt: FILL IN, max: FILL IN", bounds) for path, text in texts.items()},
    )
    for policy in PolicyBook(tmp_path / "project" / "policies").all():
        assert policy.shapes_for(spec.inputs)["width"].opt == 8
        assert spec.metric_source(policy.accuracy.metric)


def test_no_name_or_text_of_a_file_becomes_code(tmp_path: Path) -> None:
    graph = onnx.load_from_string(dense(np.ones((16, 3), np.float32)))
    evil = 'x", shape=fill()) or exit(3); "\n$name ${shapes} \\'
    graph.graph.input[0].name = graph.graph.node[0].input[0] = evil
    graph.graph.input[0].type.tensor_type.shape.dim[2].dim_param = evil
    path = tmp_path / f"{evil.replace(chr(10), ' ')}.onnx"
    path.write_bytes(graph.SerializeToString())
    texts = around(path, tmp_path)
    for name, wanted in ((MODELS, {evil, path.name}), (PREPARE, {evil})):
        module = ast.parse(texts[name])
        assert wanted <= {node.value for node in ast.walk(module) if isinstance(node, ast.Constant)}
        assert [
            node.id for node in ast.walk(module) if isinstance(node, ast.Name) and node.id in ("exit", "fill")
        ] == []
    assert evil in yaml.safe_load(texts["policies/na.yaml"])["shapes"]


@pytest.mark.parametrize(
    ("folder", "name"), [("shop", "shop"), ("My Shop_2", "my-shop-2"), ("2026", "model-2026"), ("日本", "model")]
)
def test_a_model_has_a_name_like_its_folder(tmp_path: Path, folder: str, name: str) -> None:
    assert f'name="{name}"' in example(tmp_path / folder)[MODELS]


@pytest.mark.parametrize("there", [SETTINGS, "policies/eu.yaml", "policies/schema.json", "data"])
def test_nothing_is_overwritten_and_nothing_written_beside_what_is_there(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    # Not even what a link that leads nowhere stands for.
    (tmp_path / there).symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError) as error:
        write(tmp_path, example(tmp_path), also=("data",))
    assert error.value.found == there
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
