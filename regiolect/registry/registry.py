"""The registry as the rest of Regiolect uses it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.bundle.decisions import require_name, verify_decisions
from regiolect.bundle.manifest import MANIFEST, BundleManifest, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import RegisteredEngine, RegisteredVersion
from regiolect.errors import IntegrityError, RegistryError, VersionMissing
from regiolect.host.files import RECORD
from regiolect.integrity import digest_bytes, digest_file
from regiolect.registry import aliases
from regiolect.registry.beside import digests_beside, require_obedient
from regiolect.registry.connection import ClientFactory, Connection, mlflow_client
from regiolect.registry.fetching import fetch_bytes, fetch_folder, file_sizes
from regiolect.registry.listed import listed_versions
from regiolect.registry.live import (
    LiveVersion,
    Stored,
    find_version,
    live_versions,
    nothing_called,
    stored_at,
    stored_beside,
)
from regiolect.registry.promotions import promotion_for, tag_of
from regiolect.registry.tags import labels, registered_engine
from regiolect.registry.versions import BUNDLE, Versions, experiment_of, finish
from regiolect.signing.envelope import Signing
from regiolect.signing.keyring import Keyring

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from regiolect.settings import Settings

# Lets one caller in at a time for the registered model of that name.
Exclusively = Callable[[str], AbstractContextManager[None]]


def _everybody(name: str) -> AbstractContextManager[None]:
    return nullcontext()


class Registry:
    """The registry at one MLflow tracking URI. Safe to use from several threads, and from several processes.

    Args:
        tracking_uri: `sqlite:///<file>`, another database's address, or that of an MLflow server.
        artifact_root: folder for the artifacts of a database; beside a SQLite file when None. A server decides for
            itself where artifacts go.
        client_factory: makes the MlflowClient; tests inject faults through it.
        exclusively: held while the aliases of a registered model are read and moved. Needed where several processes
            reach one store and it is no SQLite file, which is locked as a whole. Without it a version is still
            registered exactly once and `champion` is an approved one; which of two simultaneous releases ends as
            champion, and what the other aliases then say, is left to chance.
        keyring: the key that promotions are signed with, and whose promotions count; the environment's when None. A
            version that `champion` points at without such a promotion is no champion.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_root: Path | None = None,
        client_factory: ClientFactory = mlflow_client,
        exclusively: Exclusively = _everybody,
        keyring: Keyring | None = None,
    ) -> None:
        self.tracking_uri = tracking_uri
        self.keyring = keyring or Keyring.of_environment()
        self._connection = Connection(tracking_uri, artifact_root, client_factory)
        self._exclusively = exclusively if self._connection.database is None else _everybody

    @classmethod
    def of(cls, settings: Settings, exclusively: Exclusively = _everybody) -> Registry:
        """The registry that the settings name, with their keys."""
        return cls(settings.tracking_uri, settings.artifact_root, exclusively=exclusively, keyring=settings.keyring())

    def register(
        self, folder: Path, manifest: BundleManifest, champion: bool | Callable[[RegisteredEngine | None], bool]
    ) -> RegisteredEngine:
        """Make a bundle a version of `<model>-<region>`, and its champion if asked.

        The same bundle is registered once, by however many callers: a later call finds the version, mends what an
        interrupted call left undone, and sets the aliases. Whatever call fails, `champion` is the old version or the
        new one. A version that is champion already stays champion.

        Args:
            champion: whether the version is to replace the champion; or a question about that, asked with the champion
                in view, None for none, and nothing between the answer and the move.

        Raises:
            IntegrityError: the bundle is not what `manifest` says.
            SigningError: there is no key to sign the promotion with.
            UntrustedEngine: a decision is not signed by a key that counts here; nothing was written.
            RegistryError: the name is another model's or region's, and nothing was written; or MLflow failed, and
                calling again completes what was begun.
        """
        if read_bundle(folder) != manifest:
            raise IntegrityError(
                expected=f"the bundle of {manifest.name} at {folder}",
                found="a bundle with another manifest",
                remedy="pass the manifest that write_bundle returned for this folder",
            )
        verify_bundle(folder, manifest)
        trust, signing = self.keyring.load_trust(), Signing(self.keyring.signer())
        verify_decisions(folder, read_bundle(folder), trust)
        digest = digest_file(folder / MANIFEST)
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to register {manifest.name} at {at.shown}"), at.one_at_a_time():
            aliases.owned(client, manifest.model, manifest.region)
            experiment = experiment_of(client, manifest.model, at.artifacts)
            version = Versions(client, at.uri, experiment, folder, manifest, digest).only_one()
            with self._exclusively(manifest.name):
                promotion = promotion_for(manifest, digest, version, self._beside(client, manifest, version))
                is_champion = aliases.move(client, promotion, champion, trust, signing)
        return registered_engine(manifest.name, version, is_champion, labels(manifest, digest))

    def by_alias(self, name: str, alias: str) -> RegisteredEngine | None:
        """The version of `<model>-<region>` that an alias points at, or None if there is none. Makes no database."""
        at = self._connection
        if at.is_absent():
            return None
        client = at.open()
        with at.named_errors(f"to read {name} at {at.shown}"):
            return aliases.version_at(client, aliases.model_at(client, name), alias)

    def champion(self, model: str, region: str) -> RegisteredEngine | None:
        """The version that consumers load, or None if there is none yet, or `champion` was moved by hand.

        Raises:
            RegistryError: the name is another model's or region's.
        """
        trust = self.keyring.trust_or_nobody()
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to read {model}-{region} at {at.shown}"):
            return aliases.champion_of(aliases.owned(client, model, region), trust)

    def restore(self, model: str, region: str) -> RegisteredEngine | None:
        """As `champion`, once an alias that was moved by hand is back where the last release pointed it."""
        trust = self.keyring.trust_or_nobody()
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to restore {model}-{region} at {at.shown}"), at.one_at_a_time():
            if aliases.owned(client, model, region) is None:
                return None
            with self._exclusively(f"{model}-{region}"):
                aliases.restore(client, f"{model}-{region}", trust)
            return aliases.champion_of(aliases.owned(client, model, region), trust)

    def promotion(self, model: str, region: str) -> str | None:
        """The signed promotion of the champion of a model in a region, as an envelope; None where there is none.

        Raises:
            RegistryError: it cannot be read.
        """
        at, client, name = self._connection, self._connection.open(), f"{model}-{region}"
        with at.named_errors(f"to read {name} at {at.shown}"):
            registered = aliases.model_at(client, name)
            champion = aliases.champion_of(registered, self.keyring.trust_or_nobody())
            return None if registered is None or champion is None else registered.tags.get(tag_of(champion.version))

    def promoted(self, version: RegisteredEngine) -> RegisteredEngine | None:
        """A version as its promotion tells it, if it was made champion and is still that."""
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to read {version.name} at {at.shown}"):
            champion = aliases.champion_of(aliases.model_at(client, version.name), self.keyring.trust_or_nobody())
        return champion if champion is not None and champion.version == version.version else None

    def promote(self, model: str, region: str, because: str, by: str) -> RegisteredEngine:
        """Make the challenger of a region its champion because a person says so. Signed, with the reason.

        What the gate did not approve is no challenger, so a person decides between versions, never past the gate.

        Args:
            because: the person's reason.
            by: the person's account.

        Raises:
            UsageError: the region has no challenger.
            IntegrityError, UntrustedEngine: it is not what was approved and signed; nothing was moved.
            SigningError: there is no key to sign the promotion with.
            RegistryError: the challenger is another one since, or MLflow failed.
        """
        trust, signing = self.keyring.load_trust(), Signing(self.keyring.signer())
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to promote {model}-{region} at {at.shown}"):
            version = aliases.challenger_of(aliases.owned(client, model, region), client, f"{model}-{region}")
        with self.downloaded(version) as folder:
            manifest = read_bundle(folder)
            require_name(manifest, version.name, version.version)
            verify_bundle(folder, manifest)
            verify_decisions(folder, manifest, trust)
            digest = digest_file(folder / MANIFEST)
        with at.named_errors(f"to promote {version.uri} at {at.shown}"):
            promotion = promotion_for(
                manifest, digest, version.version, self._beside(client, manifest, version.version)
            )
        promotion = promotion.model_copy(update={"because": because, "by": by})
        # A database that is a file is locked before the model's own lock is asked for, as everywhere.
        with ExitStack() as stack:
            stack.enter_context(at.named_errors(f"to promote {version.uri} at {at.shown}"))
            stack.enter_context(at.one_at_a_time())
            stack.enter_context(self._exclusively(version.name))
            now = aliases.challenger_of(aliases.owned(client, model, region), client, version.name)
            if now.version != version.version:
                raise RegistryError(
                    expected=f"{version.uri} as the challenger, as it was a moment ago",
                    found=now.uri,
                    remedy="look at the new one, then promote it if it is right",
                )
            aliases.move(client, promotion, True, trust, signing)
        self.annotate(version, {"held": None, "promoted_by": by, "because": because[:1000]})
        return promotion.engine()

    def champions(self) -> Mapping[str, RegisteredEngine]:
        """Every version that a release made champion and consumers load, by registered name.

        Raises:
            RegistryError: it cannot be read.
        """
        at = self._connection
        if at.is_absent():
            return {}
        client = at.open()
        with at.named_errors(f"to read {at.shown}"):
            return dict(aliases.champions(client, self.keyring.trust_or_nobody()))

    def find(self, name: str, which: str | int) -> LiveVersion:
        """The version of `<model>-<region>` that an alias points at, or of a number, with its promotion as the registry
        tells both in one look. Makes no database.

        Raises:
            UsageError: there is no such registered model, alias or version.
            RegistryError: it cannot be read.
        """
        at = self._connection
        if at.is_absent():
            raise nothing_called(name, which, at.shown, ())
        client = at.open()
        with at.named_errors(f"to read {name} at {at.shown}"):
            return find_version(client, name, which, at.shown)

    def live(
        self,
        names: Collection[str] = (),
        regions: Collection[str] = (),
        *,
        everything: bool = False,
        promised: Collection[str] = (),
    ) -> tuple[LiveVersion, ...]:
        """Every version that an alias points at, by name and number; see `live_versions`.

        Raises:
            RegistryError: it cannot be read; an absent database is not made.
            UsageError: there is no registered model of one of these names.
        """
        at = self._connection
        if at.is_absent():
            raise _absent(f"a registry at {at.shown}")
        client = at.open()
        with at.named_errors(f"to read {at.shown}"):
            return tuple(live_versions(client, names, regions, everything=everything, promised=promised))

    def versions(self, names: Collection[str] = (), regions: Collection[str] = ()) -> tuple[RegisteredVersion, ...]:
        """Every version, by name and number, as people are told of it; see `listed_versions`. Makes no database.

        Raises:
            RegistryError: it cannot be read.
            UsageError: there is no registered model of one of these names.
        """
        at = self._connection
        if at.is_absent():
            return ()
        trust, client = self.keyring.trust_or_nobody(), at.open()
        with at.named_errors(f"to read {at.shown}"):
            return tuple(listed_versions(client, names, regions, trust))

    def _beside(self, client: MlflowClient, manifest: BundleManifest, version: int) -> dict[str, str]:
        """Digests of what lies beside a version's bundle, once it is found to be what MLflow may obey.

        Raises:
            IntegrityError: it is not.
        """
        source = str(client.get_model_version(manifest.name, str(version)).source)
        with stored_beside(source, self._connection.uri) as model:
            require_obedient(model, manifest)
            return digests_beside(model)

    @contextmanager
    def opened(self, version: LiveVersion) -> Iterator[Stored]:
        """A version's files, to read from while the block lasts. Nothing of them is verified yet.

        Raises:
            VersionMissing: there is no such version.
            RegistryError: it cannot be read.
        """
        at = self._connection
        with ExitStack() as stack:
            if version.source is None:
                pointing = ", ".join(version.aliases)
                raise VersionMissing(
                    expected=f"a version {version.version} of {version.name}, at which {pointing} points",
                    found="none: somebody deleted it, or pointed the alias there by hand",
                    remedy="release the region again, which points the alias where it belongs",
                )
            with at.named_errors(f"to read models:/{version.name}/{version.version} at {at.shown}"):
                stored = stack.enter_context(stored_at(version.source, at.uri))
            yield stored

    @contextmanager
    def downloaded(self, version: RegisteredEngine) -> Iterator[Path]:
        """A version's bundle in a folder to read from while the block lasts. Its files are not verified yet.

        Raises:
            IntegrityError: its manifest is not the one that was registered.
            RegistryError: it cannot be read; an absent database is not made.
        """
        at = self._connection
        if at.is_absent():
            raise _absent(f"{version.uri} at {at.shown}")
        client = at.open()
        with tempfile.TemporaryDirectory() as scratch:
            with at.named_errors(f"to read {version.uri} at {at.shown}"):
                record = client.get_model_version(version.name, str(version.version))
                source = str(record.source)
                manifest = fetch_bytes(source, at.uri, f"{BUNDLE}/{MANIFEST}", Path(scratch), RECORD)
            self._require_registered(version, digest_bytes(manifest), record.tags)
            sizes = file_sizes(manifest)
            with at.named_errors(f"to read {version.uri} at {at.shown}"):
                folder = fetch_folder(source, at.uri, BUNDLE, Path(scratch), lambda path: sizes.get(path, RECORD))
                digest = digest_file(folder / MANIFEST)
            self._require_registered(version, digest, record.tags)
            yield folder

    def _require_registered(self, version: RegisteredEngine, digest: str, tags: Mapping[str, str]) -> None:
        if digest != tags.get("bundle"):
            raise IntegrityError(
                expected=f"the manifest of {version.uri} with {tags.get('bundle')}",
                found=digest,
                remedy="the artifact was changed after it was registered: release the region again",
            )

    def read(self, version: RegisteredEngine, path: str) -> bytes:
        """One file of a version's bundle, by its path there. Nothing of it is verified.

        Raises:
            RegistryError: it cannot be read, or is larger than records are.
        """
        at, client = self._connection, self._connection.open()
        with (
            at.named_errors(f"to read {path} of {version.uri} at {at.shown}"),
            tempfile.TemporaryDirectory() as scratch,
        ):
            source = str(client.get_model_version(version.name, str(version.version)).source)
            return fetch_bytes(source, at.uri, f"{BUNDLE}/{path}", Path(scratch), RECORD)

    def held(self, version: RegisteredEngine) -> str | None:
        """Why a release held a version back, with its figures; None if none did. For people to read: a tag is not
        signed."""
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to read {version.uri} at {at.shown}"):
            reason: str | None = client.get_model_version(version.name, str(version.version)).tags.get("held")
        return reason

    def annotate(self, version: RegisteredEngine, notes: Mapping[str, str | None]) -> None:
        """Set tags of a version, for people to read; nothing is decided by them. None removes one."""
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to note at {version.uri} at {at.shown}"), at.one_at_a_time():
            there = client.get_model_version(version.name, str(version.version)).tags
            for name, value in notes.items():
                if value is None and name in there:
                    client.delete_model_version_tag(version.name, str(version.version), name)
                elif value is not None and there.get(name) != value:
                    client.set_model_version_tag(version.name, str(version.version), name, value)

    def log_report(self, model: str, report: Path, metrics: Mapping[str, float]) -> str:
        """Keep a run's report, with figures, as an MLflow run in the experiment `regiolect/<model>`.

        Returns:
            The URI of the kept report.
        """
        at, client = self._connection, self._connection.open()
        with at.named_errors(f"to log {report} at {at.shown}"), at.one_at_a_time():
            experiment = experiment_of(client, model, at.artifacts)
            run = client.create_run(experiment, run_name="report", tags={"model": model})
            client.log_artifact(run.info.run_id, str(report))
            finish(client, run, metrics)
            return f"{run.info.artifact_uri}/{report.name}"


def _absent(wanted: str) -> RegistryError:
    return RegistryError(wanted, "no such file", "correct MLFLOW_TRACKING_URI, or release the region first")
