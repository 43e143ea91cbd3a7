"""The bearer token that guards the routes which change what is live."""

import hmac
import os
import secrets
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.errors import ServeError

TOKEN_FILE_VARIABLE = "FAIRLEAD_TOKEN_FILE"


def token_file(base: Path) -> Path:
    """Where the token of servers started for the project in `base` is: FAIRLEAD_TOKEN_FILE, or below .fairlead."""
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    return Path(named).expanduser() if named else base / ".fairlead" / "serve.token"


def ensure_token(base: Path) -> Path:
    """The token's file, made with a new token and mode 0600 when there is none. Raises ServeError when it is empty."""
    path = token_file(base)
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32).encode(), mode=0o600)
    read_token(path)
    return path


def read_token(path: Path) -> str:
    """The token in `path`. Raises ServeError when there is none."""
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise ServeError(
            "the server's token cannot be read",
            where=str(path),
            why=error.strerror,
            fix=f"Start the server first, or name its token's file in {TOKEN_FILE_VARIABLE}.",
        ) from error
    if not token:
        raise ServeError("the server's token is empty", where=str(path), fix="Remove the file and start the server.")
    return token


def authorised(header: bytes, token: str) -> bool:
    """True when an Authorization header carries the token; takes the same time wherever they differ."""
    return hmac.compare_digest(header, b"Bearer " + token.encode())
