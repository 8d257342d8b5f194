"""One rival, in an environment that has no Regiolect: quantize a model on images, and say how long it took.

    python run.py NAME MODEL.onnx IMAGES.npy COUNT OUTPUT.onnx

IMAGES is uint8 of shape (n, 3, 224, 224), of which the first COUNT are used. Each rival does what its manual shows:
float32 images in, a quantized model out. Imports are not timed. Prints one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)


def images(path: Path, count: int) -> Iterator[np.ndarray[Any, Any]]:
    """Preprocessed float32 images of shape (1, 3, 224, 224)."""
    raw = np.load(path, mmap_mode="r")[:count]
    for image in raw:
        yield (image[None].astype(np.float32) * np.float32(1 / 255) - MEAN) / STD


def prepare_onnxruntime(bins: int | None) -> Callable[[Path, Path, int, Path], None]:
    """`quantize_static` with entropy, as it comes or with so many bins, which it has no option for."""
    from onnxruntime.quantization import CalibrationMethod, quantize_static

    # An import statement would find the function of the same name that the package exports.
    module: Any = importlib.import_module("onnxruntime.quantization.quantize")
    if bins is not None:
        original = module.create_calibrator

        def with_bins(*arguments: Any, extra_options: dict[str, Any], **others: Any) -> Any:
            return original(*arguments, extra_options={**extra_options, "num_bins": bins}, **others)

        module.create_calibrator = with_bins

    class Reader:
        """A CalibrationDataReader, which any class with its method is."""

        def __init__(self, path: Path, count: int) -> None:
            self.left = images(path, count)

        def get_next(self) -> dict[str, Any] | None:
            image = next(self.left, None)
            return None if image is None else {"image": image}

    def run(model: Path, path: Path, count: int, output: Path) -> None:
        quantize_static(model, output, Reader(path, count), calibrate_method=CalibrationMethod.Entropy)

    return run


def prepare_nncf() -> Callable[[Path, Path, int, Path], None]:
    """NNCF's default preset on OpenVINO."""
    import nncf
    import openvino

    def run(model: Path, path: Path, count: int, output: Path) -> None:
        data = nncf.Dataset(list(images(path, count)), lambda image: {"image": image})
        quantized = nncf.quantize(openvino.Core().read_model(model), data, subset_size=count)
        openvino.save_model(quantized, output.with_suffix(".xml"))

    return run


def prepare_modelopt() -> Callable[[Path, Path, int, Path], None]:
    """ModelOpt's INT8 with entropy, on the processor."""
    from modelopt.onnx.quantization import quantize

    def run(model: Path, path: Path, count: int, output: Path) -> None:
        data = {"image": np.concatenate(list(images(path, count)))}
        quantize(
            str(model),
            quantize_mode="int8",
            calibration_data=data,
            calibration_method="entropy",
            calibration_eps=["cpu"],
            output_path=str(output),
        )

    return run


RIVALS: dict[str, Callable[[], Callable[[Path, Path, int, Path], None]]] = {
    "onnxruntime": lambda: prepare_onnxruntime(None),
    "onnxruntime-2048": lambda: prepare_onnxruntime(2048),
    "nncf": prepare_nncf,
    "modelopt": prepare_modelopt,
}


def main() -> None:
    """Run one rival."""
    name, model, path, count, output = sys.argv[1:]
    run = RIVALS[name]()
    clock, used = time.perf_counter(), time.process_time()
    run(Path(model), Path(path), int(count), Path(output))
    seconds, used = time.perf_counter() - clock, time.process_time() - used
    # Kilobytes on Linux, bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    print(json.dumps({"seconds": seconds, "cpu_seconds": used, "peak_mb": peak}))


if __name__ == "__main__":
    main()
