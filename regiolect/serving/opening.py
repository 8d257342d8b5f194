"""Open an engine at its operating points, and see what batches take here."""

from __future__ import annotations

import itertools
import math
import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from regiolect.contracts import BuildRequest, Configuration, Preprocessing, TunedEngine
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.engine import Arrays, Engine
from regiolect.errors import ShapeOutsideProfile
from regiolect.serving.adaptive import AdaptiveModel
from regiolect.serving.bundles import load_bundle, open_engine, require_origin
from regiolect.serving.forecast import Point
from regiolect.signing.keyring import Keyring
from regiolect.signing.trust import Trust

PATIENCE = 1.0
"""Seconds that a caller waits at most, where nothing else is said."""
# After a first one of each size, for which the runtime prepares itself. The fastest tells: the rest is disturbance.
_ROUNDS = 3
# As served: as many rounds as fill so many seconds, and no fewer than so many.
_SERVED_SECONDS, _SERVED_ROUNDS = 0.5, 8
_ENDLESS = 1e9


def load_adaptive(folder: Path, trust: Trust | None = None, patience: float = PATIENCE) -> AdaptiveModel:
    """Verify the bundle at `folder` and open it for many callers, as `load_bundle` opens it for one.

    Its operating points are those that tuning found on a device like this one. Where it was not tuned, or on another
    device, they are the engine as it comes with batches of 1, 2, 4 and so on up to the profile's optimum. Batches of
    every size are tried here for a moment, and each configuration behind a full queue, before this returns.

    Args:
        trust: whose signatures count; those of the trust file that the environment names when None.
        patience: seconds from request to answer; a request that would take longer is refused.

    Raises:
        InvalidSetting: no operating point answers within `patience`.
        As `load_bundle`.
    """
    trust = trust if trust is not None else Keyring.of_environment().load_trust()
    require_origin(folder, trust)
    served = load_bundle(folder, trust)
    slot = served.engine.artifact.request.slot
    approved = next(one for one in served.manifest.engines if one.engine.request.slot == slot)
    ways = (Way(AS_IT_COMES, ()),) if served.tuning is None else ways_of(served.tuning)
    there = AS_IT_COMES if served.tuning is None else served.tuning.point.configuration
    engines = [
        served.engine if way.configuration == there else open_engine(folder, approved, way.configuration)[0]
        for way in ways
    ]
    preprocessing = served.manifest.preprocessing
    return AdaptiveModel(engines, preprocessing, served_points(engines, ways, preprocessing), patience)


@dataclass(frozen=True)
class Way:
    """A configuration, and the largest batches of the operating points that have it; none: up to the optimum."""

    configuration: Configuration
    batches: tuple[int, ...]


def ways_of(tuning: TunedEngine) -> tuple[Way, ...]:
    """The configurations of an engine's operating points, each once; the chosen one, at which it was judged, too."""
    batches: dict[tuple[tuple[str, str], ...], set[int]] = {}
    for point in (*tuning.points, *([] if tuning.chosen is None else [tuning.chosen])):
        batches.setdefault(tuple(sorted(point.configuration.items())), set()).add(point.batch)
    return tuple(Way(dict(configuration), tuple(sorted(sizes))) for configuration, sizes in batches.items())


def served_points(engines: Sequence[Engine], ways: Sequence[Way], preprocessing: Preprocessing) -> list[Point]:
    """The operating points of engines that were loaded in these ways, with what their batches take as they are served.

    Batches are measured alone, and each engine then once more behind a queue that is never empty: callers, their
    preprocessing and their answers need cores as well, and some configurations stand that worse than others.

    Raises:
        As `measured_points`.
    """
    points = measured_points(engines, ways)
    raw = {name: one.astype(preprocessing.raw_dtype) for name, one in _sample(engines[0].artifact.request).items()}
    paces = {}
    for place in range(len(engines)):
        largest = max((point for point in points if point.engine == place), key=lambda point: point.batch)
        paces[place] = _pace(AdaptiveModel(engines, preprocessing, [largest], _ENDLESS), largest, raw)
    return [
        replace(
            point,
            seconds={size: took * paces[point.engine] for size, took in point.seconds.items()},
            alone={size: took * paces[point.engine] for size, took in point.alone.items()},
        )
        for point in points
    ]


