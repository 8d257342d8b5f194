"""A vendor's library as pip knows it: whether it is installed, in which version, and what installs it."""

from __future__ import annotations

import importlib
import importlib.metadata
from contextlib import suppress
from typing import ClassVar, final

from regiolect.engines.engine import excerpt
from regiolect.engines.listed import OWN
from regiolect.engines.obstacle import Obstacle
from regiolect.errors import BackendUnavailable


class Library:
    """The library of a backend. Nothing here imports it but `require`.

    Attributes:
        name: the backend's, as policies write it.
        distribution: the installed distribution that carries the library.
        carried_by: distributions of the same module that build and run engines as well, and exclude `distribution`.
        builds_with: distributions of the same module that build engines as well, and may not run them.
        module: the library's import name.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    carried_by: ClassVar[tuple[str, ...]] = ()
    builds_with: ClassVar[tuple[str, ...]] = ()
    module: ClassVar[str]

    @final
    def version(self) -> str:
        """Version of the vendor's library; cheap, imports nothing.

        Raises:
            BackendUnavailable: it is not installed.
        """
        distribution = _installed(self.distribution, *self.carried_by, *self.builds_with)
        if distribution is None:
            raise self._unavailable("it is not installed")
        return importlib.metadata.version(distribution)

    @final
    def carrier(self) -> str:
        """The distribution that runs engines here: the one of them that is installed, else `distribution`."""
        return _installed(self.distribution, *self.carried_by) or self.distribution

    def installation(self) -> str:
        """The command that installs the vendor's library here; the version of `carrier` may follow it."""
        return f"pip install 'regiolect[{self.name}]'" if self.name in OWN else f"pip install {self.distribution}"

    @final
    def require(self) -> None:
        """Import the vendor's library.

        Raises:
            BackendUnavailable: it is not installed, or does not load.
        """
        self.version()
        try:
            importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise self._unavailable(f"it does not load: {excerpt(error)}") from error

    def _unavailable(self, found: str) -> BackendUnavailable:
        return BackendUnavailable(
            expected=f"the library of backend {self.name!r}, distribution {self.distribution!r}",
            found=found,
            remedy=self._no_software(found).remedy,
        )

    def _no_software(self, found: str) -> Obstacle:
        """What `pip` mends."""
        return Obstacle("software", found, self.installation())


def _installed(*distributions: str) -> str | None:
    """The first of them that is installed."""
    for name in distributions:
        with suppress(importlib.metadata.PackageNotFoundError):
            importlib.metadata.version(name)
            return name
    return None
