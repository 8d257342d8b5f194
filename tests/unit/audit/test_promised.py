"""A registry cannot tell what was taken out of it: the regions' stores have signed records of what must be there."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from regiolect.audit import audit
from regiolect.errors import RegistryError, StoreUnreachable
from regiolect.registry import Registry
from regiolect.registry.promotions import tag_of
from regiolect.signing.envelope import KeptSignature
from regiolect.signing.promotion import PROMOTIONS
from regiolect.storage import LocalStore
from tests.unit.audit.desk import MADE, Desk
from tests.unit.audit.desk import stated as stated_policy
from tests.unit.audit.test_audit import kinds, stored

pytestmark = pytest.mark.slow


def client_of(desk: Desk) -> MlflowClient:
    return MlflowClient(desk.registry.tracking_uri, desk.registry.tracking_uri)


def by_store(desk: Desk, **options: Any) -> Any:
    return desk.audited(stores=lambda region: desk.bundles.store if region == desk.region else None, **options)


def of_all(result: Any) -> list[str]:
    return [failure.kind for failure in result.findings]


@pytest.fixture
def own(desk: Desk, tmp_path: Path) -> Desk:
    """The desk with a store of its own: the module's is shared."""
    return dataclasses.replace(desk, bundles=dataclasses.replace(desk.bundles, store=LocalStore(tmp_path / "store")))


def test_what_is_there_as_promised_is_well(own: Desk) -> None:
    own.release(own.approved())
    own.release(own.approved())
    assert by_store(own).clean


def test_a_model_that_was_removed_from_the_registry_is_reported(own: Desk) -> None:
    own.release(own.approved())
    client_of(own).delete_registered_model(own.name)
    result = by_store(own)
    assert of_all(result) == ["VersionMissing"]
    assert f"models:/{own.name}@champion" in result.findings[0].expected


def test_a_champion_without_an_alias_is_reported(own: Desk) -> None:
    own.release(own.approved())
    client_of(own).delete_registered_model_alias(own.name, "champion")
    assert of_all(by_store(own)) == ["VersionMissing"]


def test_a_registry_put_back_to_an_older_champion_is_reported(own: Desk) -> None:
    """All of it is signed; only the store knows that there was a newer one."""
    own.release(own.approved())
    old = client_of(own).get_registered_model(own.name).tags[tag_of(1)]
    own.release(own.approved())
    client_of(own).set_registered_model_tag(own.name, tag_of(1), old)
    client_of(own).delete_registered_model_tag(own.name, tag_of(2))
    client_of(own).set_registered_model_alias(own.name, "champion", "1")
    assert desk_is_clean(own)
    assert of_all(by_store(own)) == ["AliasMoved"]


def desk_is_clean(desk: Desk) -> bool:
    return bool(desk.audited().clean)


def test_an_alias_at_a_version_that_does_not_exist_is_reported(own: Desk) -> None:
    own.release(own.approved())
    database = own.registry.tracking_uri.removeprefix("sqlite:///")
    with sqlite3.connect(database) as connection:
        connection.execute(
            "update registered_model_aliases set version = 77 where name = ? and alias = 'champion'", (own.name,)
        )
    connection.close()
    result = own.audited()
    assert kinds(result) == ["VersionMissing"]
    assert (result.versions[0].version, result.versions[0].aliases) == (77, ("champion",))


def test_an_emptied_registry_is_no_good_one(own: Desk, tmp_path: Path) -> None:
    own.release(own.approved())
    empty = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", keyring=own.registry.keyring)
    (tmp_path / "mlflow.db").touch()
    for stores in (None, lambda region: own.bundles.store):
        with pytest.raises(RegistryError):
            audit(empty, own.book(), stores=stores, now=MADE)
    assert (tmp_path / "mlflow.db").stat().st_size == 0


def test_a_registry_with_tables_and_nothing_in_them_is_reported_by_what_the_store_knows(
    own: Desk, tmp_path: Path
) -> None:
    own.release(own.approved())
    shutil.copy(own.registry.tracking_uri.removeprefix("sqlite:///"), tmp_path / "mlflow.db")
    empty = Registry(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path / "artifacts", keyring=own.registry.keyring)
    client = MlflowClient(empty.tracking_uri, empty.tracking_uri)
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    result = audit(empty, own.book(), stores=lambda region: own.bundles.store, now=MADE)
    assert of_all(result) == ["VersionMissing"] and not result.clean
    with pytest.raises(RegistryError, match="no record of any"):
        audit(empty, own.book(), now=MADE)


def test_a_record_that_nobody_signed_who_counts_promises_nothing_and_is_told(own: Desk) -> None:
    own.release(own.approved())
    (kept,) = own.bundles.store.records(PROMOTIONS, KeptSignature)
    envelope = json.loads(kept.envelope)
    envelope["signatures"][0]["sig"] = "00" * 64
    own.bundles.store.put_record(PROMOTIONS, "forged-name", KeptSignature(envelope=json.dumps(envelope)))
    assert of_all(by_store(own)) == ["SignatureMismatch"]


