"""What benchmarks/calibration.py runs of our own, each in a process of its own; prints one line of JSON.

python -m benchmarks.calibration_runs prepare FOLDER COUNT...     model and images for all who take part
python -m benchmarks.calibration_runs forward FOLDER COUNT        the forward pass alone
python -m benchmarks.calibration_runs regiolect FOLDER COUNT      calibrate, and write the INT8 graph
"""

from __future__ import annotations

import importlib
import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from regiolect.contracts import CalibrationMethod, ExportedModel, Precision, Preprocessing, ValidatedCalibration
from regiolect.data import model_inputs, read_parts
from regiolect.storage import LocalStore

REGION = "bench"
PREPROCESSING = Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
# One at a time would be slower, and the pass must not look cheap beside a slow one.
FORWARD_BATCH = 8


def prepare(folder: Path, counts: list[int]) -> dict[str, float]:
    """Export the network; write its graph, the images, and each set of so many of them."""
    from benchmarks import resnet50
    from benchmarks.unchecked import samples_of, validated
    from regiolect.export import export_model

    store = LocalStore(folder / "store")
    images = np.random.default_rng(0).integers(0, 256, (max(counts), 3, 224, 224), np.uint8)
    model = export_model(resnet50.spec(PREPROCESSING), store, samples_of(REGION, {"image": images[:4]}))
    (folder / "model.json").write_text(model.model_dump_json())
    (folder / "model.onnx").write_bytes(store.path_of(model.graph).read_bytes())
    np.save(folder / "images.npy", images)
    for count in counts:
        data = validated(samples_of(REGION, {"image": images[:count]}), store)
        (folder / f"data-{count}.json").write_text(data.model_dump_json())
    return {}


def forward(folder: Path, count: int) -> dict[str, float]:
    """Load the model and run it on every image, as calibration has to at least; nothing is looked at."""
    import onnxruntime

    from regiolect.engines.onnxruntime.session import session_options

    model, data, store = prepared(folder, count)
    clock, used = time.perf_counter(), time.process_time()
    session = onnxruntime.InferenceSession(
        store.path_of(model.graph), session_options(), providers=["CPUExecutionProvider"]
    )
    path = store.path_of(data.dataset.calibration.blob)
    bounds = [(start, min(start + FORWARD_BATCH, count)) for start in range(0, count, FORWARD_BATCH)]
    for part in read_parts(path, bounds):
        session.run(None, model_inputs(part, model.preprocessing))
    return {"seconds": time.perf_counter() - clock, "cpu_seconds": time.process_time() - used}


def regiolect(folder: Path, count: int, *, ranges: bool = False) -> dict[str, float]:
    """Thresholds by real entropy, then the INT8 graph; after that thresholds by each other method.

    ranges: keep the range of every tensor as well, as a release does in case FP16 takes the place of INT8.
    """
    # What is measured imports these when it needs them; imports are not timed.
    for name in ("onnx", "onnxruntime", "scipy.sparse"):
        importlib.import_module(name)

    from regiolect.calibrate import observe, table_of
    from regiolect.engines.catalog import backend
    from regiolect.graphs import typed_graph

    model, data, store = prepared(folder, count)
    clock, used = time.perf_counter(), time.process_time()
    observed = observe(model, data, store, ranges=ranges)
    table = table_of(observed, CalibrationMethod.ENTROPY)
    calibrated = time.perf_counter() - clock
    peak = peak_mb()
    clock = time.perf_counter()
    recipe = backend("onnxruntime").recipe_here(Precision.INT8)
    typed_graph(model, REGION, Precision.INT8, recipe, table, store)
    written, used = time.perf_counter() - clock, time.process_time() - used
    clock = time.perf_counter()
    others = [method for method in CalibrationMethod if method is not CalibrationMethod.ENTROPY]
    for method in others:
        table_of(observed, method)
    another = (time.perf_counter() - clock) / len(others)
    return {
        "seconds": calibrated + written,
        "cpu_seconds": used,
        "calibration_seconds": calibrated,
        "calibration_peak_mb": peak,
        "another_method_seconds": another,
    }


def peak_mb() -> float:
    """Largest resident memory of this process so far."""
    # Kilobytes on Linux, bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def prepared(folder: Path, count: int) -> tuple[ExportedModel, ValidatedCalibration, LocalStore]:
    """What `prepare` wrote, for so many images."""
    model = ExportedModel.model_validate_json((folder / "model.json").read_text())
    data = ValidatedCalibration.model_validate_json((folder / f"data-{count}.json").read_text())
    return model, data, LocalStore(folder / "store")


def main() -> None:
    """Run one of them."""
    what, folder, *counts = sys.argv[1:]
    if what == "prepare":
        result = prepare(Path(folder), [int(count) for count in counts])
    else:
        runs: dict[str, Callable[[Path, int], dict[str, float]]] = {
            "forward": forward,
            "regiolect": regiolect,
            "ranges": partial(regiolect, ranges=True),
        }
        result = runs[what](Path(folder), int(counts[0]))
    print(json.dumps({"peak_mb": peak_mb(), **result}))


if __name__ == "__main__":
    main()