def _pace(model: AdaptiveModel, point: Point, raw: Arrays) -> float:
    """What full batches take behind a queue, over what they took alone."""
    rounds = max(_SERVED_ROUNDS, math.ceil(_SERVED_SECONDS * point.rate / (point.batch * point.slots)))
    with model:
        # A round is what all slots compute at once. Two of them wait or fly at any time.
        waiting = deque(model.submit(raw) for _ in range(2 * point.batch * point.slots))
        begun = time.perf_counter()
        for _ in range(rounds * point.batch * point.slots):
            waiting.popleft().result()
            waiting.append(model.submit(raw))
        took = time.perf_counter() - begun
    return took / (rounds * point.takes(point.batch))


def measured_points(engines: Sequence[Engine], ways: Sequence[Way]) -> list[Point]:
    """The operating points of engines that were loaded in these ways, with what their batches take here and now.

    Raises:
        ShapeOutsideProfile: a size varies that the engine has no profile for.
        EngineError: an engine does not run.
    """
    request = engines[0].artifact.request
    sample = _sample(request)
    limits = [way.batches or tuple(_doubling(request.profile.opt)) for way in ways]
    sizes = [sorted({*sizes, *_doubling(max(sizes))}) for sizes in limits]
    fastest: list[dict[int, dict[int, float]]] = [{1: {}, engine.at_once: {}} for engine in engines]
    # All of them in turn: what disturbs one for a while disturbs the others as well.
    for number in range(1 + _ROUNDS):
        for engine, times, some in zip(engines, fastest, sizes, strict=True):
            for together, size in itertools.product(times, some):
                inputs = {name: np.repeat(one, size, axis=0) for name, one in sample.items()}
                took = _round(engine, inputs, together)
                if number:
                    times[together][size] = min(took, times[together].get(size, took))
    return [
        Point(
            engine=place,
            batch=limit,
            slots=engine.at_once,
            seconds={size: took for size, took in fastest[place][engine.at_once].items() if size <= limit},
            alone={size: took for size, took in fastest[place][1].items() if size <= limit},
            name=f"batch {limit}, " + (" ".join(f"{k}={v}" for k, v in way.configuration.items()) or "as it comes"),
        )
        for place, (engine, way) in enumerate(zip(engines, ways, strict=True))
        for limit in sorted(limits[place])
    ]


def _doubling(most: int) -> list[int]:
    return [*itertools.takewhile(lambda size: size < most, (2**power for power in itertools.count())), most]


def _sample(request: BuildRequest) -> Arrays:
    """One sample of zeros, of the sizes that the engine is tuned for."""
    missing = {size for tensor in request.inputs for size in tensor.shape[1:] if isinstance(size, str)}
    missing -= request.shapes.keys()
    if missing:
        raise ShapeOutsideProfile(
            expected=f"a profile for {min(missing)!r} of {request.model}-{request.region}, whose size varies",
            found="an engine from before there were profiles",
            remedy="release the region again, or load the bundle with load_bundle, which takes any size",
        )
    return {
        tensor.name: np.zeros(
            (1, *(request.shapes[size].opt if isinstance(size, str) else size for size in tensor.shape[1:])),
            np.dtype(tensor.dtype),
        )
        for tensor in request.inputs
    }


def _round(engine: Engine, inputs: Arrays, together: int) -> float:
    """Seconds that a batch takes while so many run side by side: their mean."""
    size, start = len(next(iter(inputs.values()))), threading.Barrier(together)

    def timed(_: int) -> float:
        start.wait()
        begin = time.perf_counter()
        engine.run_many(inputs, batch=size)
        return time.perf_counter() - begin

    with ThreadPoolExecutor(together) as pool:
        return statistics.fmean(pool.map(timed, range(together)))
