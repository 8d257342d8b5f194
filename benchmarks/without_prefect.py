"""A release without its orchestrator: the functions that the tasks call, in the same order, as wide side by side.

No run, state, event, log or artifact is recorded; nothing is retried, cancelled or resumed from outside, and no build
can go to another machine. It is what a release could cost at best.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import groupby

from regiolect.contracts import ExportedModel, Published, RegionAnswer, RegionOutcome, ReleaseResult
from regiolect.errors.redaction import redacted_address
from regiolect.planning import RegionRequest, ReleaseRequest, answer, finished, on_this_machine
from regiolect.release.outcome import conclude, rows_of
from regiolect.settings import load_settings, store_of
from tasks.build import attest_engine, build
from tasks.calibrate import observe_region
from tasks.choose import choose
from tasks.evaluate import evaluate, gate
from tasks.export import export
from tasks.plan import plan
from tasks.publish import publish
from tasks.report import log_report, write_report
from tasks.validate import ingest_data, validate_data


def release(address: str, side_by_side: int) -> ReleaseResult:
    """Release every region of a model that was never released; any error ends it.

    Args:
        address: of the ModelSpec.
        side_by_side: threads, as many as the flow's task runner has.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    planned = plan.fn(ReleaseRequest(address=address))
    requests = planned.requests()
    model = export.fn(address, tuple(dict.fromkeys(request.region for request in requests)))
    with ThreadPoolExecutor(side_by_side) as pool:
        told = list(pool.map(lambda request: _build_region(request, model), requests))
        outcomes = {each.outcome.build_key: each.outcome for each in told}
        publishing = {
            region: pool.submit(_publish, address, model, tuple(group), outcomes)
            for region, group in groupby(requests, key=lambda request: request.region)
        }
    published = {region: future.result() for region, future in publishing.items()}
    result = ReleaseResult(
        model=planned.name,
        note=planned.note,
        export=model.summary(),
        started=started,
        seconds=time.perf_counter() - clock,
        rows=rows_of(planned, outcomes, frozenset(outcomes), published),
        tracking_uri=redacted_address(load_settings().tracking_uri),
    )
    written = write_report.fn(result, tuple(outcomes.values()))
    log_report.fn(written)
    return written


def _publish(
    address: str, model: ExportedModel, requests: Sequence[RegionRequest], outcomes: Mapping[str, RegionOutcome]
) -> Published:
    of_region = tuple(outcomes[request.build_key] for request in requests)
    return publish.fn(address, model, of_region, requests[0].policy)


def _build_region(request: RegionRequest, model: ExportedModel) -> RegionAnswer:
    clock = time.perf_counter()
    store = store_of(request)
    request = on_this_machine(request, store)
    outcome = finished(request, store) or _build(request, model, clock)
    return answer(f"peer-{request.region}-{request.target.name}", outcome, request, store, built=True)


def _build(request: RegionRequest, model: ExportedModel, clock: float) -> RegionOutcome:
    data = validate_data.fn(request, ingest_data.fn(request))
    observed = observe_region.fn(request, model, data)
    chosen = choose.fn(request, model, data, observed)
    engine = build.fn(request, model, data, chosen)
    attestation = attest_engine.fn(engine)
    evaluation = decision = None
    if attestation.executed is not None:
        evaluation = evaluate.fn(request, model, engine, data)
        decision = gate.fn(request, engine, attestation, evaluation)
    return conclude(
        request, data, chosen, engine, attestation, evaluation, decision, seconds=time.perf_counter() - clock
    )
