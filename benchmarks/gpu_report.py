"""What a run of `benchmarks.gpu` found, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from regiolect.contracts import ChosenGraph, Configuration, TunedEngine
from regiolect.host.gpu import Gpu
from regiolect.integrity import write_atomic

RESULTS = Path(__file__).parent / "results"
EAGER = "PyTorch eager, FP16 channels-last"
COMPILED = "PyTorch compiled, CUDA graphs"
Row = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """All that one run tells."""

    device: Gpu
    rows: Sequence[Row]
    tried: Sequence[Row]
    chosen: ChosenGraph
    tuned: TunedEngine | None = None
    autotuned: Sequence[Row] = ()

    def write(self) -> None:
        """Write JSON and Markdown."""
        figures = {
            "device": vars(self.device),
            "versions": versions(),
            "rows": self.rows,
            "kept": kept(self.rows),
            "chosen": self.chosen.model_dump(mode="json", exclude={"table"}),
            "tuned": self.tuned and self.tuned.model_dump(mode="json", exclude={"journal"}),
            "autotuned": self.autotuned,
            "tried": self.tried,
        }
        RESULTS.mkdir(exist_ok=True)
        write_atomic(RESULTS / "gpu.json", (json.dumps(figures, indent=2) + "\n").encode())
        write_atomic(RESULTS / "gpu.md", self.report().encode())

    def report(self) -> str:
        """Markdown."""
        ran = versions()
        lines = [
            f"ResNet-50 on one {self.device.name} (compute capability {self.device.compute_capability}, driver "
            f"{self.device.driver}), ONNX Runtime {ran['onnxruntime']}, PyTorch {ran['torch']}, {ran['measured']}. "
            "Medians of one run, all in turn.",
            *_table(self.rows),
            "",
            "| batch | promised | measured | |",
            "| --- | --- | --- | --- |",
        ]
        lines += [
            f"| {row['batch']} | {row['of']} at least {row['at_least']}x of {row['over']} | {row['measured']}x | "
            f"{'kept' if row['measured'] >= row['at_least'] else 'MISSED'} |"
            for row in kept(self.rows)
        ]
        told = self.chosen.journal.reason if self.chosen.journal is not None else "as stated"
        lines += ["", f"A region that states INT8 here ships {self.chosen.choice.summary()}: {told}."]
        if self.tuned is not None:
            lines += [
                "",
                f"FP16's operating points by the tuner, transfers included; noise {self.tuned.noise:.1%}:",
                "",
            ]
            lines += ["| batch | p50 ms | p99 ms | images/s | configuration |", "| --- | --- | --- | --- | --- |"]
            lines += [
                f"| {point.batch} | {point.p50_ms:.3f} | {point.p99_ms:.3f} | {point.throughput:,.0f} | "
                f"{settings(point.configuration)} |"
                for point in self.tuned.points
            ]
        if self.autotuned:
            lines += ["", "Beside torch.compile after its own search, in turn:", *_table(self.autotuned)]
        lines += ["", "Every configuration that was tried, batches on the GPU:", ""]
        lines += ["| engine | batch | configuration | ms |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row['engine']} | {row['batch']} | {settings(row['configuration'])} | "
            f"{row.get('ms', row.get('failed'))} |"
            for row in self.tried
        ]
        return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    return [
        "",
        "| batch | engine | on the GPU, images/s | ms | with transfers, images/s | ms | configuration |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *(
            f"| {row['batch']} | {row['contender']} | {row['on_gpu_images_s']:,} | {row['on_gpu_ms']:.3f} | "
            f"{row['in_all_images_s']:,} | {row['in_all_ms']:.3f} | {row['configuration']} |"
            for row in rows
        ),
    ]


def settings(configuration: Configuration) -> str:
    """A configuration on one line."""
    return ", ".join(f"{key}={value}" for key, value in configuration.items()) or "as it comes"


def kept(rows: Sequence[Row]) -> list[Row]:
    """What was promised, and what was measured: ratios of images per second, batches on the GPU."""
    speed = {(row["batch"], row["contender"]): row["on_gpu_images_s"] for row in rows}
    promised = (
        (64, "FP16 tuned", "FP32, no TF32", 3.8),
        (64, "FP16 tuned", "TF32", 1.4),
        (64, "FP16 tuned", EAGER, 0.95),
        (64, "FP16 as it comes", EAGER, 0.85),
        (64, "FP16 tuned", "INT8 tuned", 1.0),
        (1, "FP16 tuned", "FP16 tuned, no CUDA graph", 1.0),
    )
    return [
        {
            "batch": batch,
            "of": ours,
            "over": other,
            "at_least": least,
            "measured": round(speed[batch, ours] / speed[batch, other], 3),
        }
        for batch, ours, other, least in promised
        if (batch, ours) in speed and (batch, other) in speed
    ]


def versions() -> dict[str, str]:
    """What ran."""
    return {
        "onnxruntime": onnxruntime.__version__,
        "torch": torch.__version__,
        "cudnn": str(torch.backends.cudnn.version()),
        "measured": f"{datetime.now(UTC):%Y-%m-%d}",
    }
