"""Logging: one line per event on stderr; results never travel here (they go to stdout)."""

import logging
import sys


def get_logger(name: str) -> logging.Logger:
    """The logger of a module: ``get_logger(__name__)``."""
    return logging.getLogger(name)


def configure_logging(*, verbose: bool = False) -> None:
    """Send Fairlead's records to stderr, INFO and above (`verbose`: DEBUG), and quiet the libraries below."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger("fairlead")
    root.handlers = [handler]
    root.propagate = False
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
