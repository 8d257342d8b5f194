from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from regiolect.contracts import ExportedModel, Preprocessing, TensorSpec
from regiolect.data import Samples, preprocess
from regiolect.errors import ExportFailed, InvalidModelSpec, InvalidSamples, ParityFailed
from regiolect.export import export_model
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

pytestmark = pytest.mark.slow

Make = Callable[..., ModelSpec]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> LocalStore:
    return LocalStore(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def exported(make_spec: Make, net: Callable[[], nn.Module], kept: LocalStore, samples: Samples) -> ExportedModel:
    return export_model(make_spec(net), kept, samples)


def test_graph_equals_the_module_at_any_batch(exported, kept, net, samples):
    session = onnxruntime.InferenceSession(kept.path_of(exported.graph), providers=["CPUExecutionProvider"])
    images = preprocess(samples.inputs["image"], Preprocessing(scale=1 / 255, mean=(0.3,), std=(0.35,)))
    for batch in (1, 7, 33):
        (found,) = session.run(["logits"], {"image": images[:batch]})
        with torch.no_grad():
            np.testing.assert_allclose(found, net()(torch.from_numpy(images[:batch])).numpy(), atol=1e-5)
    assert session.get_inputs()[0].shape == ["batch", 1, 12, 12]
    assert session.get_outputs()[0].shape == ["batch", 3]


def test_clean_up_folds_batch_norms_and_constants_and_says_so(exported, kept):
    operators = [node.op_type for node in onnx.load(kept.path_of(exported.graph)).graph.node]
    assert operators.count("Conv") == 2
    assert not {"BatchNormalization", "Shape", "Constant", "Identity", "Concat"} & set(operators)
    assert exported.nodes_after == len(operators) < exported.nodes_before
    assert exported.bytes_after == exported.graph.size < exported.bytes_before
    assert exported.opset == 20


def test_parity_is_reported_on_every_sample(exported, samples):
    assert exported.parity is not None
    assert exported.parity.samples == 40
    assert exported.parity.worst_sample in samples.ids
    assert 0 < exported.parity.worst_error < exported.parity.tolerance == 1e-4


def test_same_model_gives_same_bytes_with_nothing_local_in_them_and_leaves_torch_as_it_was(
    exported, kept, make_spec, net, samples, capfd
):
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    assert export_model(make_spec(net), kept, samples) == exported
    assert capfd.readouterr() == ("", "")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    content = kept.path_of(exported.graph).read_bytes()
    for local in (str(Path.home()), str(Path(__file__).parent), sys.prefix, str(kept.root), ".py", "forward", "pkg."):
        assert local.encode() not in content


@pytest.mark.parametrize("bound", ["affinity", "quota"])
def test_torch_takes_no_more_threads_than_the_process_has_processors(
    bound, one_processor, make_spec, net, store, samples
):
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, image):
            taken.append(torch.get_num_threads())
            return self.net(image)

    def load():
        taken.append(torch.get_num_threads())
        return Counting().eval()

    taken: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        one_processor(bound)
        export_model(make_spec(load), store, samples)
        assert len(taken) > 1 and set(taken) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_torch_module_is_its_own_reference(exported, make_spec, net, store, samples, tmp_path):
    assert exported.reference == exported.graph
    path = tmp_path / "fp32.onnx"
    path.touch()
    with pytest.raises(InvalidModelSpec, match="is not quantized"):
        export_model(make_spec(net, reference=path), store, samples)
    assert not store.root.exists()


