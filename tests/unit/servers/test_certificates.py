"""Sets of certificates for the object store's inner servers."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from regiolect.errors import StorageError
from regiolect.servers import certificates
from regiolect.servers.certificates import AUTHORITY, COMPONENTS, keep_certificates

FILES = {AUTHORITY, *(f"{component}.{kind}" for component in COMPONENTS for kind in ("crt", "key"))}


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_set_is_whole_signed_by_its_authority_and_its_keys_are_its_owners_alone(tmp_path: Path) -> None:
    keep_certificates(tmp_path / "tls")
    assert set(content(tmp_path / "tls")) == FILES, "the authority's own key is not kept"
    authority = x509.load_pem_x509_certificate((tmp_path / "tls" / AUTHORITY).read_bytes())
    for component in COMPONENTS:
        found = x509.load_pem_x509_certificate((tmp_path / "tls" / certificates.certificate(component)).read_bytes())
        found.verify_directly_issued_by(authority)
        assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)
        assert found.not_valid_after_utc > datetime.now(UTC) + timedelta(days=366), "a year without `up` is survived"
        assert stat.S_IMODE((tmp_path / "tls" / certificates.key(component)).stat().st_mode) == 0o600


def test_a_good_set_is_left_alone(tmp_path: Path) -> None:
    keep_certificates(tmp_path)
    before = content(tmp_path)
    keep_certificates(tmp_path)
    assert content(tmp_path) == before


@pytest.mark.parametrize("missing", ["ca.crt", "filer.key"])
def test_a_set_that_lost_a_file_is_replaced_whole(tmp_path: Path, missing: str) -> None:
    keep_certificates(tmp_path)
    before = content(tmp_path)
    (tmp_path / missing).unlink()
    keep_certificates(tmp_path)
    after = content(tmp_path)
    assert set(after) == FILES
    assert not [name for name in FILES if before[name] == after[name]]


def test_a_set_is_replaced_before_it_expires(tmp_path: Path) -> None:
    keep_certificates(tmp_path)
    before = content(tmp_path)
    soon = datetime.now(UTC) + timedelta(days=700)
    keep_certificates(tmp_path, soon)
    after = content(tmp_path)
    assert not [name for name in FILES if before[name] == after[name]]
    assert x509.load_pem_x509_certificate(after[AUTHORITY]).not_valid_after_utc > soon + timedelta(days=700)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        keep_certificates(tmp_path / "file" / "tls")
