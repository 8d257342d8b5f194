"""Whether an INT8 engine answers here as it did where it was judged: the probes of its self-test, and the test.

INT8 answers belong to an arithmetic (`regiolect.contracts.Arithmetic`). A host says by its flags which one it has, and
flags can be wrong: a hypervisor masks them, an emulator passes on those of its own host, a library is told to leave
some alone. So the engine itself is asked, with inputs to which its judge kept the answers.
"""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Blob
from regiolect.data import npz_bytes
from regiolect.engines.engine import Arrays, Engine
from regiolect.engines.files import verified_bytes
from regiolect.errors import IntegrityError, SelfTestFailed

_INPUT, _ANSWER, _TOLERANCE = "input:", "answer:", "tolerance:"
# Of an output that has more values in a sample, so many are kept, at equal distances: a mask has a million.
_VALUES = 4096


@dataclass(frozen=True)
class Probes:
    """What an engine is asked when it is loaded, and what it must answer. All arrays share their first dimension.

    Attributes:
        inputs: preprocessed arrays by input name.
        answers: by output name, (n, values), what the judged engine answered, as `kept_values` cuts it.
        tolerances: by output name, (n,), how far an answer may be from that, as `distances` measures it.
    """

    inputs: Arrays
    answers: Arrays
    tolerances: Mapping[str, NDArray[np.float64]]

    def to_bytes(self) -> bytes:
        """A compressed .npz, the same bytes for the same probes."""
        named = ((_INPUT, self.inputs), (_ANSWER, self.answers), (_TOLERANCE, self.tolerances))
        arrays = {f"{prefix}{name}": array for prefix, those in named for name, array in those.items()}
        return npz_bytes(arrays, compressed=True)

    @classmethod
    def from_bytes(cls, data: bytes) -> Probes:
        """Raises IntegrityError for anything but what `to_bytes` writes."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            parts = [
                {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
                for prefix in (_INPUT, _ANSWER, _TOLERANCE)
            ]
            rows = {len(array) for array in arrays.values()}
            if not all(parts) or parts[1].keys() != parts[2].keys() or len(rows) != 1 or rows == {0}:
                raise ValueError(f"arrays {', '.join(sorted(arrays))} with {sorted(rows)} rows")
        except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise IntegrityError(
                expected="probes of a self-test: arrays input:, answer: and tolerance: with the same number of rows",
                found=f"{error} ({type(error).__name__})",
                remedy="fetch the bundle again from the registry; if it stays, release the region again",
            ) from error
        return cls(*parts)


@dataclass(frozen=True)
class SelfTest:
    """A self-test that was passed.

    Attributes:
        probes: how many inputs were tried.
        share: the largest distance from the judged engine's answers, as a share of what is tolerated; 0: the same.
        seconds: what it added to the load.
    """

    probes: int
    share: float
    seconds: float


def kept_values(outputs: Arrays) -> dict[str, NDArray[Any]]:
    """Outputs as (n, values): of those with more than 4,096 values in a sample, so many at equal distances."""
    kept = {}
    for name, output in outputs.items():
        flat = output.reshape(len(output), -1)
        size = flat.shape[1]
        kept[name] = flat if size <= _VALUES else flat[:, np.linspace(0, size - 1, _VALUES).astype(int)]
    return kept


def distances(answers: Arrays, others: Arrays) -> dict[str, NDArray[np.float64]]:
    """By output, (n,): the root of the mean squared difference of a sample's values, in the output's own units.

    NaN where a value is not finite.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        return {
            name: np.sqrt(np.square(answers[name].astype(np.float64) - others[name].astype(np.float64)).mean(axis=1))
            for name in answers
        }


def tolerances(answers: Arrays, reference: Arrays) -> dict[str, NDArray[np.float64]]:
    """By output, (n,): what may lie between the judged engine's answers and those of the same engine elsewhere.

    That is what lies between its answers and its FP32 reference's, on the same input, and never less than half of the
    inputs have: another host may be as far from the judged engine as that is from the truth, and no farther.
    """
    own = distances(answers, reference)
    return {name: np.maximum(each, np.median(each)) for name, each in own.items()}


def self_test(engine: Engine, path: Path, blob: Blob) -> SelfTest:
    """Ask a loaded engine what its judge asked, and compare.

    Args:
        path: the probes' file.
        blob: its digest, from a manifest whose decision is signed.

    Raises:
        SelfTestFailed: it answers otherwise than where it was judged.
        IntegrityError, EngineLoadFailed: the probes cannot be read, or are others.
        EngineError: the engine does not run.
    """
    probes = Probes.from_bytes(verified_bytes(path, blob))
    begun = time.perf_counter()
    answers = kept_values(engine.run_many(probes.inputs))
    seconds = time.perf_counter() - begun
    share = 0.0
    for name, away in _distances_from_judged(probes, answers).items():
        allowed = probes.tolerances[name]
        # What is not finite is not within anything.
        beyond = np.flatnonzero(~(away <= allowed))
        if beyond.size:
            # No answer at all is farther than any.
            worst = beyond[np.argmax(np.nan_to_num(away[beyond] - allowed[beyond], nan=np.inf))]
            raise SelfTestFailed(
                expected=f"output {name!r} of the engine for {engine.artifact.request.target.name} within "
                f"{allowed[worst]:.3g} of what it answered where it was judged",
                found=f"{away[worst]:.3g} away on this machine, and too far on {beyond.size} of {len(away)} probes",
                remedy="this machine computes INT8 in another way than its flags say: release the region for a machine "
                "like this one, or name a wider precision for it in the policy",
            )
        share = max(share, float(np.divide(away, allowed, out=np.zeros_like(away), where=allowed > 0).max()))
    return SelfTest(len(next(iter(probes.inputs.values()))), share, seconds)


def _distances_from_judged(probes: Probes, answers: Arrays) -> dict[str, NDArray[np.float64]]:
    shapes = {name: array.shape for name, array in answers.items()}
    wanted = {name: array.shape for name, array in probes.answers.items()}
    if shapes != wanted:
        raise SelfTestFailed(
            expected=f"outputs of the shapes that the judged engine gave: {wanted}",
            found=f"{shapes}",
            remedy="install the version of the runtime that built the engine, or release the region again",
        )
    return distances(probes.answers, answers)
