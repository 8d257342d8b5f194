"""What a bundle proves of an engine by its bytes alone: the decision, made again from the results that it rests on."""

from __future__ import annotations

import math
from pathlib import Path

from pydantic import ValidationError

from regiolect.attest import read_layers
from regiolect.bundle.manifest import (
    POLICY,
    BundleManifest,
    attestation_path,
    calibration_path,
    results_path,
    tuning_path,
)
from regiolect.calibrate.archive import table_from_bytes
from regiolect.contracts import (
    ApprovedEngine,
    Arithmetic,
    CalibrationTable,
    OperatingPoint,
    TuningJournal,
    short,
)
from regiolect.engines import catalog
from regiolect.engines.arithmetic import judged_in
from regiolect.errors import (
    ClassNotTold,
    ForeignCalibration,
    IntegrityError,
    InvalidBundle,
    MissingThreshold,
    SamplesSeenBefore,
)
from regiolect.evaluate.results import PairedResults
from regiolect.host.files import NOTE, RECORD, read_file
from regiolect.policy import RegionPolicy
from regiolect.precision import traits
from regiolect.tune.figures import measured
from regiolect.tune.journal import engine_digest

RELEASE = "release the region again; until then consumers should not load this version"


def own_policy(folder: Path, manifest: BundleManifest) -> RegionPolicy:
    """The policy that the engines were approved under.

    Raises:
        InvalidBundle: it cannot be read, or is another region's.
    """
    try:
        policy = RegionPolicy.model_validate_json(read_file(folder / POLICY, NOTE))
    except (OSError, ValueError) as error:
        raise InvalidBundle(f"the policy of {manifest.region!r} in {POLICY}", str(error)[:300], RELEASE) from error
    if policy.region != manifest.region:
        raise InvalidBundle(f"the policy of {manifest.region!r} in {POLICY}", f"that of {policy.region!r}", RELEASE)
    return policy


def results_of(folder: Path, approved: ApprovedEngine) -> PairedResults:
    """The per-sample results that an engine was judged by.

    Raises:
        InvalidResults: they cannot be read.
    """
    return PairedResults.from_csv(folder / results_path(approved.engine.request.slot))


def require_attested(folder: Path, approved: ApprovedEngine) -> None:
    """Raises IntegrityError unless the layers behind an attestation are this engine's and count up to it; engines that
    are older than layers are have none."""
    attestation, request = approved.attestation, approved.engine.request
    if attestation.layers is None:
        return
    layers = read_layers(attestation, read_file(folder / attestation_path(request.slot), RECORD))
    if layers.build_key != request.build_key:
        raise IntegrityError(
            expected=f"the layers of the engine for {request.slot!r}, build {short(request.build_key)}",
            found=f"those of build {short(layers.build_key)}",
            remedy=RELEASE,
        )


def judged_class(approved: ApprovedEngine) -> Arithmetic | None:
    """The class of arithmetic in which an engine is loaded; None for one that is of none, or does not tell."""
    request = approved.engine.request
    if request.target.backend not in catalog.names() or not catalog.backend(request.target.backend).classed:
        return request.arithmetic
    return judged_in(approved.engine) if traits(request.precision).by_arithmetic else request.arithmetic


def require_class(approved: ApprovedEngine) -> None:
    """Raises ClassNotTold if no host loads an INT8 engine, for nobody knows in which arithmetic it was judged."""
    request, backend = approved.engine.request, approved.engine.request.target.backend
    classed = backend in catalog.names() and catalog.backend(backend).classed
    if classed and traits(request.precision).by_arithmetic and judged_class(approved) is None:
        raise ClassNotTold(
            expected=f"the class of arithmetic in which the {request.precision} engine for {request.target.name!r} was "
            "judged",
            found="neither a class nor instruction sets of a processor in its description, so that no host loads it",
            remedy="release the region again, which states the class; hosts take the region's wider engines until then",
        )


def require_tuned(folder: Path, approved: ApprovedEngine) -> None:
    """Raises IntegrityError unless an engine's operating points are what its journal's measurements come to.

    Which points were taken is left to the version that tuned; every figure of theirs is worked out again.
    """
    tuning, request = approved.tuning, approved.engine.request
    if tuning is None:
        return
    expected = f"a journal of the engine for {request.slot!r} that gives the operating points it is served with"
    try:
        journal = TuningJournal.model_validate_json(read_file(folder / tuning_path(request.slot), RECORD))
    except ValidationError as error:
        raise IntegrityError(expected, f"no journal of format 1: {error.errors()[0]['msg']}", RELEASE) from error
    if (journal.build_key, journal.engine) != (request.build_key, engine_digest(approved.engine)):
        raise IntegrityError(expected, f"one of build {short(journal.build_key)}", RELEASE)
    if dict(journal.device) != dict(tuning.device):
        raise IntegrityError(expected, "one of another device", RELEASE)
    points = [each.point for each in measured(journal).values()]
    for point in (tuning.default, *tuning.points, tuning.point):
        if not any(_same_point(point, other) for other in points):
            raise IntegrityError(expected, f"none for batch {point.batch} with {dict(point.configuration)}", RELEASE)


def _same_point(one: OperatingPoint, other: OperatingPoint) -> bool:
    same = (one.batch, dict(one.configuration), one.at_once) == (other.batch, dict(other.configuration), other.at_once)
    pairs = ((one.p50_ms, other.p50_ms), (one.p99_ms, other.p99_ms), (one.throughput, other.throughput))
    return same and all(math.isclose(stated, computed, rel_tol=1e-9) for stated, computed in pairs)


def calibration_of(folder: Path, approved: ApprovedEngine) -> CalibrationTable | None:
    """The sealed table that an engine was written from; None for one that uses none.

    Raises:
        InvalidCalibration: it cannot be read.
        MissingThreshold: an INT8 engine has none.
        ForeignCalibration: it is another region's.
    """
    request = approved.engine.request
    path = folder / calibration_path(request.slot)
    if approved.engine.calibration is None:
        if traits(request.precision).quantized:
            raise MissingThreshold(
                expected=f"the calibration table of the {request.precision} engine for {request.slot!r}",
                found="none in the bundle",
                remedy=RELEASE,
            )
        return None
    table = table_from_bytes(read_file(path, RECORD))
    if table.seal.region != request.region:
        raise ForeignCalibration(
            expected=f"a calibration of region {request.region!r}",
            found=f"one of region {table.seal.region!r} ({table.seal.samples} samples)",
            remedy=RELEASE,
        )
    return table


def require_unseen(rows: PairedResults, table: CalibrationTable) -> None:
    """Raises SamplesSeenBefore if the gate judged by samples that the engine was calibrated on."""
    shared = set(table.seal.sample_ids).intersection(rows.sample_ids)
    if shared:
        raise SamplesSeenBefore(
            expected="a gate set that shares no sample with the calibration set",
            found=f"{len(shared)} of {len(rows)} in both, among them {min(shared)!r}",
            remedy=f"take them out of one of the two sets, then {RELEASE}",
        )
