"""Per-sample scores of reference and engine, side by side, and the CSV in which they are kept.

    sample_id,reference,engine
    a-0001,1,1
    a-0002,1,0

What the policy slices by follows in columns of its own, in alphabetical order:

    sample_id,reference,engine,device,label
    a-0001,1,1,phone,7

Equal results give equal bytes, so the file's digest stands for the results.
"""

from __future__ import annotations

import csv
import functools
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.errors import InvalidResults
from regiolect.host.files import RECORD, cannot_read, read_file
from regiolect.integrity import digest_bytes

COLUMNS = ("sample_id", "reference", "engine")


@dataclass(frozen=True, eq=False)
class PairedResults:
    """Scores of reference and engine on the same samples, in the same order.

    Anything that converts is accepted; kept are a tuple of text, two read-only float64 arrays and text, of shape (n,).

    Attributes:
        sample_ids: one unique text of printable characters per sample.
        reference: the reference's score per sample; 0 or 1 for right/wrong metrics.
        engine: the engine's.
        columns: text per sample by name: what samples are told apart by.

    Raises:
        InvalidResults: no samples, lengths differ, ids repeat or are not printable, a score is missing or not finite,
            or a column has an empty value or one that is not printable.
    """

    sample_ids: tuple[str, ...]
    reference: NDArray[np.float64]
    engine: NDArray[np.float64]
    columns: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        ids = tuple(map(str, self.sample_ids))
        object.__setattr__(self, "sample_ids", ids)
        _check_ids(ids)
        for name in ("reference", "engine"):
            object.__setattr__(self, name, _scores(name, getattr(self, name), ids))
        columns = {name: _column(name, self.columns[name], ids) for name in sorted(self.columns)}
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.sample_ids)

    @functools.cached_property
    def digest(self) -> str:
        """Digest of the CSV that they were read from, or else of the one that `to_csv` writes."""
        return digest_bytes(self.to_csv())

    def to_csv(self) -> bytes:
        """The results as CSV in UTF-8; whole scores as integers (0, 1), others so that they read back the same."""
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow((*COLUMNS, *self.columns))
        cells = (column.tolist() for column in self.columns.values())
        writer.writerows(zip(self.sample_ids, _written(self.reference), _written(self.engine), *cells, strict=True))
        return buffer.getvalue().encode()

    @classmethod
    def from_csv(cls, source: Path | bytes) -> PairedResults:
        """Read what `to_csv` wrote, from a file or from its bytes.

        Raises:
            InvalidResults: the file is not such a CSV, or its content is refused as above.
        """
        where = str(source) if isinstance(source, Path) else "the results"
        try:
            data = read_file(source, RECORD) if isinstance(source, Path) else source
            text = data.decode()
            header, columns = _cells(text)
            more = header[len(COLUMNS) :]
            if tuple(header[: len(COLUMNS)]) != COLUMNS or more != sorted(set(more)):
                raise ValueError(f"columns {','.join(header)}")
            ids, reference, engine, *sliced = columns
            scores = [np.array(list(map(float, column))) for column in (reference, engine)]
        except (OSError, ValueError, csv.Error) as error:
            raise InvalidResults(
                expected=f"a CSV of {','.join(COLUMNS)} and what is sliced by in {where}",
                found=cannot_read(error),
                remedy="run the evaluation again; results are not to be edited",
            ) from error
        slices = {name: np.array(column, np.str_) for name, column in zip(more, sliced, strict=True)}
        results = cls(sample_ids=tuple(ids), reference=scores[0], engine=scores[1], columns=slices)
        # What was read need not be written again to be told from other results.
        results.__dict__["digest"] = digest_bytes(data)
        return results


def require_own_scores(whose: str, parts: Sequence[NDArray[Any]]) -> None:
    """Raises InvalidResults where a figure of many samples stands in the place of each one's score.

    Repeated for each, it would be counted as so many independent scores. It shows in that every part has one value for
    all its samples, and that most samples have one strictly between 0 and 1: all right or all wrong is honest.

    Args:
        whose: whom an error names, "reference" or "engine".
        parts: scores in the pieces in which a metric was given them, each of shape (samples,), of any type that
            converts to numbers.

    Raises:
        InvalidResults: also where they do not convert.
    """
    parts = [_numbers(whose, part) for part in parts]
    constant = [part for part in parts if len(part) > 1 and bool((part == part[0]).all())]
    if len(constant) < sum(len(part) > 1 for part in parts):
        return
    between = [part for part in constant if 0.0 < part[0] < 1.0]
    if 2 * sum(map(len, between)) > sum(map(len, parts)):
        raise InvalidResults(
            expected=f"a score of the {whose} for each sample by itself",
            found=f"{between[0][0]:g} for each of {len(between[0]):,} samples: one figure of all, repeated",
            remedy="let the metric return what each sample scores, e.g. right or wrong, and no mean or F1 of them all",
        )


