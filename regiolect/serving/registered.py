"""Load an engine by the name under which the registry knows it."""

from __future__ import annotations

import re
from pathlib import Path

from regiolect.bundle.decisions import require_name
from regiolect.bundle.manifest import MANIFEST, read_bundle
from regiolect.errors import UsageError
from regiolect.integrity import digest_file
from regiolect.serving.bundles import ServedModel, load_bundle
from regiolect.serving.preflight import region_here, require_region
from regiolect.settings import settings_for

_ADDRESS = re.compile(r"(?:models:/)?([a-z0-9-]+)(?:@([A-Za-z0-9_-]+)|/([1-9][0-9]{0,9}))?")


def load(
    name: str,
    *,
    home: Path | str | None = None,
    mlflow_tracking_uri: str | None = None,
    trust: Path | str | None = None,
    region: str | None = None,
) -> ServedModel:
    """Load the engine of a registered version that is right for this machine, verified as consumers verify it.

        engine = regiolect.load("fashion-eu@champion")
        answers = engine.predict(images)["logits"]

    It is the engine that `mlflow.pyfunc.load_model` gives under the same name, and nothing is verified less: the
    signatures, every digest, host and region, the name, and that a release made the version champion, where it is.
    MLflow's own settings in this process are neither asked nor changed.

    Args:
        name: `MODEL-REGION@ALIAS` or `MODEL-REGION/VERSION`, with `models:/` before it or without; its champion where
            neither is named. A bundle's folder is loaded by `regiolect.serving.load_bundle`.
        home: folder in which embedded releases have their registry; REGIOLECT_HOME when None.
        mlflow_tracking_uri: the registry; REGIOLECT_MLFLOW_TRACKING_URI or MLFLOW_TRACKING_URI when None, or else the
            one in `home`.
        trust: file of the public keys whose signatures count; REGIOLECT_TRUST when None.
        region: the region that this machine is in, other regions' engines being refused; REGIOLECT_REGION when None.

    Returns:
        The engine behind `predict`: raw inputs in, outputs by name.

    Raises:
        UsageError: `name` cannot be read, or the registry has no such model, alias or version.
        RegistryError: the registry cannot be reached or read.
        VersionMissing: the alias points at a version that was deleted.
        AliasMoved: `champion` points where no release pointed it.
        ForeignRegion, IntegrityError, UntrustedEngine, NotRunnableHere: as `load_bundle`; also NoTrust, where no trust
            file is found.
    """
    from regiolect.registry import CHAMPION, Registry

    asked = _ADDRESS.fullmatch(name)
    if asked is None:
        raise UsageError(
            expected="MODEL-REGION@ALIAS or MODEL-REGION/VERSION, with models:/ before it or without",
            found=repr(name),
            remedy="regiolect.load('fashion-eu@champion'); a bundle's folder: regiolect.serving.load_bundle(folder)",
        )
    with settings_for(home=home, mlflow_tracking_uri=mlflow_tracking_uri, trust=trust, region=region) as settings:
        registry = Registry.of(settings)
        trusted = registry.keyring.load_trust()
        version = registry.find(asked[1], int(asked[3]) if asked[3] else asked[2] or CHAMPION)
        with registry.opened(version) as stored:
            manifest = read_bundle(stored.bundle)
            require_region(manifest.model, manifest.region, region_here())
            require_name(manifest, version.name, version.version)
            version.require_promoted(digest_file(stored.bundle / MANIFEST), trusted)
            return load_bundle(stored.bundle, trusted)
