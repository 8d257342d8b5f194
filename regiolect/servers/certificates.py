"""Certificates with which the object store's inner servers know each other (mutual TLS), and nobody else.

Whoever makes them keeps no key to sign more: the authority's own is forgotten as soon as it has signed. They replace
each other as a set.

    python -m regiolect.servers.certificates FOLDER     makes a set there, or replaces one that is about to expire
"""

from __future__ import annotations

import ipaddress
import shutil
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import StorageError
from regiolect.servers.files import cannot_write, make_folder, write_private

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

AUTHORITY = "ca.crt"
# The servers, and `client` for what only asks them.
COMPONENTS = ("master", "volume", "filer", "s3", "client")
_VALID = timedelta(days=2 * 365)
# One that ends sooner is replaced at the next opportunity.
_SPARE = timedelta(days=60)


def certificate(component: str) -> str:
    """Name of a component's certificate in the folder of a set."""
    return f"{component}.crt"


def key(component: str) -> str:
    """Name of a component's private key in the folder of a set."""
    return f"{component}.key"


def keep_certificates(folder: Path, now: datetime | None = None) -> None:
    """Make sure that `folder` holds a whole set that is valid for a while yet; private keys have mode 0600.

    Args:
        now: with time zone; this moment when left out.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    now = now or datetime.now(UTC)
    if _is_good(folder, now):
        return
    try:
        make_folder(folder)
        # Made whole elsewhere: one that was interrupted leaves no mixture of two authorities that looks complete.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".new.") as name:
            new = Path(name)
            _make(new, now)
            (folder / AUTHORITY).unlink(missing_ok=True)
            for file in sorted(new.iterdir(), key=lambda file: file.name == AUTHORITY):
                shutil.move(file, folder / file.name)
    except OSError as error:
        raise cannot_write(folder, error) from error


def _is_good(folder: Path, now: datetime) -> bool:
    from cryptography import x509

    names = [make(component) for component in COMPONENTS for make in (certificate, key)]
    if not all((folder / name).is_file() for name in names):
        return False
    try:
        authority = x509.load_pem_x509_certificate((folder / AUTHORITY).read_bytes())
    except (OSError, ValueError):
        return False
    return authority.not_valid_before_utc <= now <= authority.not_valid_after_utc - _SPARE


def _make(folder: Path, now: datetime) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID

    signing = ec.generate_private_key(ec.SECP256R1())
    whole = x509.BasicConstraints(ca=True, path_length=0)
    authority = "regiolect's object store"
    made = _builder(authority, authority, signing.public_key(), now).add_extension(whole, critical=True)
    _write(folder / AUTHORITY, made, signing)
    for component in COMPONENTS:
        own = ec.generate_private_key(ec.SECP256R1())
        # Every server is also a client of the others.
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        names = x509.SubjectAlternativeName(
            [x509.DNSName("localhost"), x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))]
        )
        made = _builder(component, authority, own.public_key(), now)
        made = made.add_extension(uses, critical=False).add_extension(names, critical=False)
        _write(folder / certificate(component), made, signing)
        write_private(folder / key(component), _pem(own))


def _builder(subject: str, issuer: str, public: ec.EllipticCurvePublicKey, now: datetime) -> x509.CertificateBuilder:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    def name(common: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])

    return (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        # A clock may be set back a little.
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + _VALID)
    )


def _write(path: Path, made: x509.CertificateBuilder, signing: ec.EllipticCurvePrivateKey) -> None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding

    write_private(path, made.sign(signing, hashes.SHA256()).public_bytes(Encoding.PEM).decode())


def _pem(private: ec.EllipticCurvePrivateKey) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


if __name__ == "__main__":
    try:
        keep_certificates(Path(sys.argv[1]))
    except StorageError as failed:
        sys.exit(str(failed))
