"""One release on machines of several classes of arithmetic, and each machine's bundles opened on the others.

    python -m benchmarks.two_classes prepare FOLDER          once: exports the model, takes in and checks the data
    python -m benchmarks.two_classes release FOLDER NAME     on each machine: judged, signed bundles in FOLDER/NAME
    python -m benchmarks.two_classes open FOLDER             on each machine: opens every bundle that lies in FOLDER
    python -m benchmarks.two_classes table FOLDER            what the machines found, to benchmarks/results

FOLDER travels between the machines. `prepare` needs everything that a release does; the others need no orchestrator, no
registry and no exporter: numpy, scipy, onnx, and the runtimes. A bundle that is opened is asked the region's whole gate
set, and its answers are judged by the region's gate against the reference's: `right` if they pass, `wrong` if they do
not. A bundle that is refused names its error.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regiolect.bundle.manifest import read_bundle, results_path
from regiolect.bundle.write import write_bundle
from regiolect.contracts import (
    Decision,
    ExportedModel,
    RegionOutcome,
    SampleSet,
    Split,
    ValidatedCalibration,
    approved_engine,
)
from regiolect.engines.catalog import backend
from regiolect.errors import RegiolectError
from regiolect.evaluate.results import PairedResults
from regiolect.gate import decide_gate
from regiolect.host.arithmetic import arithmetic_here
from regiolect.host.cpu import cpu_fingerprint
from regiolect.integrity import write_atomic
from regiolect.planning import load_model_spec
from regiolect.planning.request import region_parts, requests_for
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.release.outcome import conclude
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.storage import LocalStore

MODEL = "examples.fashion:MODEL"
# Two INT8, an FP16 through ONNX Runtime, an FP16 and an FP32 through OpenVINO: what travels stays small.
REGIONS = ("na", "jp", "br", "eu", "de")
RESULTS = Path(__file__).parent / "results"
Row = dict[str, Any]


def prepare(folder: Path) -> None:
    """Export the model and take in the regions' data, with every check that a release makes."""
    from data_checks import validate_calibration
    from regiolect.export import export_model
    from regiolect.ingest import ingest

    spec, book, store = load_model_spec(MODEL), PolicyBook(), LocalStore(folder / "store")
    exported = export_model(spec, store, spec.region_data(REGIONS[0]).load(Split.CALIBRATION))
    write_atomic(folder / "exported.json", exported.model_dump_json().encode())
    for region in REGIONS:
        dataset = ingest(spec.region_data(region), store, spec.inputs, spec.preprocessing.raw_dtype)
        data = validate_calibration(dataset, store, book.load(region).samples.by_split())
        write_atomic(folder / "data" / f"{region}.json", data.model_dump_json().encode())
    Keyring.at(folder / "key.pem", folder / "trust.json").create("benchmark")


def release(folder: Path, name: str) -> None:
    """Build, attest, judge and sign every region's engines that run on this machine."""
    home = folder / name
    shutil.copytree(folder / "store", home / "store", dirs_exist_ok=True)
    os.environ.update(REGIOLECT_HOME=str(home), REGIOLECT_STORE=str(home / "store"))
    exported = ExportedModel.model_validate_json((folder / "exported.json").read_bytes())
    signing, told = Signing(Keyring.at(folder / "key.pem", folder / "trust.json").signer()), []
    for path in sorted((folder / "data").glob("*.json")):
        data, policy = ValidatedCalibration.model_validate_json(path.read_bytes()), PolicyBook().load(path.stem)
        outcomes = list(_outcomes(exported, data, policy, LocalStore(home / "store")))
        engines = [engine for engine in map(approved_engine, outcomes) if engine is not None]
        for outcome in outcomes:
            told.append({"region": policy.region, "decision": outcome.decision.value, "reasons": outcome.reasons})
            print(f"{policy.region:<4} {outcome.target.name} {outcome.decision}: {outcome.reasons[0]}", flush=True)
        if engines:
            write_bundle(
                home / "bundles" / policy.region,
                exported,
                policy.region,
                policy.title,
                policy.canonical(),
                engines,
                LocalStore(home / "store"),
                signing,
            )
    write_atomic(home / "released.json", json.dumps({"machine": machine(), "regions": told}, indent=2).encode())
    shutil.rmtree(home / "store")


def _outcomes(
    model: ExportedModel, data: ValidatedCalibration, policy: RegionPolicy, store: LocalStore
) -> Iterator[RegionOutcome]:
    from regiolect.release import stages

    spec = load_model_spec(MODEL)
    shared = region_parts(spec, spec.source(), policy)
    for target in policy.targets:
        if target.backend.startswith("tensorrt") or backend(target.backend).obstacle() is not None:
            continue
        (request,) = requests_for(MODEL, spec, policy, target, shared, store, on_pools=False)
        observed = stages.observe(request, model, data, False)
        chosen = stages.choose(request, model, data, observed, False)
        engine = stages.build(request, model, data, chosen, False)
        attestation = stages.attest(engine)
        evaluation = stages.evaluate(request, model, engine, data, None)
        rows = PairedResults.from_csv(store.path_of(evaluation.results))
        decision = decide_gate(engine, policy, attestation, evaluation, rows)
        yield conclude(request, data, chosen, engine, attestation, evaluation, decision, 0.0, None)


