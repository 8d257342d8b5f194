"""Measure the FP32 network on each region's selection set, and what padding to a bucket does to its answers.

    python -m examples.ocr.measure

The gate sets stay closed.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from examples.ocr import MODEL
from examples.ocr.data import sources
from examples.ocr.lines import NOTHING, STYLES
from examples.ocr.metrics import character_accuracies, read
from examples.ocr.packages import model_file
from regiolect.contracts import Split
from regiolect.data import Samples, preprocess

BUCKETS = (160, 320, 640)
ALONE = 200
Reader = Callable[[NDArray[Any]], list[str | None]]


def reader() -> Reader:
    """Texts from preprocessed images of shape (n, 3, 48, width), by the network's own file."""
    from regiolect.engines.onnxruntime.session import open_session

    session = open_session(model_file().read_bytes())
    return lambda images: read({"answer": session.run(None, {"x": images})[0]})


def as_sets_are(samples: Samples, network: Reader) -> list[str | None]:
    """Texts of the samples as they are, all of the set's width."""
    parts = (samples.take(slice(start, start + 8)) for start in range(0, len(samples), 8))
    return [text for part in parts for text in network(preprocess(part.inputs["x"], MODEL.preprocessing))]


def own_widths(samples: Samples) -> list[NDArray[np.float32]]:
    """Each sample, preprocessed, without what fills it up on its right."""
    images = []
    for raw in samples.inputs["x"]:
        last = int(np.flatnonzero((raw != NOTHING).any(axis=(0, 1)))[-1])
        images.append(preprocess(raw[None, :, :, : last + 1], MODEL.preprocessing))
    return images


def filled_up(image: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """An image with zeros on its right."""
    return np.pad(image, ((0, 0), (0, 0), (0, 0), (0, width - image.shape[3])))


def tell(region: str, network: Reader) -> str:
    """A region's figures as a row of the table."""
    samples = sources()[region].load(Split.SELECTION)
    targets = [str(target) for target in samples.targets]
    texts = as_sets_are(samples, network)
    images, targets_alone = own_widths(samples.take(slice(0, ALONE))), targets[:ALONE]
    alone = [network(image)[0] for image in images]
    cells = [
        _percent(_right(texts, targets), 1),
        _percent(character_accuracies(texts, targets).mean(), 2),
        _percent(_right(alone, targets_alone), 1),
    ]
    for buckets in (BUCKETS, BUCKETS[-1:]):
        widths = [next(bucket for bucket in buckets if bucket >= image.shape[3]) for image in images]
        padded = [network(filled_up(*each))[0] for each in zip(images, widths, strict=True)]
        cells += [
            str(sum(a != b for a, b in zip(padded, alone, strict=True))),
            _percent(_right(padded, targets_alone), 1),
        ]
    return f"| `{region}` | {' | '.join(cells)} |"


def _percent(share: float, digits: int) -> str:
    return f"{100 * share:.{digits}f} %"


def _right(texts: Sequence[str | None], targets: Sequence[str]) -> float:
    return float(np.mean([text == target for text, target in zip(texts, targets, strict=True)]))


def main() -> None:
    """Print a table, one row a region."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("regions", nargs="*", default=list(STYLES), help="default: all")
    network = reader()
    print(f"First two: the whole set at its width. The others: its first {ALONE} lines, each by itself.")
    print(
        "| region | lines right | characters right | at its own width | another answer in its bucket | right |", end=""
    )
    print(" another answer at 640 | right |")
    for region in parser.parse_args().regions:
        print(tell(region, network), flush=True)


if __name__ == "__main__":
    main()
