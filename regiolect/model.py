"""ModelSpec: what a user writes to bring a model; a region that it has no data for is refused here."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import Preprocessing, SourceFiles, TensorSpec
from regiolect.data import FolderSource, RegionSource
from regiolect.errors import InvalidModelSpec, InvalidResults, UnknownRegion
from regiolect.identity.made_of import Made, made_of
from regiolect.identity.source_code import Code, code_of, defined
from regiolect.integrity import digest_of, digest_source

if TYPE_CHECKING:
    import torch

Metric = Callable[[Mapping[str, NDArray[Any]], NDArray[Any]], NDArray[Any]]
"""(outputs by name, targets) -> one score per sample, True or False for right/wrong metrics; more is better."""


@dataclass(frozen=True)
class Measure:
    """A metric that says which way its scores go.

    An error, of which less is better, is turned round where it is scored: everything after that sees 1 - error, so that
    more is better everywhere, in every set.

        metrics={"word_error": Measure(word_error, greater_is_better=False)}

    Attributes:
        score: (outputs by name, targets) -> one number in [0, 1] per sample.
        greater_is_better: False for an error.
    """

    score: Metric
    greater_is_better: bool = True

    def __call__(self, outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[Any]:
        """One score per sample, more being better.

        Raises:
            InvalidResults: an error is outside [0, 1], so that 1 - error would say nothing.
        """
        given = self.score(outputs, targets)
        if self.greater_is_better:
            return given
        errors = np.asarray(given, dtype=np.float64)
        outside = np.flatnonzero(~((errors >= 0.0) & (errors <= 1.0)))
        if outside.size:
            raise InvalidResults(
                expected="errors in [0, 1] from a metric with greater_is_better=False",
                found=f"{errors.flat[outside[0]]:g}",
                remedy="let the metric return errors in [0, 1] per sample: divide them by the largest possible one, or "
                "cut them off",
            )
        return 1.0 - errors


@dataclass(frozen=True)
class ModelSpec:
    """One trained model, its inputs, and its data in every region.

        >>> from regiolect.contracts import DeclaredStatistics, Preprocessing, TensorSpec
        >>> from regiolect.data import FolderSource
        >>> from regiolect.evaluate.metrics import top1
        >>> MODEL = ModelSpec(
        ...     name="shop",
        ...     loader=Path("model.onnx"),
        ...     inputs=(TensorSpec(name="image", shape=("batch", 1, 4, 4)),),
        ...     outputs=("logits",),
        ...     preprocessing=Preprocessing(raw_dtype="uint8", scale=1 / 255),
        ...     metrics={"accuracy": top1},
        ...     data={"eu": FolderSource("eu", Path("data/eu"), DeclaredStatistics(mean=(80, 120), std=(30, 60)))},
        ... )
        >>> sorted(MODEL.source().files)
        ['model.onnx']

    In `shop/models.py` its address is `shop.models:MODEL`. Made in a moment and read often, it loads nothing by itself.

    Args:
        name: lower-case words joined by dashes; the registry entries are `<name>-<region>`.
        loader: a function without arguments that returns the torch module in eval mode, or the path of an .onnx file
            used as it is. The module takes `inputs` in their order, as float32, and returns `outputs` in theirs.
        reference: for an .onnx file that arrives quantized, the .onnx file of its FP32 original, to compare it with.
        sources: files that define the model: weights, and whatever its code reads. A change in any of them rebuilds
            everything. So does one in the code of loader, metrics, data sources and preprocessing, and in what that
            code imports, which need not be listed (`regiolect.identity.source_code` says what is found); and in the
            values that loader and metrics were made with, as they are when the spec is made
            (`regiolect.identity.made_of`).
        inputs: named inputs; strings in a shape are symbolic dimensions, the first is the batch.
        outputs: output names, in the order the model returns them.
        preprocessing: raw input to model input; when left out, float32 samples go in as they are.
        metrics: metric functions by the name that policies use, e.g. {"accuracy": regiolect.evaluate.metrics.top1}.
            Each takes outputs by name, arrays of shape (n, ...), and the targets, and returns n scores: True or False,
            or numbers in [0, 1], more being better. An error, of which less is better, goes into a `Measure`.
        data: each region's source of samples, under the region's name.
        note: what a reader of any result must know, e.g. that data are simulated; shown wherever results are.
        parity_tolerance: largest absolute difference allowed between outputs of the torch module and of its ONNX graph,
            in the outputs' own units; a value beyond 1 may differ by its rounding in FP32 as well
            (`regiolect.export.parity.compare`).

    Raises:
        InvalidModelSpec: a field has an unusable value, or a file does not exist.
    """

    name: str
    loader: Callable[[], torch.nn.Module] | Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    metrics: Mapping[str, Metric]
    data: Mapping[str, RegionSource]
    sources: tuple[Path, ...] = ()
    reference: Path | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    note: str = ""
    parity_tolerance: float = 1e-4
    # Where its modules are looked for: a loader that adds to `sys.path` as it runs must not change what the model is.
    _search: tuple[str, ...] = field(init=False, repr=False, compare=False, default=())
    # Nor must what a loader or a metric counts or keeps as it runs.
    _made: tuple[Made, ...] = field(init=False, repr=False, compare=False, default=())
    # Of a process that goes on for days, a file may say something else by now than what was imported from it.
    _born: int = field(init=False, repr=False, compare=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_born", time.time_ns())
        object.__setattr__(self, "_search", tuple(str(Path(entry).absolute()) for entry in sys.path))
        things = (self.loader, *map(_scored_by, self.metrics.values()))
        object.__setattr__(self, "_made", tuple(map(self._look_at, things)))
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            self._refuse("a name of lower-case words joined by single dashes", repr(self.name), "name='my-model'")
        if not self.inputs or not self.outputs:
            self._refuse(
                "at least one input and one output", f"{len(self.inputs)} and {len(self.outputs)}", "name them"
            )
        for tensor in self.inputs:
            if not isinstance(tensor.shape[0], str):
                found = f"{tensor.name}: {tensor.shape}"
                self._refuse("a symbolic batch as first dimension", found, f"shape=('batch', *{tensor.shape[1:]})")
        self._require_channels()
        if not self.metrics:
            self._refuse("at least one metric", "none", 'metrics={"accuracy": regiolect.evaluate.metrics.top1}')
        misplaced = [
            f"data[{region!r}] is of {source.region!r}"
            for region, source in self.data.items()
            if source.region != region
        ]
        if misplaced:
            self._refuse(
                "every region's data under its own name", misplaced[0], "another region's data is never a substitute"
            )
        missing = [path for path in self._files() if not path.is_file()]
        if missing:
            self._refuse("every source file to exist", f"missing {missing[0]}", "correct `sources` or `loader`")
        if callable(self.loader) and not self.sources:
            self._refuse(
                "the files of a torch model's weights in `sources`",
                "none",
                "list them: without them a change of weights could not be noticed; its code is found without",
            )

    def _refuse(self, expected: str, found: str, remedy: str) -> NoReturn:
        raise InvalidModelSpec(expected=f"{expected} in the spec of {self.name!r}", found=found, remedy=remedy)

    def _require_channels(self) -> None:
        """Refuse means and deviations by channel that would meet another axis, or could."""
        for what, values in (("mean", self.preprocessing.mean), ("std", self.preprocessing.std)):
            count = len(values)
            for tensor in self.inputs if count != 1 else ():
                where = [axis for axis, extent in enumerate(tensor.shape) if extent == count]
                if where != [1]:
                    has = f"{count} on axis {', '.join(map(str, where))}" if where else f"no axis of {count}"
                    self._refuse(
                        f"as many values of preprocessing.{what} as axis 1 of every input has, or one for all,",
                        f"{count} for {tensor.name!r} of shape {tensor.shape}, with {has}",
                        "bring channels to axis 1, where no other axis has their size; or normalize inside the model",
                    )

    def _files(self) -> tuple[Path, ...]:
        own = (self.loader,) if isinstance(self.loader, Path) else ()
        reference = (self.reference,) if self.reference is not None else ()
        return (*own, *reference, *self.sources)

    def source_digest(self) -> str:
        """Digest of everything that defines the model: files, code, inputs, outputs and preprocessing. Errors as of
        `source`."""
        return self.source().digest

    def source(self) -> SourceFiles:
        """Everything that defines the model: files of the spec, those of the code that makes the module, and settings.

        Raises:
            InvalidModelSpec: the loader is defined in no file.
        """
        listed = self._files()
        loader = () if isinstance(self.loader, Path) else (self._made_of(self.loader),)
        # What a preprocessing was made with is told by its fields.
        code = self._code("loader", *loader, self._made_of(type(self.preprocessing)))
        own = _digests(code, leaving_out=listed)
        digest = digest_of(
            {
                "name": self.name,
                "files": [digest_source(path) for path in listed],
                "inputs": [tensor.model_dump(mode="json") for tensor in self.inputs],
                "outputs": list(self.outputs),
                "preprocessing": self.preprocessing.model_dump(mode="json"),
                "parity_tolerance": self.parity_tolerance,
                **({"loader": loader[0].name} if loader else {}),
                **_told(own, code.settings),
            }
        )
        files = own | {path.name: digest_source(path) for path in listed}
        return SourceFiles(digest=digest, files=files | _made_with("the loader", code))

    def metric_source(self, metric: str) -> SourceFiles:
        """What defines a metric: the file that does and what it imports, its name, and which way its scores go. A
        corrected metric judges anew.

        Raises:
            InvalidModelSpec: the model does not offer the metric, or no file defines it.
        """
        if metric not in self.metrics:
            self._refuse(
                f"metric {metric!r}, which a policy names,",
                f"metrics {', '.join(sorted(self.metrics))}",
                "add it to `metrics` of the ModelSpec, or name one of those in the policy",
            )
        given = self.metrics[metric]
        function = _scored_by(given)
        turned = isinstance(given, Measure) and not given.greater_is_better
        made = self._made_of(function)
        code = self._code(f"metric {metric!r}", made)
        _, file = defined(function)
        named = getattr(function, "__qualname__", metric)
        # A metric of which more is better has the digest that it had before there was another kind.
        way = {"greater_is_better": False} if turned else {}
        digest = digest_of(
            {
                "file": digest_source(file),
                # Which one of a file's lambdas, or of a function's branches, its name alone does not tell.
                "name": made.name.partition(":")[2] if isinstance(function, FunctionType) else named,
                **way,
                **_told(_digests(code, leaving_out=(file,)), code.settings),
            }
        )
        return SourceFiles(digest=digest, files=_digests(code) | _made_with("the metric", code))

    def data_source(self, region: str) -> SourceFiles:
        """What decides a region's samples: their identity, and the code that makes or reads them.

        Raises:
            UnknownRegion: the model has no data there.
            InvalidModelSpec: no file defines the source.
        """
        source = self.region_data(region)
        # What it was made with is told by its identity.
        files = _digests(self._code(f"data of region {region!r}", self._made_of(source)))
        identity = source.identity()
        sets = source.sets() if isinstance(source, FolderSource) else {}
        digest = digest_of({"identity": identity, "code": files}) if files else identity
        return SourceFiles(digest=digest, files=files, sets=sets)

    def outdated(self, *others: Path) -> tuple[str, ...]:
        """Files of its code, and others, that were changed after this object was made of what stood there before."""
        things: list[object] = [*map(_scored_by, self.metrics.values()), *self.data.values(), type(self.preprocessing)]
        if not isinstance(self.loader, Path):
            things.append(self.loader)
        files: dict[str, Path] = {}
        for thing in things:
            # What no file defines is refused where it is used.
            with suppress(InvalidModelSpec):
                files.update(self._code("code", self._made_of(thing)).files)
        there = {path.resolve() for path in files.values()}
        files |= {path.name: path for path in others if path.resolve() not in there}
        now = time.time_ns()
        # A file from the future tells nothing. One that is gone has changed.
        times = {name: path.stat().st_mtime_ns if path.exists() else now for name, path in sorted(files.items())}
        return tuple(name for name, changed in times.items() if self._born < changed <= now)

    def _made_of(self, thing: object) -> Made:
        """What a thing was made of when the spec was made; of what was not there then, as it is now."""
        then = next((made for made in self._made if made.thing is thing), None)
        return then or self._look_at(thing)

    def _look_at(self, thing: object) -> Made:
        try:
            return made_of(thing, self._search)
        except Exception as error:
            # Code of the user's, as a class that answers to everything or a property under a name of Python's.
            raise InvalidModelSpec(
                expected=f"a loader, metrics and data in the spec of {self.name!r} that can be looked at",
                found=f"{type(error).__name__} from what a {type(thing).__name__} is or holds",
                remedy="hold plain values and functions in it; the cause above names the code that failed",
            ) from error

    def _code(self, called: str, *things: Made) -> Code:
        try:
            return code_of(things, self._search)
        except LookupError as error:
            self._refuse(
                f"{called} as something that a file defines",
                str(error.args[0]),
                "define it with `def` or `class` in a module of yours: a change could not be noticed otherwise",
            )

    def region_data(self, region: str) -> RegionSource:
        """The source of a region's samples.

        Raises:
            UnknownRegion: the model has no data there.
        """
        if region not in self.data:
            raise UnknownRegion(
                expected=f"data of region {region!r} in ModelSpec {self.name!r}",
                found=f"data for {', '.join(sorted(self.data)) or 'no region'}",
                remedy=f"add data[{region!r}], or leave the region out: --regions {','.join(sorted(self.data))}",
            )
        return self.data[region]


def _scored_by(metric: Metric) -> Metric:
    return metric.score if isinstance(metric, Measure) else metric


def _made_with(what: str, code: Code) -> dict[str, str]:
    """Beside the files, so that a change of it has a name."""
    return {f"what {what} is made with": digest_of(list(code.settings))} if code.settings else {}


def _digests(code: Code, leaving_out: Sequence[Path] = ()) -> dict[str, str]:
    left_out = {path.resolve() for path in leaving_out}
    return {name: digest_source(path) for name, path in code.files.items() if path.resolve() not in left_out}


def _told(files: Mapping[str, str], settings: Sequence[str]) -> dict[str, object]:
    """What code adds to a digest: nothing where there is none, so that it is what it was before code was looked at."""
    return {**({"code": dict(files)} if files else {}), **({"settings": list(settings)} if settings else {})}


__all__ = ["Measure", "Metric", "ModelSpec"]
