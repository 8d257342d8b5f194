"""Many tiny models in ten regions, for measuring what looks at models rather than at their answers.

Everything lies in one folder, which the environment variable BENCHMARK_MODELS names, so that other processes find it:

    models/<number>.onnx        which quadrant of a 12x12 image is bright? each with weights of its own
    weights/<number>.bin        random bytes, where asked for: as much to digest as a large model's weights are
    data/<region>/<set>.npz     SIMULATED images of that region, the same for all models
    policies/<region>.yaml      the policies, for REGIOLECT_POLICIES

`benchmarks.many_models:M007` is the ModelSpec of number 7, made anew from the folder each time that it is asked for.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from regiolect.contracts import DeclaredStatistics, Preprocessing, Split, TensorSpec
from regiolect.data import FolderSource, Samples, save_samples
from regiolect.evaluate.metrics import top1
from regiolect.model import ModelSpec

FOLDER = "BENCHMARK_MODELS"
REGIONS = ("alps", "coast", "delta", "forest", "island", "lowland", "plateau", "river", "steppe", "valley")
SIDE, CLASSES, WHITE = 12, 4, 255
SIZES = {Split.CALIBRATION: 64, Split.SELECTION: 16, Split.GATE: 400}


def __getattr__(name: str) -> ModelSpec:
    if not re.fullmatch(r"M\d{3}", name):
        raise AttributeError(f"no {name} in {__name__}")
    return ManyModels(Path(os.environ[FOLDER])).spec(int(name[1:]))


@dataclass(frozen=True)
class ManyModels:
    """The folder."""

    folder: Path

    @property
    def policies(self) -> Path:
        return self.folder / "policies"

    def addresses(self) -> tuple[str, ...]:
        """Where the ModelSpecs are found, in the order of their numbers."""
        return tuple(f"{__name__}:M{path.stem}" for path in sorted((self.folder / "models").iterdir()))

    def spec(self, number: int) -> ModelSpec:
        """The ModelSpec of a number."""
        declared = DeclaredStatistics(mean=(0.0, WHITE), std=(0.0, WHITE / 2))
        return ModelSpec(
            name=f"many-{number:03d}",
            loader=self._model(number),
            sources=tuple(path for path in (self._weights(number),) if path.exists()),
            inputs=(TensorSpec(name="image", shape=("batch", 1, SIDE, SIDE)),),
            outputs=("logits",),
            preprocessing=Preprocessing(raw_dtype="uint8", scale=1 / WHITE, mean=(0.0,), std=(0.5,)),
            metrics={"accuracy": top1},
            data={region: FolderSource(region, self.folder / "data" / region, declared, CLASSES) for region in REGIONS},
            note="A benchmark's model on SIMULATED images.",
        )

    def files(self) -> tuple[Path, ...]:
        """Every file that a plan of all models must read: models, weights and data."""
        found = (path for kind in ("models", "weights", "data") for path in (self.folder / kind).rglob("*"))
        return tuple(sorted(path for path in found if path.is_file()))

    def write(self, models: int, weights_mib: int = 0) -> None:
        """Write so many models (at most 1000), every region's data and every region's policy.

        Args:
            weights_mib: size in MiB of the random bytes that each model has beside its graph.
        """
        for number in range(models):
            self._write_model(number)
            if weights_mib:
                self._weights(number).parent.mkdir(exist_ok=True)
                self._weights(number).write_bytes(np.random.default_rng(number).bytes(weights_mib << 20))
        for index, region in enumerate(REGIONS):
            self._write_data(region, seed=index)
            self.write_limit(region, 5.0)

    def _model(self, number: int) -> Path:
        return self.folder / "models" / f"{number:03d}.onnx"

    def _weights(self, number: int) -> Path:
        return self.folder / "weights" / f"{number:03d}.bin"

    def _write_model(self, number: int) -> None:
        import onnx
        from onnx import TensorProto, helper, numpy_helper

        rng = np.random.default_rng(number)
        head = np.tile(np.where(np.eye(CLASSES, dtype=bool), 1.0, -1 / 3), (8, 1))
        weights = {
            "w1": rng.uniform(0.05, 0.2, (4, 1, 3, 3)),
            "w2": rng.uniform(0.01, 0.05, (8, 4, 3, 3)),
            "w3": head * rng.uniform(0.9, 1.1, (8, 1)).repeat(4, axis=0),
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
            "many",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
            [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
        )
        path = self._model(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)

    def _write_data(self, region: str, seed: int) -> None:
        for part, (split, count) in enumerate(SIZES.items()):
            rng = np.random.default_rng((seed, part))
            labels = np.arange(count) % CLASSES
            images = rng.integers(0, 20, (count, 1, SIDE, SIDE)) + rng.integers(0, 80, (count, 1, 1, 1))
            half = SIDE // 2
            for image, label in zip(images, labels, strict=True):
                top, left = half * (label // 2), half * (label % 2)
                image[0, top : top + half, left : left + half] += rng.integers(60, 120)
            samples = Samples(
                ids=np.asarray([f"{region}-{split.value}-{number:04d}" for number in range(count)]),
                regions=np.full(count, region),
                inputs={"image": images.astype(np.uint8)},
                targets=labels.astype(np.int64),
            )
            save_samples(self.folder / "data" / region / f"{split.value}.npz", samples)

    def write_limit(self, region: str, limit: float) -> None:
        """A region's policy, with a limit in points on what accuracy may be lost."""
        self.policies.mkdir(parents=True, exist_ok=True)
        policy = {
            "region": region,
            "title": region.title(),
            "reason": "A policy that exists for the purpose of a benchmark.",
            "precision": "INT8",
            "accuracy": {"metric": "accuracy", "limit": limit},
            "samples": {"calibration": 32, "selection": 8, "gate": 200},
            "targets": [{"name": "cpu-x86", "backend": "openvino"}],
        }
        (self.policies / f"{region}.yaml").write_text(yaml.safe_dump(policy, sort_keys=False))
