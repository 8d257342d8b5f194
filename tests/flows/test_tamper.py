"""Whatever is done to a registered engine by hand: it is refused when it is loaded, and an audit reports it.

Two regions are released; then each case does one thing to the champion of `east`, whose engine is FP16, as somebody
would who can write to registry and artifacts but has no key. The count of cases is printed at the end of a test run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient

from flows.audit import audit as audit_flow
from flows.release import release
from regiolect.audit import audit
from regiolect.bundle import MANIFEST, POLICY, calibration_path, decision_path
from regiolect.contracts import AuditResult
from regiolect.errors import (
    AliasMoved,
    AuditError,
    IntegrityError,
    NoTrust,
    RegiolectError,
    RevokedKey,
    SignatureMismatch,
    StatementMismatch,
    UnknownKey,
    UnsignedEngine,
)
from regiolect.integrity import canonical_json, digest_bytes
from regiolect.policy import PolicyBook
from regiolect.registry import Registry
from regiolect.settings import load_settings
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring
from regiolect.signing.keys import new_key
from tests.flows.tiny_models import ADDRESS, SIDE, Workshop

EAST, NORTH = "tiny-east", "tiny-north"
CHAMPION = f"models:/{EAST}@champion"
IMAGES = np.zeros((2, 1, SIDE, SIDE), np.int16)
TARGET = "cpu"
COMMAND = Path(sysconfig.get_path("scripts")) / "regiolect"


@dataclass(frozen=True)
class Registered:
    """The registry after two releases; what a case changes is put back when it ends."""

    home: Path

    @property
    def client(self) -> MlflowClient:
        uri = load_settings().tracking_uri
        return MlflowClient(uri, uri)

    def version(self, name: str = EAST) -> int:
        return int(self.client.get_model_version_by_alias(name, "champion").version)

    def folder(self, name: str = EAST, version: int | None = None) -> Path:
        found = self.client.get_model_version(name, str(version or self.version(name)))
        return Path(found.source.removeprefix("file://")) / "data" / "bundle"

    def audited(self, **options: Any) -> AuditResult:
        settings = load_settings()
        return audit(Registry(settings.tracking_uri), PolicyBook(settings.policies), **options)

    def rewritten(self, change: Callable[[dict[str, Any], Path], None], key: Signing | None = None) -> None:
        """Change the manifest of east's champion and make every digest right again, those in the registry as well.

        Args:
            change: of the manifest, and of files in the bundle's folder; digests of files follow.
            key: signs the decision anew.
        """
        folder = self.folder()
        manifest = json.loads((folder / MANIFEST).read_bytes())
        change(manifest, folder)
        if key is not None:
            path = folder / decision_path(TARGET)
            payload = statement_of(path)
            path.write_bytes(key.sign(payload))
        for blob in blobs_of(manifest):
            data = (folder / blob["uri"]).read_bytes() if (folder / blob["uri"]).is_file() else None
            if data is not None:
                blob["digest"], blob["size"] = digest_bytes(data), len(data)
        (folder / MANIFEST).write_bytes(canonical_json(manifest))
        digest = digest_bytes((folder / MANIFEST).read_bytes())
        self.client.set_model_version_tag(EAST, str(self.version()), "bundle", digest)


def statement_of(path: Path) -> dict[str, Any]:
    import base64

    statement = json.loads(base64.b64decode(json.loads(path.read_bytes())["payload"]))
    del statement["predicate"]["signed"]
    return dict(statement)


def blobs_of(value: object) -> Iterator[dict[str, Any]]:
    """Every blob in a manifest."""
    if isinstance(value, dict):
        if {"uri", "digest", "size"} <= value.keys():
            yield value
        for inner in value.values():
            yield from blobs_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from blobs_of(inner)


@pytest.fixture(scope="module")
def released(module_workshop: Workshop) -> Registered:
    """East twice, so that it has an older version, and north beside it."""
    module_workshop.add("east", precision="FP16", forbidden=["INT8", "BF16"])
    module_workshop.add("north")
    release(ADDRESS, regions=["east"])
    module_workshop.write_data("east", seed=1)
    release(ADDRESS)
    return Registered(load_settings().home)


@pytest.fixture
def registered(released: Registered, tmp_path: Path, keyring: Keyring) -> Iterator[Registered]:
    """The same, put back afterwards."""
    saved = {name: tmp_path / name for name in ("mlartifacts", "mlflow.db")}
    shutil.copytree(released.home / "mlartifacts", saved["mlartifacts"])
    shutil.copyfile(released.home / "mlflow.db", saved["mlflow.db"])
    trust = keyring.trust.read_bytes()
    yield released
    keyring.trust.write_bytes(trust)
    shutil.rmtree(released.home / "mlartifacts")
    shutil.copytree(saved["mlartifacts"], released.home / "mlartifacts")
    shutil.copyfile(saved["mlflow.db"], released.home / "mlflow.db")


def load() -> Any:
    mlflow.set_tracking_uri(load_settings().tracking_uri)
    return mlflow.pyfunc.load_model(CHAMPION)


def test_what_nobody_touched_is_served_and_an_audit_finds_nothing(registered: Registered) -> None:
    assert load().predict(IMAGES)["logits"].shape == (2, 4)
    found = registered.audited(everything=True)
    assert found.clean
    assert [(each.name, each.aliases) for each in found.versions] == [
        (EAST, ("previous",)),
        (EAST, ("champion",)),
        (NORTH, ("champion",)),
    ]
    assert all(engine.signed_by for each in found.versions for engine in each.engines)


# ------------------------------------------------------------------------------------------------------ files


def engine_of_another_precision(registered: Registered) -> None:
    """An INT8 engine under the name of an FP16 one."""
    for file in (registered.folder(NORTH) / "engines" / TARGET).iterdir():
        shutil.copyfile(file, registered.folder() / "engines" / TARGET / file.name)


def one_bit_of_an_engine(registered: Registered) -> None:
    path = max((registered.folder() / "engines" / TARGET).iterdir(), key=lambda file: file.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def an_engine_that_is_a_link(registered: Registered) -> None:
    path = next((registered.folder() / "engines" / TARGET).iterdir())
    path.rename(registered.home / "elsewhere")
    path.symlink_to(registered.home / "elsewhere")


def a_file_more(registered: Registered) -> None:
    (registered.folder() / "engines" / TARGET / "plugin.txt").write_text("hello")


def results_in_another_order(registered: Registered) -> None:
    path = registered.folder() / "results" / f"{TARGET}.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")


def a_policy_edited_after_approval(registered: Registered) -> None:
    path = registered.folder() / POLICY
    path.write_bytes(path.read_bytes().replace(b'"limit":5.0', b'"limit":50.0'))


FILES = [
    engine_of_another_precision,
    one_bit_of_an_engine,
    an_engine_that_is_a_link,
    a_file_more,
    results_in_another_order,
    a_policy_edited_after_approval,
]

# ----------------------------------------------------------------- every digest made right again, also in the registry


def renamed_int8(manifest: dict[str, Any], folder: Path) -> None:
    """North's whole INT8 engine as east's FP16 one, its own attestation and results with it."""
    north = json.loads((folder.parents[2].parent / "north" / MANIFEST).read_bytes())
    own, other = manifest["engines"][0], north["engines"][0]
    for file in other["engine"]["files"]:
        shutil.copyfile(folder.parents[2].parent / "north" / file["blob"]["uri"], folder / file["blob"]["uri"])
    own["engine"]["files"] = other["engine"]["files"]


def results_of_another_region(manifest: dict[str, Any], folder: Path) -> None:
    north = folder.parents[2].parent / "north"
    shutil.copyfile(north / "results" / f"{TARGET}.csv", folder / "results" / f"{TARGET}.csv")


def a_limit_raised_in_the_decision(manifest: dict[str, Any], folder: Path) -> None:
    manifest["engines"][0]["decision"]["threshold"] = 50.0


def a_loss_made_smaller(manifest: dict[str, Any], folder: Path) -> None:
    manifest["engines"][0]["decision"]["loss_upper"] = 0.0


def an_attestation_made_better(manifest: dict[str, Any], folder: Path) -> None:
    manifest["engines"][0]["attestation"]["executed"] = {"FP16": 9}


def a_result_turned_into_nan(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / "results" / f"{TARGET}.csv"
    path.write_text(path.read_text().replace(",1,1\n", ",1,nan\n", 1))


def a_results_order_changed(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / "results" / f"{TARGET}.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *reversed(rows)]) + "\n")


def another_precision_in_name(manifest: dict[str, Any], folder: Path) -> None:
    manifest["engines"][0]["engine"]["request"]["precision"] = "FP32"


def a_preprocessing_changed(manifest: dict[str, Any], folder: Path) -> None:
    manifest["preprocessing"]["scale"] *= 2


def a_decision_of_another_region(manifest: dict[str, Any], folder: Path) -> None:
    shutil.copyfile(folder.parents[2].parent / "north" / decision_path(TARGET), folder / decision_path(TARGET))


def a_calibration_of_another_region(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / calibration_path(TARGET)
    shutil.copyfile(folder.parents[2].parent / "north" / calibration_path(TARGET), path)
    manifest["engines"][0]["engine"]["calibration"] = digest_bytes(path.read_bytes())


def a_policy_with_its_digest(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / POLICY
    path.write_bytes(path.read_bytes().replace(b'"limit":5.0', b'"limit":50.0'))
    manifest["policy"] = manifest["engines"][0]["engine"]["request"]["policy"] = digest_bytes(path.read_bytes())


def no_signature(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / decision_path(TARGET)
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"signatures": []}))


def a_statement_changed_under_its_signature(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / decision_path(TARGET)
    payload = statement_of(path)
    payload["predicate"]["decision"]["threshold"] = 50.0
    forged = json.loads(Signing(new_key()).sign(payload))
    told = json.loads(path.read_bytes())
    told["payload"] = forged["payload"]
    path.write_text(json.dumps(told))


def format_one(manifest: dict[str, Any], folder: Path) -> None:
    """As if the bundle were from the time before there were signatures."""
    manifest["format"] = 1
    for file in manifest.pop("attached"):
        (folder / file["path"]).unlink()


REWRITTEN: list[tuple[Callable[[dict[str, Any], Path], None], type[RegiolectError]]] = [
    (renamed_int8, StatementMismatch),
    (results_of_another_region, StatementMismatch),
    (a_limit_raised_in_the_decision, StatementMismatch),
    (a_loss_made_smaller, StatementMismatch),
    (an_attestation_made_better, StatementMismatch),
    (a_result_turned_into_nan, StatementMismatch),
    (a_results_order_changed, StatementMismatch),
    (another_precision_in_name, StatementMismatch),
    (a_preprocessing_changed, StatementMismatch),
    (a_decision_of_another_region, StatementMismatch),
    (a_calibration_of_another_region, StatementMismatch),
    (a_policy_with_its_digest, StatementMismatch),
    (no_signature, UnsignedEngine),
    (a_statement_changed_under_its_signature, SignatureMismatch),
    (format_one, UnsignedEngine),
]


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.__name__)
def test_refused_file(case: Callable[[Registered], None], registered: Registered) -> None:
    case(registered)
    with pytest.raises(IntegrityError):
        load()
    assert kinds(registered) >= {"IntegrityError"}


@pytest.mark.parametrize(("case", "error"), REWRITTEN, ids=lambda case: getattr(case, "__name__", ""))
def test_refused_rewritten(
    case: Callable[[dict[str, Any], Path], None], error: type[RegiolectError], registered: Registered
) -> None:
    """As champion its bundle is not the one that was promoted; without the alias the signature still tells."""
    shutil.copytree(registered.folder(NORTH), registered.folder().parents[2].parent / "north", dirs_exist_ok=True)
    registered.rewritten(case)
    with pytest.raises(AliasMoved):
        load()
    assert kinds(registered) >= {"AliasMoved", error.__name__}
    version = registered.version()
    registered.client.delete_registered_model_alias(EAST, "champion")
    with pytest.raises(error):
        mlflow.pyfunc.load_model(f"models:/{EAST}/{version}")


# ------------------------------------------------------------------------------------------------ registry and keys


def an_alias_moved_by_hand(registered: Registered, keyring: Keyring) -> None:
    registered.client.set_registered_model_alias(EAST, "champion", "1")


def an_alias_moved_with_another_versions_promotion(registered: Registered, keyring: Keyring) -> None:
    version = registered.version()
    promotion = registered.client.get_registered_model(EAST).tags[f"promotion.{version}"]
    registered.client.set_registered_model_tag(EAST, "promotion.1", promotion)
    registered.client.set_registered_model_alias(EAST, "champion", "1")


def an_engine_signed_by_a_stranger(registered: Registered, keyring: Keyring) -> None:
    """All of it consistent, decision and promotion signed by a key that is not trusted here."""
    stranger = Signing(new_key())
    registered.rewritten(a_limit_raised_in_the_decision, stranger)
    version = registered.version()
    told = json.loads(registered.client.get_registered_model(EAST).tags[f"promotion.{version}"])
    path = registered.home / "promotion.json"
    path.write_text(json.dumps(told))
    registered.client.set_registered_model_tag(EAST, f"promotion.{version}", stranger.sign(statement_of(path)).decode())


def a_key_revoked(registered: Registered, keyring: Keyring) -> None:
    keyring.revoke(keyring.signer().public_key.keyid[:12], "a laptop was stolen")


def no_trust_file(registered: Registered, keyring: Keyring) -> None:
    keyring.trust.unlink()


def a_damaged_trust_file(registered: Registered, keyring: Keyring) -> None:
    keyring.trust.write_text("{")


HANDS: list[tuple[Callable[[Registered, Keyring], None], type[RegiolectError]]] = [
    (an_alias_moved_by_hand, AliasMoved),
    (an_alias_moved_with_another_versions_promotion, AliasMoved),
    (an_engine_signed_by_a_stranger, UnknownKey),
    (a_key_revoked, RevokedKey),
    (no_trust_file, NoTrust),
    (a_damaged_trust_file, NoTrust),
]


@pytest.mark.parametrize(("case", "error"), HANDS, ids=lambda case: getattr(case, "__name__", ""))
def test_refused_by_hand(
    case: Callable[[Registered, Keyring], None],
    error: type[RegiolectError],
    registered: Registered,
    keyring: Keyring,
) -> None:
    case(registered, keyring)
    with pytest.raises(error):
        load()
    assert kinds(registered) >= {error.__name__}


def test_the_flow_fails_on_findings_and_lists_them(registered: Registered) -> None:
    from prefect.artifacts import Artifact

    assert audit_flow().clean
    an_alias_moved_by_hand(registered, Keyring.of_environment())
    with pytest.raises(AuditError, match="1 AliasMoved"):
        audit_flow()
    artifact = Artifact.get("audit")
    assert artifact is not None
    assert [row["finding"] for row in json.loads(str(artifact.data))] == ["AliasMoved", "nothing"]


def test_the_command_says_what_is_wrong_in_its_table_its_json_and_its_exit_code(
    registered: Registered, keyring: Keyring, tmp_path: Path
) -> None:
    command = [str(COMMAND), "audit", "--json", str(tmp_path / "audit.json")]
    well = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (well.returncode, well.stderr) == (0, "")
    assert "0 of 3 versions with findings" in well.stdout
    a_key_revoked(registered, keyring)
    wrong = subprocess.run(command, capture_output=True, text=True, check=False)
    assert wrong.returncode == 1
    assert "RevokedKey" in wrong.stdout
    assert "a laptop was stolen" in wrong.stdout
    told = AuditResult.model_validate_json((tmp_path / "audit.json").read_text())
    assert {failure.kind for version in told.versions for _, failure in version.all_findings()} == {"RevokedKey"}


def kinds(registered: Registered) -> set[str]:
    """Kinds of everything that an audit finds; it must find something."""
    found = registered.audited()
    assert not found.clean
    return {failure.kind for failure in found.findings} | {
        failure.kind for version in found.versions for _, failure in version.all_findings()
    }
