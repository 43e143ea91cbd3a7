"""`fairlead rollout verdicts`, and the same service beside `fairlead rollout start --metrics-port`."""

import argparse
import contextlib
from typing import Any

from fairlead.cli.output import say
from fairlead.cli.stages import new_context

DEFAULT_PORT = 8600


def verdicts_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the service listens."""
    parser.add_argument("--port", type=port_number, default=DEFAULT_PORT, help=f"where to listen ({DEFAULT_PORT})")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1; in a pod 0.0.0.0)")
    parser.add_argument("--no-token", action="store_true", help="answer without a bearer token")


def metrics_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `rollout start`."""
    parser.add_argument(
        "--metrics-port", type=port_number, default=None, help="also answer /metrics and verdicts on this port"
    )
    parser.add_argument("--metrics-host", default="127.0.0.1", help="address for --metrics-port (127.0.0.1)")


def port_number(text: str) -> int:
    """A TCP port; 0 for a free one."""
    if not text.isdecimal() or not text.isascii() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: expected 0 to 65535")
    return int(text)


def run_verdicts(args: argparse.Namespace) -> int:
    """Serve verdicts until a signal."""
    from fairlead.serve.token import read_token
    from fairlead.wiring.verdict_service import ensure_verdicts_token, listen, run_verdict_service, verdict_app

    context = new_context(args)
    listener = listen(args.host, args.port)
    token = "" if args.no_token else read_token(ensure_verdicts_token(context.base))
    port = listener.getsockname()[1]
    guard = "no token" if args.no_token else f"token in {ensure_verdicts_token(context.base)}"
    say(f"verdicts on rollouts of {context.project.project}: http://{args.host}:{port}/v1/verdict?version=N ({guard})")
    run_verdict_service(verdict_app(context, token), listener)
    return 0


@contextlib.contextmanager
def beside_rollout(args: argparse.Namespace, context: Any) -> Any:
    """The service while a rollout is hosted, when it was asked for."""
    if args.metrics_port is None:
        yield
        return
    from importlib.util import find_spec

    from fairlead.serve.token import read_token
    from fairlead.wiring.verdict_service import ensure_verdicts_token, listen, verdict_app, verdicts_beside

    if find_spec("uvicorn") is None:
        say("no metrics: uvicorn is not installed here; the rollout does not need it")
        yield
        return
    listener = listen(args.metrics_host, args.metrics_port)
    token = read_token(ensure_verdicts_token(context.base))
    with verdicts_beside(verdict_app(context, token), listener) as url:
        say(f"metrics at {url}/metrics")
        yield
