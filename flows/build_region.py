"""One region on one target, from its data to the gate's answer. This is what the target's work pool runs."""

from __future__ import annotations

import time

from prefect import flow

from regiolect.build import needs_calibration
from regiolect.contracts import ExportedModel, RegionOutcome
from regiolect.outcome import conclude
from regiolect.planning import RegionRequest
from tasks.build import attest_engine, build
from tasks.calibrate import calibrate_region
from tasks.evaluate import evaluate, gate
from tasks.validate import ingest_data, validate_data


@flow(name="build-region", flow_run_name="{request.name}-{request.policy.region}-{request.target.name}")
def build_region(request: RegionRequest, model: ExportedModel) -> RegionOutcome:
    """Build, attest and judge one engine.

    Raises:
        RegiolectError: whatever stopped the region; the caller turns it into a refused outcome.
    """
    started = time.perf_counter()
    policy = request.policy
    data = validate_data(request, ingest_data(request))
    calibrated = needs_calibration(policy.precision)
    table = calibrate_region(model, data, policy.calibration.method) if calibrated else None
    engine = build(request, model, data, table)
    attestation = attest_engine(engine)
    evaluation = decision = None
    if attestation.executed is not None:
        evaluation = evaluate(request, model, engine, data)
        decision = gate(request, engine, attestation, evaluation)
    return conclude(
        request, data, table, engine, attestation, evaluation, decision, seconds=time.perf_counter() - started
    )