class DataDependent(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        flat = image.flatten(1)[:, :3]
        return flat if image.sum() > 0 else -flat


def test_python_branch_on_data_fails_by_name_and_quietly(make_spec, store, samples, capfd):
    with pytest.raises(ExportFailed, match="data-dependent") as failure:
        export_model(make_spec(lambda: DataDependent().eval()), store, samples)
    assert "torch.where" in failure.value.remedy
    assert failure.value.__cause__ is not None
    assert capfd.readouterr() == ("", "")
    assert not store.root.exists()


class FixedBatch(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.reshape(2, -1)[:, :3]


class BrokenForward(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise KeyError("stem")


def missing_weights() -> nn.Module:
    raise FileNotFoundError("weights.safetensors")


def partly_training(net: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def load() -> nn.Module:
        module = net()
        module.body_norm.train()
        return module

    return load


def test_what_cannot_be_exported_is_named(make_spec, net, store, samples):
    for loader, error, said in (
        (missing_weights, ExportFailed, "weights.safetensors"),
        (lambda: BrokenForward().eval(), ExportFailed, "KeyError: 'stem'"),
        (partly_training(net), ExportFailed, "body_norm"),
        (lambda: "net", InvalidModelSpec, "str"),
    ):
        with pytest.raises(error, match=said):
            export_model(make_spec(loader), store, samples)
    with pytest.raises((InvalidModelSpec, ExportFailed)):
        export_model(make_spec(lambda: FixedBatch().eval()), store, samples)
    assert not store.root.exists()


def test_torch_model_without_samples_is_refused(make_spec, net, store):
    with pytest.raises(ParityFailed, match="real samples"):
        export_model(make_spec(net), store, None)


class Drifting(nn.Module):
    """Answers otherwise from its second call on."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        out = image.flatten(1)[:, :3]
        return out if self.calls < 3 else out * 1.5


def test_model_with_state_fails_parity_and_names_the_worst_sample(make_spec, store, samples):
    spec = make_spec(lambda: Drifting().eval())
    with pytest.raises(ParityFailed) as failure:
        export_model(spec, store, samples)
    first = preprocess(samples.inputs["image"], spec.preprocessing).reshape(40, -1)[:, :3]
    worst = str(samples.ids[np.abs(first).max(axis=1).argmax()])
    assert repr(worst) in failure.value.found
    assert "0.0001" in failure.value.expected
    assert not store.root.exists()


def test_nan_weights_fail_parity(make_spec, net, store, samples):
    def broken() -> nn.Module:
        module = net()
        module.head.weight.data[0, 0] = torch.nan
        return module

    with pytest.raises(ParityFailed, match="NaN"):
        export_model(make_spec(broken), store, samples)


def test_samples_of_another_shape_are_refused(make_spec, net, store, samples):
    narrow = Samples(samples.ids, samples.regions, {"image": samples.inputs["image"][..., :9]}, samples.targets)
    with pytest.raises(InvalidSamples, match=r"\(40, 1, 12, 9\)"):
        export_model(make_spec(net), store, narrow)


class StepsAndScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 5)

    def forward(self, steps: torch.Tensor, scale: torch.Tensor) -> dict[str, torch.Tensor]:
        x = self.mix(steps) * scale[:, None]
        return {"pooled": x.mean(1), "sums": x.sum(2)}


def test_several_inputs_symbolic_lengths_and_named_outputs(make_spec, store):
    rng = np.random.default_rng(0)
    raw = {"steps": rng.random((9, 6, 4), np.float32), "scale": rng.random((9, 1), np.float32)}
    samples = Samples(np.asarray([f"s{i}" for i in range(9)]), np.full(9, "eu"), raw, np.zeros(9))
    inputs = (TensorSpec(name="steps", shape=("batch", "length", 4)), TensorSpec(name="scale", shape=("batch", 1)))
    plain = {"inputs": inputs, "preprocessing": Preprocessing()}
    with torch.random.fork_rng(devices=[]):
        module = StepsAndScale().eval()
    spec = make_spec(lambda: module, outputs=("pooled", "sums"), **plain)
    model = export_model(spec, store, samples)
    session = onnxruntime.InferenceSession(store.path_of(model.graph), providers=["CPUExecutionProvider"])
    assert {value.name: value.shape for value in session.get_inputs()} == {
        "steps": ["batch", "length", 4],
        "scale": ["batch", 1],
    }
    long = {"steps": np.ones((3, 11, 4), np.float32), "scale": np.ones((3, 1), np.float32)}
    pooled, sums = session.run(None, long)
    assert pooled.shape == (3, 5)
    assert sums.shape == (3, 11)

    with pytest.raises(ExportFailed, match="order"):
        export_model(make_spec(lambda: module, outputs=("sums", "pooled"), **plain), store, samples)
    with pytest.raises(ExportFailed, match="2 tensors"):
        export_model(make_spec(lambda: module, outputs=("pooled",), **plain), store, samples)
    swapped = {**plain, "inputs": inputs[::-1]}
    with pytest.raises(InvalidModelSpec, match="order of forward"):
        export_model(make_spec(lambda: module, outputs=("pooled", "sums"), **swapped), store, samples)


def test_importing_the_stage_loads_neither_torch_nor_onnx():
    code = "import sys, regiolect.export; print([m for m in ('torch', 'onnx', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
