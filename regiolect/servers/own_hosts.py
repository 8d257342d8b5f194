"""An ASGI application behind a look at the Host header, for a server that has no such setting of its own.

    SERVED_APPLICATION=package.module:factory SERVED_HOSTS=127.0.0.1,localhost \\
        uvicorn --factory regiolect.servers.own_hosts:application

A page from elsewhere whose name was made to point here (DNS rebinding) is refused, whatever else it sends. This file
stands alone: the image of the Prefect server holds a copy of it and nothing else of ours.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import ASGIApp

APPLICATION, HOSTS = "SERVED_APPLICATION", "SERVED_HOSTS"


def application() -> ASGIApp:
    """What the factory SERVED_APPLICATION makes; requests to hosts that are not in SERVED_HOSTS answer 400."""
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    module, _, factory = os.environ[APPLICATION].partition(":")
    hosts = os.environ[HOSTS].split(",")
    return TrustedHostMiddleware(getattr(import_module(module), factory)(), allowed_hosts=hosts, www_redirect=False)
