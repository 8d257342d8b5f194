"""One region on one target, from its data to the gate's answer. This is what the target's work pool runs."""

from __future__ import annotations

import time
from contextlib import suppress

import httpx
from prefect import flow, runtime
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.exceptions import PrefectException

from regiolect.contracts import RegionAnswer, RegionOutcome
from regiolect.errors import Busy, ForeignArithmetic, OrchestratorError, StorageError
from regiolect.planning import BuildOrder, RegionRequest, answer, finished, on_this_machine, tell
from regiolect.release.outcome import conclude, refuse
from regiolect.settings import store_of
from tasks.build import attest_engine, build
from tasks.calibrate import observe_region
from tasks.choose import choose
from tasks.evaluate import evaluate, gate, meet_champion
from tasks.in_child import one_child
from tasks.tune import tune_engine
from tasks.validate import ingest_data, validate_data

# The orchestrator's own trouble, other processes that had what was needed for too long, and a machine of another class.
NOT_THE_REGIONS = (
    Busy,
    ForeignArithmetic,
    OrchestratorError,
    PrefectException,
    ConcurrencySlotAcquisitionError,
    httpx.HTTPError,
)


@flow(name="build-region", flow_run_name="{order.request.run_name}")
def build_region(order: BuildOrder) -> RegionAnswer:
    """Have one region's engine for one target: the finished one of this machine's build key, or a new one.

    Whatever comes of it is kept in the region's store, an error as well unless it is the orchestrator's or another
    process's, and last under this flow run's id, where whoever waits for the run finds it: nothing travels through the
    orchestrator but the run's state.

    Raises:
        RegiolectError: whatever stopped the region, after it was kept as its refused outcome.
    """
    clock, request = time.perf_counter(), order.request
    store, run = store_of(request), str(runtime.flow_run.id)
    try:
        request = on_this_machine(request, store)
        kept = None if order.force else finished(request, store)
        outcome = kept or _build(request, order, clock)
    except Exception as error:
        # Whatever stopped the region, of whichever library, is kept as its outcome and raised again; what only kept it
        # from being tried is told to whoever waits, and says nothing about the region.
        # A store that takes no record either hides nothing: the run fails with what stopped it in the first place.
        refused = refuse(request, error, seconds=time.perf_counter() - clock)
        with suppress(StorageError):
            if isinstance(error, NOT_THE_REGIONS):
                tell(run, refused, store, built=False)
            else:
                answer(run, refused, request, store, built=True)
        raise
    return answer(run, outcome, request, store, built=kept is None)


def _build(request: RegionRequest, order: BuildOrder, clock: float) -> RegionOutcome:
    model, force = order.exported, order.force
    minutes = request.policy.tuning.minutes if request.policy.tuning is not None else 0.0
    with one_child(f"{request.region} on {request.place}", request.policy.stage_minutes()):
        data = validate_data(request, ingest_data(request))
        observed = observe_region(request, model, data, force)
        chosen = choose(request, model, data, observed, force)
        engine = build(request, model, data, chosen)
        attestation = attest_engine(engine)
        evaluation = decision = tuning = None
        if attestation.executed is not None:
            if request.policy.tuning is not None:
                tuning = tune_engine(request, model, engine, data, minutes, force)
            evaluation = evaluate(request, model, engine, data, tuning)
            decision = gate(request, engine, attestation, evaluation)
        seconds = time.perf_counter() - clock
        outcome = conclude(request, data, chosen, engine, attestation, evaluation, decision, seconds, tuning)
        meet_champion(request, outcome)
    return outcome
