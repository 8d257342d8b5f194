"""The Prefect server of one command, as a program: `regiolect.servers.temporary` starts it and tells it the rest.

    python -m flows.temporary_server LISTENER PARENT

LISTENER is the descriptor of a bound socket that it was given, PARENT the process that it ends with, whatever ends that
one. Who may use it, and from where, is in its environment; a request that names another host than its own address is
turned down.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

_LOOK_SECONDS = 0.5


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    listener, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    # Imported after the watch began: that takes seconds, in which the parent may end.
    import uvicorn
    from prefect.server.api.server import create_app
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    app = create_app(ephemeral=True, final=True)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[listener.getsockname()[0]])
    config = uvicorn.Config(app, log_level="error", lifespan="on", timeout_graceful_shutdown=2)
    uvicorn.Server(config).run(sockets=[listener])


def _end_with(parent: int) -> None:
    # An orphan is another's child. Nothing is left to be done for a command that is gone: its database takes a kill.
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os._exit(0)


if __name__ == "__main__":
    main()