def _cells(text: str) -> tuple[list[str], list[Sequence[str]]]:
    """The header and the columns below it. Raises ValueError or csv.Error for what is no table."""
    if '"' in text or "\r" in text:
        header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        _require_even(header, list(map(len, rows)))
        return header, list(zip(*rows, strict=True)) if rows else [()] * len(header)
    # Without a quoted cell commas and ends of lines are all there is: one list instead of one a row.
    first, *lines = text.removesuffix("\n").split("\n")
    header = first.split(",")
    _require_even(header, [line.count(",") + 1 for line in lines])
    cells = ",".join(lines).split(",") if lines else []
    return header, [cells[start :: len(header)] for start in range(len(header))]


def _require_even(header: Sequence[str], sizes: Sequence[int]) -> None:
    wrong = next((line for line, size in enumerate(sizes, start=2) if size != len(header)), None)
    if wrong is not None:
        raise ValueError(f"{sizes[wrong - 2]} values in row {wrong}")


def _check_ids(ids: Sequence[str]) -> None:
    problem = None
    if not ids:
        problem = "none"
    elif not all(ids):
        problem = f"an empty id at position {ids.index('')}"
    elif len(set(ids)) != len(ids):
        twice, times = Counter(ids).most_common(1)[0]
        problem = f"{twice!r} {times} times"
    elif not all(map(str.isprintable, ids)):
        problem = f"{next(name for name in ids if not name.isprintable())!r}, which is not printable"
    if problem is not None:
        raise InvalidResults(
            expected="results of at least one sample, each with a printable id of its own",
            found=problem,
            remedy="give every sample of the gate set a unique id, then evaluate again",
        )


def _scores(name: str, given: Any, ids: Sequence[str]) -> NDArray[np.float64]:
    scores = _numbers(name, given)
    if scores.shape != (len(ids),):
        raise InvalidResults(
            expected=f"one score of the {name} for each of {len(ids)} samples",
            found=f"shape {scores.shape}",
            remedy="let the metric return one score per sample, in the samples' order",
        )
    finite = np.isfinite(scores)
    if not finite.all():
        first = int(np.argmin(finite))
        raise InvalidResults(
            expected=f"finite scores of the {name}",
            found=f"{scores[first]} for sample {ids[first]!r}, {int((~finite).sum())} of {len(ids)} in all",
            remedy="look at what the model returns for that sample; a missing score is never counted as right",
        )
    scores.flags.writeable = False
    return scores


def _numbers(whose: str, given: Any) -> NDArray[np.float64]:
    try:
        return np.array(given, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidResults(
            expected=f"numbers as scores of the {whose}",
            found=str(error),
            remedy="let the metric return one number each",
        ) from error


def _column(name: str, given: Any, ids: Sequence[str]) -> NDArray[np.str_]:
    column: NDArray[Any] = np.array(given)
    problem = None
    if not name.isprintable() or not name or name in COLUMNS:
        problem = f"the name {name!r}"
    elif column.dtype.kind != "U" or column.shape != (len(ids),):
        problem = f"{column.dtype} of shape {column.shape}"
    elif wrong := [value for value in np.unique(column) if not value or not value.isprintable()]:
        sample = ids[int(np.flatnonzero(column == wrong[0])[0])]
        problem = f"{'an empty value' if not wrong[0] else repr(str(wrong[0]))} for sample {sample!r}"
    if problem is not None:
        raise InvalidResults(
            expected=f"column {name!r} as one printable text for each of {len(ids)} samples",
            found=problem,
            remedy="give every sample of the gate set a value, then evaluate again",
        )
    column.flags.writeable = False
    return column


def _written(scores: NDArray[np.float64]) -> Iterable[str]:
    if ((scores == 0.0) | (scores == 1.0)).all():
        # The same text in a fifth of the time.
        written: list[str] = np.where(scores == 1.0, "1", "0").tolist()
        return written
    return [str(int(score)) if score.is_integer() else repr(score) for score in scores.tolist()]
