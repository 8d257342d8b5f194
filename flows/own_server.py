"""Flows run on the server that this command started, and on no other."""

from __future__ import annotations

from prefect.context import refresh_global_settings_context
from prefect.settings import PREFECT_API_URL

from regiolect.errors import OrchestratorError


def require(address: str) -> None:
    """Have Prefect use a server that the environment names, be it that it was imported before, by a model's module say:
    its settings are of that moment, and it would start a server of its own, open to every page and account.

    Args:
        address: of the server's API.

    Raises:
        OrchestratorError: it would use another one.
    """
    refresh_global_settings_context()
    used = PREFECT_API_URL.value()
    if used != address:
        raise OrchestratorError(
            expected=f"Prefect to use the temporary server of this command, {address}",
            found="another one, or one of its own",
            remedy="let the model's modules leave Prefect's settings alone",
        )
