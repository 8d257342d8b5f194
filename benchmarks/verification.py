"""What verifying costs when an engine of 100 MB is loaded: beside hashing it, and beside loading it without any check.

An ONNX Runtime engine with 100 MB of weights, in a bundle as a release writes it; the files are in the page cache.
Every round does the four things one after another, in an order that rotates; a ratio is the median over rounds of the
ratio within a round.

    hash        read and hash the engine's files, which nobody who checks anything can save
    unchecked   let the runtime load the bytes
    unsigned    load as the loader does, without the signatures: hash and deserialize
    signed      `load_bundle`, as every consumer calls it

    python -m benchmarks.verification [--rounds 15] [--megabytes 100]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from regiolect.bundle.manifest import engine_folder, read_bundle
from regiolect.engines import catalog
from regiolect.engines.base import AS_IT_COMES
from regiolect.host.processors import processors
from regiolect.integrity import digest_file, write_atomic
from regiolect.serving import bundles as serving
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.storage import LocalStore
from tests.conftest import Bundles

RESULTS = Path(__file__).parent / "results"
TARGET, BACKEND = "cpu", "onnxruntime"
LIMIT = 0.10


def graph(megabytes: int) -> bytes:
    """An ONNX model of dense layers with that much of float32 weights."""
    width, generator = 16, np.random.default_rng(1)
    inner = megabytes * 1_000_000 // (4 * (width + 3))
    weights = {"w": (width, inner), "v": (inner, 3)}
    model = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], ["hidden"], name="wide"),
            helper.make_node("MatMul", ["hidden", "v"], ["logits"], name="narrow"),
        ],
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [
            numpy_helper.from_array(generator.normal(size=shape).astype(np.float32), name)
            for name, shape in weights.items()
        ],
    )
    made = helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(made)
    return made.SerializeToString()


def ways(folder: Path, keyring: Keyring) -> Mapping[str, Callable[[], object]]:
    """What is timed, by name."""
    manifest, trust = read_bundle(folder), keyring.load_trust()
    artifact, backend = manifest.engines[0].engine, catalog.backend(BACKEND)
    at = folder / engine_folder(TARGET)
    files = [at / file.path for file in artifact.files]

    def unchecked() -> object:
        return backend._load({path.name: path.read_bytes() for path in files}, artifact, AS_IT_COMES)

    def unsigned() -> object:
        with mock.patch.object(serving, "verify_decisions"):
            return serving.load_bundle(folder, trust)

    return {
        "hash": lambda: [digest_file(path) for path in files],
        "unchecked": unchecked,
        "unsigned": unsigned,
        "signed": lambda: serving.load_bundle(folder, trust),
    }


def measure(rounds: int, megabytes: int) -> dict[str, Any]:
    """Milliseconds by way and round, and the figures made of them."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        keyring = Keyring.at(root / "key.pem", root / "trust.json")
        keyring.create("benchmark")
        bundles = Bundles(LocalStore(root / "store"), signing=Signing(keyring.signer()))
        request = bundles.request("eu", TARGET, BACKEND, graph(megabytes))
        bundles.write(root / "bundle", catalog.backend(BACKEND).build(request, bundles.store))
        timed = ways(root / "bundle", keyring)
        size = sum(file.stat().st_size for file in (root / "bundle" / engine_folder(TARGET)).iterdir())
        times: dict[str, list[float]] = {name: [] for name in timed}
        order = list(timed)
        for number in range(rounds + 1):
            for name in order[number % len(order) :] + order[: number % len(order)]:
                started = time.perf_counter()
                timed[name]()
                # The first round warms up.
                if number:
                    times[name].append((time.perf_counter() - started) * 1000)
    beyond = [
        (signed - hashed - plain) / plain
        for signed, hashed, plain in zip(times["signed"], times["hash"], times["unchecked"], strict=True)
    ]
    signatures = [signed / unsigned - 1 for signed, unsigned in zip(times["signed"], times["unsigned"], strict=True)]
    return {
        "machine": f"{platform.machine()}, {processors()} cores",
        "megabytes": round(size / 1e6, 1),
        "rounds": rounds,
        "median_ms": {name: round(statistics.median(each), 2) for name, each in times.items()},
        "added_beyond_hashing": round(statistics.median(beyond), 4),
        "added_by_signatures": round(statistics.median(signatures), 4),
        "limit": LIMIT,
        "times_ms": {name: [round(each, 3) for each in all_] for name, all_ in times.items()},
    }


def page(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    medians = found["median_ms"]
    rows = "\n".join(f"| {name} | {value:.1f} |" for name, value in medians.items())
    return (
        "# Verification at load\n\n"
        f"An ONNX Runtime engine of {found['megabytes']} MB on {found['machine']}, {found['rounds']} rounds; "
        "by `benchmarks/verification.py`.\n\n"
        f"| | median, ms |\n| --- | --- |\n{rows}\n\n"
        f"Beyond hashing, all checks add {found['added_beyond_hashing']:+.1%} to loading the engine unchecked, limit "
        f"{LIMIT:.0%}; signatures alone add {found['added_by_signatures']:+.1%} to loading it hashed.\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    found = measure(asked.rounds, asked.megabytes)
    write_atomic(asked.results / "verification.json", json.dumps(found, indent=2).encode())
    write_atomic(asked.results / "verification.md", page(found).encode())
    print(page(found))


if __name__ == "__main__":
    main()
