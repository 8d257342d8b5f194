"""Train the example's network, or measure it.

    python -m examples.fashion.train --source FOLDER     trains, measures, writes weights.safetensors
    python -m examples.fashion.train --measure           measures the shipped weights

Training uses Fashion-MNIST's 60,000 training images, each epoch through random simulated cameras whose ranges span
all regions'. The test images take no part in it: the schedule is fixed and the last weights are kept. Accuracy is
measured on the 10,000 clean test images and on each region's selection set; the gate sets stay closed.

Seeded; the last digits still depend on the processor and on the number of threads, as floating-point sums do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from examples.fashion.cameras import CAMERA_DIGEST, sense
from examples.fashion.data import originals, sources
from examples.fashion.model import FashionNet
from examples.fashion.prepare import SOURCE, read_part
from regiolect.contracts import Preprocessing, Split
from regiolect.data import preprocess
from regiolect.integrity import atomic_file

SEED = 7
BATCH = 128
PEAK_RATE = 0.006
CLEAN_SHARE = 0.2
CLEAR_SHARE = 0.5


def random_cameras(images: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Images (n, 28, 28), each through a camera of its own; CLEAN_SHARE of them stay as they are."""
    per_image = (len(images), 1, 1)
    clear, hazy = rng.uniform(0.9, 1, per_image), rng.uniform(0.45, 0.9, per_image)
    seen = sense(
        images,
        rng,
        exposure=np.exp(rng.uniform(np.log(0.1), np.log(1.9), per_image)),
        transmission=np.where(rng.random(per_image) < CLEAR_SHARE, clear, hazy),
        air_light=rng.uniform(0.25, 1.05, per_image),
        full_well=np.exp(rng.uniform(np.log(1000), np.log(10_000), per_image)),
        read_noise=rng.uniform(4, 10, per_image),
    )
    clean = rng.random(len(images)) < CLEAN_SHARE
    seen[clean] = images[clean]
    return seen


def batches(
    images: NDArray[np.uint8], labels: NDArray[np.uint8], how: Preprocessing, rng: np.random.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: shuffled, photographed anew, half of the images mirrored; the last incomplete batch is left out."""
    order = rng.permutation(len(labels))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        seen = random_cameras(images[chosen], rng)
        mirrored = rng.random(BATCH) < 0.5
        seen[mirrored] = seen[mirrored, :, ::-1]
        yield torch.from_numpy(preprocess(seen[:, None], how)), torch.from_numpy(labels[chosen].astype(np.int64))


def train(source: Path, how: Preprocessing, epochs: int, bfloat16: bool) -> FashionNet:
    """A network trained from scratch, in eval mode."""
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    images, labels = read_part(source, "train")
    network = FashionNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK_RATE, weight_decay=0.02)
    steps = epochs * (len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_RATE, total_steps=steps, pct_start=0.25)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    start = time.monotonic()
    for epoch in range(epochs):
        losses = []
        for inputs, targets in batches(images, labels, how, rng):
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = loss_of(network(inputs), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, {time.monotonic() - start:.0f} s", flush=True)
    return network.eval()


def predict(network: nn.Module, raw: NDArray[np.uint8], how: Preprocessing) -> NDArray[np.int64]:
    """Labels of raw images (n, 1, 28, 28)."""
    with torch.inference_mode():
        parts = torch.split(torch.from_numpy(preprocess(raw, how)), 500)
        return np.asarray(torch.cat([network(part).argmax(dim=1) for part in parts]).numpy())


def measure(network: nn.Module, how: Preprocessing) -> dict[str, float]:
    """Accuracy in percent: "clean" on the 10,000 test images, and each region's on its selection set of 1,000."""
    clean = originals("test")
    accuracy = {"clean": float(np.mean(predict(network, clean.images[:, None], how) == clean.labels) * 100)}
    for region, source in sources().items():
        samples = source.load(Split.SELECTION)
        accuracy[region] = float(np.mean(predict(network, samples.inputs["image"], how) == samples.targets) * 100)
    return {name: round(value, 2) for name, value in accuracy.items()}


def save(network: nn.Module, path: Path, accuracy: dict[str, float], epochs: int) -> None:
    """Write the weights with what is known of them, whole or not at all."""
    metadata = {
        "accuracy_percent": json.dumps(accuracy),
        "cameras": CAMERA_DIGEST,
        "trained": f"{epochs} epochs, seed {SEED}, torch {torch.__version__}",
    }
    with atomic_file(path) as temporary:
        save_file(network.state_dict(), temporary, metadata)


def main() -> None:
    """The command line."""
    from examples.fashion import MODEL, WEIGHTS, load

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=Path, default=SOURCE, help="folder of Fashion-MNIST's four files (default: %(default)s)"
    )
    parser.add_argument("--epochs", type=int, default=4, help="default: %(default)s")
    parser.add_argument("--float32", action="store_true", help="no bfloat16 arithmetic (for processors without it)")
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="default: %(default)s")
    parser.add_argument("--measure", action="store_true", help="only measure the shipped weights")
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(load(), MODEL.preprocessing)))
        return
    network = train(arguments.source, MODEL.preprocessing, arguments.epochs, bfloat16=not arguments.float32)
    accuracy = measure(network, MODEL.preprocessing)
    save(network, arguments.output, accuracy, arguments.epochs)
    print(json.dumps(accuracy))


if __name__ == "__main__":
    main()
