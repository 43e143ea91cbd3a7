"""Running the verdict service: a process of its own, or beside the loop of a rollout."""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.clock import SystemClock
from fairlead.deploy.verdict_service.app import Rollouts, VerdictApp
from fairlead.serve.listening import bind
from fairlead.serve.token import read_token
from fairlead.wiring.context import Context

TOKEN_FILE_VARIABLE = "FAIRLEAD_VERDICTS_TOKEN_FILE"
_CONCURRENT = 64
_START_SECONDS = 10.0


def ensure_verdicts_token(base: Path) -> Path:
    """The file of the service's token: FAIRLEAD_VERDICTS_TOKEN_FILE, or below .fairlead, made with mode 0600. It is not
    the servers' token, which may change what is live; this one only reads. Raises ServeError."""
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    path = Path(named).expanduser() if named else base / ".fairlead" / "verdicts.token"
    if not named and not path.exists():
        write_atomic(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    read_token(path)
    return path


def verdict_app(context: Context, token: str) -> VerdictApp:
    """The application for the rollouts of the project's model."""
    return VerdictApp(Rollouts(context.store, context.project.project, SystemClock()), token)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortInUse."""
    listener = bind(host, port, fix="Name another port, or 0 for a free one.")
    listener.listen(_CONCURRENT)
    return listener


def run_verdict_service(app: VerdictApp, listener: socket.socket) -> None:
    """Answer on `listener` until SIGINT or SIGTERM."""

    async def main() -> None:
        server = _server(app)
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _leave, server)
        server.capture_signals = contextlib.nullcontext  # uvicorn's own would raise the signal once more
        await server.serve(sockets=[listener])

    try:
        asyncio.run(main())
    finally:
        listener.close()


@contextlib.contextmanager
def verdicts_beside(app: VerdictApp, listener: socket.socket) -> Iterator[str]:
    """The same in a thread while the context lasts; gives its address. A rollout does not depend on it."""
    host, port = listener.getsockname()[:2]
    server = _server(app)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), name="fairlead-verdicts", daemon=True
    )
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        _leave(server)
        thread.join(_START_SECONDS)
        listener.close()


def _server(app: VerdictApp) -> Any:
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app,
            loop="asyncio",
            http="httptools",
            lifespan="off",
            access_log=False,
            log_level="warning",
            server_header=False,
            date_header=False,
            limit_concurrency=_CONCURRENT,
            timeout_graceful_shutdown=5,
        )
    )


def _leave(server: Any) -> None:
    server.should_exit = True
