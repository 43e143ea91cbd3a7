"""Taking a TCP port, or saying why it cannot be had."""

import socket

from fairlead.errors import PortInUse


def bind(host: str, port: int, fix: str = "Choose another serve.port, or stop what listens there.") -> socket.socket:
    """A listening socket's socket, bound; `port` 0: any free one. Raises PortInUse, with `fix` for what to do."""
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise PortInUse(
            f"cannot listen on {host}:{port}", where=f"{host}:{port}", why=error.strerror, fix=fix
        ) from error
    return listener
