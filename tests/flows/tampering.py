"""What somebody can do to a registered engine who can write to registry and artifacts but has no key.

Each case does one thing to the champion of `east`, whose engine is FP16.
"""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient

from regiolect.audit import audit
from regiolect.bundle.manifest import MANIFEST, POLICY, calibration_path, decision_path
from regiolect.contracts import AuditResult, Split
from regiolect.data import Samples, read_samples
from regiolect.errors import (
    AliasMoved,
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
from tests.flows.tiny_models import SIDE, Workshop

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


def slot_in(folder: Path) -> str:
    """Where the only engine of a bundle lies: an INT8 one's place has its class of arithmetic."""
    (engine,) = (folder / "engines").iterdir()
    return engine.name


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


# ------------------------------------------------------------------------------------------------------ files


def engine_of_another_precision(registered: Registered) -> None:
    """An INT8 engine under the name of an FP16 one."""
    north = registered.folder(NORTH)
    for file in (north / "engines" / slot_in(north)).iterdir():
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
        here = f"engines/{TARGET}/{file['path']}"
        shutil.copyfile(folder.parents[2].parent / "north" / file["blob"]["uri"], folder / here)
        file["blob"]["uri"] = here
    own["engine"]["files"] = other["engine"]["files"]


def results_of_another_region(manifest: dict[str, Any], folder: Path) -> None:
    north = folder.parents[2].parent / "north"
    shutil.copyfile(north / "results" / f"{slot_in(north)}.csv", folder / "results" / f"{TARGET}.csv")


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
    north = folder.parents[2].parent / "north"
    shutil.copyfile(north / decision_path(slot_in(north)), folder / decision_path(TARGET))


def a_calibration_of_another_region(manifest: dict[str, Any], folder: Path) -> None:
    path = folder / calibration_path(TARGET)
    north = folder.parents[2].parent / "north"
    shutil.copyfile(north / calibration_path(slot_in(north)), path)
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


# ----------------------------------------------------------------------------------------- before anything is signed


def a_child_policy_that_loosens(workshop: Workshop) -> str:
    workshop.add("loose", extends="east", precision="FP16", limit=50.0)
    return "loose"


def gate_samples_seen_in_calibration(workshop: Workshop) -> str:
    workshop.add("seen")
    known = read_samples(workshop.data("seen") / f"{Split.CALIBRATION}.npz")
    workshop.change("seen", Split.GATE, lambda samples: joined(known.take(slice(0, 4)), samples))
    return "seen"


def gate_samples_seen_in_selection(workshop: Workshop) -> str:
    workshop.add("chosen")
    known = read_samples(workshop.data("chosen") / f"{Split.SELECTION}.npz")
    workshop.change("chosen", Split.GATE, lambda samples: joined(known.take(slice(0, 4)), samples))
    return "chosen"


def joined(one: Samples, other: Samples) -> Samples:
    """The samples of both; ids of the first are made new, as somebody would who hides where they come from."""
    return Samples(
        ids=np.concatenate([np.char.add("new-", one.ids), other.ids]),
        regions=np.concatenate([one.regions, other.regions]),
        inputs={name: np.concatenate([array, other.inputs[name]]) for name, array in one.inputs.items()},
        targets=np.concatenate([one.targets, other.targets]),
    )


UNSIGNED: list[tuple[Callable[[Workshop], str], str]] = [
    (a_child_policy_that_loosens, "PolicyLoosens"),
    (gate_samples_seen_in_calibration, "DataCheckFailed"),
    (gate_samples_seen_in_selection, "DataCheckFailed"),
]
