"""A tiny model with SIMULATED data, small enough that a region is released in a second or two.

Everything lies in one folder, a workshop, which the environment names, so that other processes find it as well:

    original.onnx               if there: what `model.onnx` was before it was quantized
    model.onnx                  which quadrant of a 12x12 image is bright? two convolutions, a pool, a dense layer
    data/<region>/<set>.npz     images of that region
    policies/<region>.yaml      the policies, for REGIOLECT_POLICIES
    kill-at-score               if there: scores that may still be computed before the release's process is killed
    kill-worker                 if there: the process that started that one is killed first
    hold-at-score               if there: scores that may still be computed before that process stands still for good
    held                        written then
    faults/<child>              what the metric does in the child of that name, in place of scoring: see `suffer`; for
                                the child that exports, named by the model's address, what loading the model does;
                                `data of <region>`: what loading that region's samples does

TINY_MODEL_IMPORTS names a module that a model's own module might import.

`tests.flows.tiny_models:TINY` is its ModelSpec, made anew from the folder each time that it is asked for; TINY_FLOAT is
the same with images in float32, which can be NaN.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from regiolect.contracts import DeclaredStatistics, Preprocessing, Split, TensorRange, TensorSpec
from regiolect.data import FolderSource, Samples, read_samples, save_samples
from regiolect.evaluate.metrics import top1
from regiolect.model import ModelSpec

ADDRESS = "tests.flows.tiny_models:TINY"
RAW_DTYPES: Mapping[str, Literal["int16", "float32"]] = {"TINY": "int16", "TINY_FLOAT": "float32"}
WORKSHOP = "TINY_MODEL_WORKSHOP"
IMPORTS = "TINY_MODEL_IMPORTS"
SIDE, CLASSES = 12, 4
WHITE = 4095  # of a camera with 12 bits
SIZES = {Split.CALIBRATION: 64, Split.SELECTION: 16, Split.GATE: 400}
CPU = {"name": "cpu", "backend": "openvino"}
PORTABLE = {"name": "portable", "backend": "onnxruntime"}
GPU = {"name": "gpu", "backend": "tensorrt-rtx"}
PLANTED = "planted-in-errors-0818"
"""A secret in the errors of a fault that is called `tell`."""


def __getattr__(name: str) -> ModelSpec:
    if name not in RAW_DTYPES:
        raise AttributeError(f"no {name} in {__name__}")
    if IMPORTS in os.environ:
        import_module(os.environ[IMPORTS])
    found = Workshop(Path(os.environ[WORKSHOP]), RAW_DTYPES[name])
    if multiprocessing.current_process().name == ADDRESS:
        found.meet_fault()
    return found.spec()


def suffer(fault: str) -> None:
    """What a vendor's library may do to its process: die by the signal of that name, `hang`, or take all `memory`; or
    raise an error that it has no name for, which does `tell` a secret."""
    if fault == "tell":
        cause = ValueError(f"connection of 'host=data.example user=bot password={PLANTED}' was lost")
        raise OSError(f"401 for url: https://bot:{PLANTED}@data.example/x.npz?key={PLANTED}") from cause
    if fault == "hang":
        # It never gives the interpreter's lock back.
        ctypes.PyDLL(None).pause()
    taken = []
    while fault == "memory":
        taken.append(np.ones(1 << 22))
    os.kill(os.getpid(), signal.Signals[fault])


def _process_of_the_release() -> int:
    """Metrics run in one of its children, or in itself."""
    parent = multiprocessing.parent_process()
    return os.getpid() if parent is None or parent.pid is None else parent.pid


class UnreadableSource(FolderSource):
    """Samples whose loading meets a fault."""

    def load(self, split: Split) -> Samples:
        suffer("tell")
        return super().load(split)


@dataclass(frozen=True)
class Workshop:
    """The folder, and all that a test changes in it."""

    folder: Path
    raw_dtype: Literal["int16", "float32"] = "int16"

    @property
    def preprocessing(self) -> Preprocessing:
        return Preprocessing(raw_dtype=self.raw_dtype, scale=1 / WHITE, mean=(0.0,), std=(0.5,))

    @property
    def model(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def original(self) -> Path:
        return self.folder / "original.onnx"

    @property
    def policies(self) -> Path:
        return self.folder / "policies"

    @property
    def fuse(self) -> Path:
        return self.folder / "kill-at-score"

    @property
    def kills_worker(self) -> Path:
        return self.folder / "kill-worker"

    @property
    def hold(self) -> Path:
        return self.folder / "hold-at-score"

    @property
    def held(self) -> Path:
        return self.folder / "held"

    def fault(self, child: str) -> Path:
        return self.folder / "faults" / child

    def meet_fault(self) -> None:
        """In the child for which one was set."""
        fault = self.fault(multiprocessing.current_process().name)
        if fault.exists():
            suffer(fault.read_text())

    def set_fault(self, child: str, fault: str) -> None:
        self.fault(child).parent.mkdir(exist_ok=True)
        self.fault(child).write_text(fault)

    def data(self, region: str) -> Path:
        return self.folder / "data" / region

    def spec(self) -> ModelSpec:
        declared = DeclaredStatistics(mean=(0.0, WHITE), std=(0.0, WHITE / 2))
        regions = sorted(path.name for path in (self.folder / "data").iterdir())
        return ModelSpec(
            name="tiny",
            loader=self.model,
            reference=self.original if self.original.exists() else None,
            inputs=(TensorSpec(name="image", shape=("batch", 1, SIDE, SIDE)),),
            outputs=("logits",),
            preprocessing=self.preprocessing,
            metrics={"accuracy": self._accuracy},
            data={region: self._source(region)(region, self.data(region), declared, CLASSES) for region in regions},
        )

    def _source(self, region: str) -> type[FolderSource]:
        return UnreadableSource if self.fault(f"data of {region}").exists() else FolderSource

    def _accuracy(self, outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[Any]:
        self.meet_fault()
        if self.fuse.exists():
            left = int(self.fuse.read_text())
            if left == 0:
                import psutil

                release = _process_of_the_release()
                if self.kills_worker.exists():
                    os.kill(psutil.Process(release).ppid(), signal.SIGKILL)
                os.kill(release, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)
            self.fuse.write_text(str(left - 1))
        if self.hold.exists():
            left = int(self.hold.read_text())
            if left == 0:
                self.held.touch()
                # As a library does that computes: no signal reaches it.
                ctypes.CDLL(None).sleep(3600)
            self.hold.write_text(str(left - 1))
        return top1(outputs, targets)

    def add(self, region: str, *targets: Mapping[str, str], faint: Collection[Split] = (), **rules: Any) -> None:
        """A region with its data and its policy; `rules` as for `write_policy`."""
        self.write_data(region, faint=faint)
        self.write_policy(region, *targets, **rules)

    def write_model(self, seed: int = 1, *, turned: bool = False) -> None:
        """Positive convolutions, so that brighter pixels give larger values, and a head that compares quadrants.

        One that is `turned` names the next quadrant: as wrong as can be, and in INT8 or FP16 no worse than in FP32.
        """
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        rng = np.random.default_rng(seed)
        head = np.tile(np.where(np.eye(CLASSES, dtype=bool), 1.0, -1 / 3), (8, 1))
        weights = {
            "w1": rng.uniform(0.05, 0.2, (4, 1, 3, 3)),
            "w2": rng.uniform(0.01, 0.05, (8, 4, 3, 3)),
            "w3": np.roll(head, 1 if turned else 0, axis=1) * rng.uniform(0.9, 1.1, (8, 1)).repeat(4, axis=0),
            "b3": np.zeros(CLASSES),
        }
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["image", "w1"], ["c1"], name="conv1"),
                helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
                helper.make_node("Conv", ["r1", "w2"], ["c2"], name="conv2"),
                helper.make_node("Relu", ["c2"], ["r2"], name="relu2"),
                helper.make_node("AveragePool", ["r2"], ["p"], name="pool", kernel_shape=[4, 4], strides=[4, 4]),
                helper.make_node("Flatten", ["p"], ["flat"], name="flatten"),
                helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="dense"),
            ],
            "tiny",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), self.model)

    def quantize_model(self) -> None:
        """Let the model arrive with Q/DQ nodes, as one that was quantized elsewhere, with its float original beside it.

        Weights have 8 bits, as where no products saturate.
        """
        import onnx

        from regiolect.graphs import protos, quantize
        from regiolect.precision import QUANTIZED_OPERATORS, Recipe

        self.model.replace(self.original)
        largest = {"image": 2.0, "r1": 2.0, "flat": 3.0}
        ranges = {name: TensorRange(threshold=top, minimum=0.0, maximum=top) for name, top in largest.items()}
        plain = protos.normalized(onnx.load(self.original))
        recipe = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS)
        self.model.write_bytes(protos.to_bytes(quantize.quantized(plain, recipe, ranges)))

    def write_data(self, region: str, faint: Collection[Split] = (), seed: int = 0, **sizes: int) -> None:
        """The three sets of a region; in those that are `faint` quadrants differ by a thousandth of the range.

        Eight bits over the range that the calibration set has cannot see that; FP32 can.
        """
        for split, size in SIZES.items():
            rng = np.random.default_rng([*region.encode(), seed, len(split.value)])
            count = sizes.get(split.value, size)
            make = partial(faint_images, split=split) if split in faint else bright_images
            images, labels = make(rng, count)
            samples = Samples(
                ids=np.asarray([f"{region}-{split.value}-{number:04d}" for number in range(count)]),
                regions=np.full(count, region),
                inputs={"image": images.astype(self.raw_dtype)},
                targets=labels.astype(np.int64),
            )
            save_samples(self.data(region) / f"{split.value}.npz", samples)

    def change(self, region: str, split: Split, change: Callable[[Samples], Samples]) -> None:
        """Replace a set by what `change` makes of its samples."""
        path = self.data(region) / f"{split.value}.npz"
        save_samples(path, change(read_samples(path)))

    def write_policy(self, region: str, *targets: Mapping[str, str], **rules: Any) -> None:
        """An INT8 policy, locked, of 5 points at most, unless `rules` (fields of a policy; `limit`) say otherwise."""
        self.policies.mkdir(exist_ok=True)
        policy = {
            "region": region,
            "title": region.title(),
            "reason": "A policy that exists for the purpose of a test.",
            "precision": "INT8",
            "accuracy": {"metric": "accuracy", "limit": rules.pop("limit", 5.0)},
            "samples": {"calibration": 32, "selection": 8, "gate": 200},
            "targets": [dict(target) for target in targets or (CPU,)],
            # The network is too small for INT8 to gain anything; a test that asks for a repair says so.
            "repair": {"fallback": []},
        }
        (self.policies / f"{region}.yaml").write_text(yaml.safe_dump(policy | rules))


def bright_images(rng: np.random.Generator, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A bright quadrant on a grey ground; one image in 12 has none, one label in 20 is wrong."""
    labels = np.arange(count) % CLASSES
    contrast = rng.integers(1000, 2000, count)
    contrast[rng.random(count) < 1 / 12] = 0
    images = _images(labels, rng.integers(0, 1200, count), contrast)
    wrong = rng.random(count) < 1 / 20
    return images + rng.integers(0, 100, images.shape), np.where(wrong, (labels + 1) % CLASSES, labels)


def faint_images(rng: np.random.Generator, count: int, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A quadrant that is brighter by 3 or 4 of 4095 grey levels, each image on a ground of its own."""
    chosen = rng.permutation(CLASSES * 1000)[:count]
    labels = chosen % CLASSES
    # No image may be in two sets.
    contrast = 4 if split is Split.GATE else 3
    return _images(labels, 300 + chosen // CLASSES, np.full(count, contrast)), labels


def _images(labels: NDArray[Any], ground: NDArray[Any], contrast: NDArray[Any]) -> NDArray[np.int64]:
    half = SIDE // 2
    images = np.tile(ground[:, None, None, None], (1, 1, SIDE, SIDE)).astype(np.int64)
    for row, label in enumerate(labels):
        top, left = half * (label // 2), half * (label % 2)
        images[row, :, top : top + half, left : left + half] += contrast[row]
    return images
