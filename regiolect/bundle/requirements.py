"""Which packages a bundle needs where it is served."""

from __future__ import annotations

from regiolect import __version__
from regiolect.bundle.manifest import BundleManifest
from regiolect.engines import catalog


def requirements(manifest: BundleManifest) -> tuple[str, ...]:
    """What a consumer installs with pip to run every engine: us with what each backend needs, and each runtime.

    A runtime has the version that built its engine; of several, the one that built the first in the policy's order. A
    distribution that another one in the list carries is left out, and excluded by it.
    """
    engines = [(catalog.backend(each.engine.request.target.backend), each.engine) for each in manifest.engines]
    listed = {backend.distribution for backend, _ in engines}
    extras: set[str] = set()
    versions: dict[str, str] = {}
    for backend, engine in engines:
        carrier = next((name for name in backend.carried_by if name in listed), None)
        if carrier is None:
            extras.add(backend.name)
        versions.setdefault(carrier or backend.distribution, engine.backend_version)
    runtimes = [f"{distribution}=={version}" for distribution, version in versions.items()]
    return (f"regiolect[{','.join(sorted(extras))}]=={__version__}", *runtimes)