def opened(folder: Path) -> None:
    """Open every machine's bundles here and put them to the region's gate; what was found lies in FOLDER/opened."""
    here, rows = machine(), []
    trust = Keyring.at(folder / "key.pem", folder / "trust.json").load_trust()
    for made in sorted(folder.glob("*/released.json")):
        for bundle in sorted((made.parent / "bundles").iterdir()):
            row = {"made on": made.parent.name, "region": bundle.name, **_open(folder, bundle, trust)}
            print(
                f"{row['made on']:<12} {row['region']:<4} {row['precision']:<5} {row['found']}: {row['told']}",
                flush=True,
            )
            rows.append(row)
    write_atomic(
        folder / "opened" / f"{here['arithmetic']}.json",
        json.dumps({"machine": here, "bundles": rows}, indent=2).encode(),
    )


def _open(folder: Path, bundle: Path, trust: Any) -> Row:
    from regiolect.data import read_samples
    from regiolect.evaluate.evaluate import metric_of
    from regiolect.serving import load_bundle

    manifest = read_bundle(bundle)
    first = manifest.engines[0]
    row: Row = {"precision": first.engine.request.precision.value, "class": _class(first), "share": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            served = load_bundle(bundle, trust)
    except RegiolectError as error:
        return {**row, "found": "refused", "told": f"{type(error).__name__}: {error.found}"[:300]}
    approved = next(each for each in manifest.engines if each.engine.request == served.engine.artifact.request)
    policy = RegionPolicy.model_validate_json((bundle / "policy.json").read_bytes())
    data = ValidatedCalibration.model_validate_json((folder / "data" / f"{bundle.name}.json").read_bytes())
    gate: SampleSet = data.dataset.gate
    samples = read_samples(LocalStore(folder / "store").path_of(gate.blob))
    then = PairedResults.from_csv(bundle / results_path(approved.engine.request.slot))
    score = metric_of(load_model_spec(MODEL), policy)
    now = PairedResults(
        then.sample_ids, then.reference, score(served.predict(samples.inputs), samples.targets), then.columns
    )
    store = LocalStore(folder / "opened" / "results")
    evaluation = approved.evaluation.model_copy(
        update={"results": store.put_bytes(now.to_csv()), "engine_score": float(now.engine.mean())}
    )
    decision = decide_gate(approved.engine, policy, approved.attestation, evaluation, now)
    differing = int((now.engine != then.engine).sum())
    return {
        **row,
        "share": served.self_test.share if served.self_test is not None else None,
        "found": "right" if decision.verdict is Decision.APPROVED else "wrong",
        "differing": differing,
        "told": f"{differing} of {len(then)} samples scored otherwise; {decision.reasons[0]}",
    }


def _class(approved: Any) -> str:
    return str(approved.engine.request.arithmetic or "any")


def machine() -> dict[str, str]:
    """This machine, and its class of arithmetic."""
    return {**cpu_fingerprint(), "python": platform.python_version(), "arithmetic": str(arithmetic_here())}


def table(folder: Path) -> None:
    """What the machines found, as JSON and as a table."""
    found = [json.loads(path.read_bytes()) for path in sorted((folder / "opened").glob("*.json"))]
    made = {
        path.parent.name: json.loads(path.read_bytes())["machine"] for path in sorted(folder.glob("*/released.json"))
    }
    columns = "".join(f" opened on {each['machine']['arithmetic']} |" for each in found)
    lines = [
        "# One release on several classes of arithmetic, each bundle opened on the others",
        "",
        f"`{MODEL}`, by `python -m benchmarks.two_classes`. What became of each bundle on each machine. `right`:",
        "it loads, and its answers to the region's gate set pass its gate there. The number is of samples that were",
        "scored otherwise than where it was judged.",
        "",
        f"| made on | region | graph |{columns}",
        "| --- | --- | --- |" + " --- |" * len(found),
    ]
    for place, row in enumerate(found[0]["bundles"]):
        cells = "".join(f" {_cell(each['bundles'][place])} |" for each in found)
        lines.append(f"| {row['made on']} | {row['region']} | {row['precision']} |{cells}")
    lines += ["", *(f"- {name}: {one['cpu']} ({one['isa']})" for name, one in made.items()), ""]
    write_atomic(RESULTS / "two_classes.md", "\n".join(lines).encode())
    write_atomic(RESULTS / "two_classes.json", json.dumps({"made": made, "opened": found}, indent=2).encode())
    print("\n".join(lines))


def _cell(row: Row) -> str:
    if row["found"] == "refused":
        return f"refused ({row['told'].partition(':')[0]})"
    return f"{row['found']} ({row['differing']})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "release", "open", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?", default="here")
    given = parser.parse_args()
    folder = given.folder.absolute()
    if given.step == "release":
        release(folder, given.name)
    else:
        {"prepare": prepare, "open": opened, "table": table}[given.step](folder)


if __name__ == "__main__":
    main()
