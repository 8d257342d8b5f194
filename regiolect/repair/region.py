"""Choose the graph of one region's engine for one target, with what that region's data and target allow."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache, partial

from regiolect.build import build_engine
from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ChosenGraph,
    EngineArtifact,
    ExportedModel,
    GraphChoice,
    Observation,
    SensitiveOperator,
    ValidatedCalibration,
)
from regiolect.data import read_samples
from regiolect.engines.catalog import backend
from regiolect.errors import MissingThreshold
from regiolect.host.lock import sharing_machine
from regiolect.model import ModelSpec
from regiolect.planning import RegionRequest
from regiolect.precision import traits
from regiolect.repair.choose import Workshop, choose
from regiolect.repair.selection import Selection
from regiolect.storage import Store


def choose_graph(
    request: RegionRequest,
    spec: ModelSpec,
    model: ExportedModel,
    data: ValidatedCalibration,
    observation: Observation | None,
    store: Store,
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> ChosenGraph:
    """What the region's engine is built from: the stated graph, or the one that repairs it, with every step told.

    FP32 is what it is: there is nothing to choose. Where the target's engines cannot run on this machine, nothing can
    be scored or timed: it is the stated graph, which says so.

    Args:
        request: policy and target.
        spec: gives the metric function.
        model: the exported model.
        data: the region's data; of its sets only calibration and selection are looked at.
        observation: what was seen of the calibration set; None for FP32.
        store: where engines that are tried are kept, so that the chosen one is not built again.
        force: build again what was built before.
        say: told of each step, by region and target.

    Raises:
        NothingWithinLimit: no graph that the policy allows loses little enough on the selection set.
        CalibrationError, ModelError, EngineError, EvaluationError: whatever stops a step.
    """
    policy, chosen = request.policy, backend(request.target.backend)
    workshop = Workshop(
        tables=_tables(observation, store),
        build=_builder(request, model, data, store, force),
        rank=partial(_rank, request, model, data, store),
        say=lambda line: say(f"{request.region} {request.place}: {line}"),
        minutes=_minutes_since_now(),
    )
    first = policy.stated_choice()
    if traits(policy.precision).observed == "nothing":
        return ChosenGraph(choice=first, table=workshop.table(first))
    obstacle = chosen.obstacle()
    if obstacle is not None:
        unrepaired = f"not repaired, which takes a device to score it on: {obstacle.found}"
        workshop.say(f"{first.summary()}: {unrepaired}")
        return ChosenGraph(choice=first, table=workshop.table(first), unrepaired=unrepaired)
    return choose(Selection.read(spec, model, data, policy, store), policy, workshop)


def _minutes_since_now() -> Callable[[], float]:
    start = time.monotonic()
    return lambda: (time.monotonic() - start) / 60


def _tables(observation: Observation | None, store: Store) -> Callable[[CalibrationMethod], CalibrationTable]:
    @cache
    def table(method: CalibrationMethod) -> CalibrationTable:
        from regiolect.calibrate import read_observed, table_of

        if observation is None:
            raise MissingThreshold(
                expected="an observation of the region's calibration set for a graph that needs ranges",
                found="none",
                remedy="run the region again: its calibration set is observed first",
            )
        with sharing_machine():
            return table_of(read_observed(observation, store), method)

    return table


def _builder(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, store: Store, force: bool
) -> Callable[[GraphChoice, CalibrationTable | None], EngineArtifact]:
    built: dict[GraphChoice, EngineArtifact] = {}

    def build(choice: GraphChoice, table: CalibrationTable | None) -> EngineArtifact:
        if choice not in built:
            graph = ChosenGraph(choice=choice, table=table)
            with sharing_machine():
                built[choice] = build_engine(request, model, data, graph, store, force=force)
        return built[choice]

    return build


def _rank(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, store: Store, table: CalibrationTable
) -> tuple[SensitiveOperator, ...]:
    from regiolect.repair.sensitivity import rank_operators

    recipe = backend(request.target.backend).recipe(request.policy.precision, request.arithmetic)
    with sharing_machine():
        samples = read_samples(store.path_of(data.dataset.calibration.blob))
        return rank_operators(model, table, recipe, samples, store)