def test_a_record_that_cannot_be_read_is_no_missing_one(own: Desk) -> None:
    own.release(own.approved())
    (record,) = (own.bundles.store.root / "records" / PROMOTIONS).iterdir()
    record.chmod(0o600)
    record.write_text("{")
    result = by_store(own)
    assert of_all(result) == ["IntegrityError"]
    assert own.name in result.findings[0].expected


@pytest.mark.timeout(60)
def test_a_pipe_among_the_records_hides_no_other_finding(own: Desk) -> None:
    own.release(own.approved())
    os.mkfifo(own.bundles.store.root / "records" / PROMOTIONS / "a-first-one.json")
    client_of(own).delete_registered_model(own.name)
    result = by_store(own)
    assert of_all(result) == ["StorageError", "VersionMissing"]
    assert "a-first-one" in result.findings[0].expected


def test_another_models_record_in_a_models_place_promises_nothing_and_is_told(own: Desk) -> None:
    own.release(own.approved())
    (kept,) = own.bundles.store.records(PROMOTIONS, KeptSignature)
    own.bundles.store.put_record(PROMOTIONS, "another-model", kept)
    result = by_store(own)
    assert of_all(result) == ["IntegrityError"]
    assert "the promotion of another-model" in result.findings[0].expected
    assert f"one of {own.name}" in result.findings[0].found


def test_a_champion_whose_record_was_deleted_is_reported(own: Desk) -> None:
    own.release(own.approved())
    (record,) = (own.bundles.store.root / "records" / PROMOTIONS).iterdir()
    record.unlink()
    result = by_store(own)
    assert of_all(result) == ["IntegrityError"]
    assert f"a record of models:/{own.name}@champion" in result.findings[0].expected
    own.release(own.approved())
    assert by_store(own).clean, "the next release keeps it anew"


def test_a_record_is_looked_for_in_the_models_own_region_whatever_other_regions_are_called(
    own: Desk, tmp_path: Path
) -> None:
    """`tiny-north` in `eu` and `tiny` in `north-eu` have one name between them."""
    named = dataclasses.replace(own, bundles=dataclasses.replace(own.bundles, model="tiny-north"))
    named.release(named.approved())
    book, other = named.book(), LocalStore(tmp_path / "other")
    (named.folder / f"north-{named.region}.yaml").write_text(json.dumps(stated_policy(f"north-{named.region}")))
    result = named.audited(book, stores=lambda region: named.bundles.store if region == named.region else other)
    assert result.clean, result.summary()
    (record,) = (named.bundles.store.root / "records" / PROMOTIONS).iterdir()
    record.unlink()
    result = named.audited(book, stores=lambda region: named.bundles.store if region == named.region else other)
    assert of_all(result) == ["IntegrityError"]


def test_no_record_is_missed_where_the_region_has_no_store_or_the_release_kept_none(
    own: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    own.release(own.approved())
    assert own.audited(stores=lambda region: None).clean
    (record,) = (own.bundles.store.root / "records" / PROMOTIONS).iterdir()
    record.unlink()
    monkeypatch.setattr(Registry, "_beside", lambda *_: {})
    own.release(own.approved())
    (own.bundles.store.root / "records" / PROMOTIONS / record.name).unlink()
    assert by_store(own).clean, "an older version keeps no records"


def test_a_store_that_cannot_be_asked_is_told(own: Desk) -> None:
    own.release(own.approved())

    def away(region: str) -> None:
        raise StoreUnreachable("the store of a region", "nothing answers", "start it")

    assert of_all(own.audited(stores=away)) == ["StoreUnreachable"]


def test_half_a_character_in_a_promotion_is_a_named_finding_and_hides_nothing(own: Desk, desk: Desk) -> None:
    own.release(own.approved())
    promotion = client_of(own).get_registered_model(own.name).tags[tag_of(1)]
    broken = promotion.replace("application/vnd.in-toto+json", "\\ud800")
    client_of(own).set_registered_model_tag(own.name, tag_of(1), broken)
    result = own.audited()
    assert kinds(result) == ["SignatureMismatch"]
    assert result.model_dump_json()
    assert own.registry.champion(own.bundles.model, own.region) is None


def test_what_nobody_thought_of_is_a_finding_of_that_version_alone(own: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    own.release(own.approved())
    first = stored(own)
    own.release(own.approved())
    client_of(own).set_registered_model_alias(own.name, "previous", "1")
    monkeypatch.setattr("regiolect.audit.run.read_bundle", _failing_for(first))
    result = own.audited()
    assert [(version.version, [f.kind for _, f in version.all_findings()]) for version in result.versions] == [
        (1, ["ZeroDivisionError"]),
        (2, []),
    ]


def _failing_for(model: Path) -> Any:
    from regiolect.bundle.manifest import read_bundle

    def read(folder: Path) -> Any:
        if model in folder.parents:
            raise ZeroDivisionError("half \ud800 a character")
        return read_bundle(folder)

    return read
