"""`fairlead traffic`: live requests from recorded rows."""

import argparse

from fairlead.cli.output import emit, say
from fairlead.cli.stages import new_context

HELP = "replay rows as requests at a fixed rate, and post their labels back as feedback"
EXAMPLES = """
fairlead traffic --data 'live/*.parquet' --rate 100 --seconds 60
fairlead traffic --data 'live/*.parquet' --rate 300 --while-rollout --label-delay 1s
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `fairlead traffic`."""
    parser.add_argument("--data", required=True, help="Parquet files: a path, a folder or a glob")
    parser.add_argument("--rate", type=float, default=50.0, help="requests per second, open loop (default: 50)")
    parser.add_argument("--seconds", type=float, default=None, help="stop after this long (default: when the rows end)")
    parser.add_argument("--requests", type=int, default=None, help="stop after this many requests")
    parser.add_argument("--while-rollout", action="store_true", help="wait for a rollout, send until it has ended")
    parser.add_argument("--label-delay", default=None, help="post true labels this long after the answer, e.g. 30s")
    parser.add_argument("--sticky", default=None, help="column whose value is sent as the sticky key")
    parser.add_argument("--url", default=None, help="address of the server (default: this project's)")
    parser.add_argument("--seed", type=int, default=7, help="order of the rows (default: 7)")


def run(args: argparse.Namespace) -> int:
    """Send, wait for the last answers, and say what the clients saw."""
    from fairlead.errors import UsageError
    from fairlead.spec.quantities import parse_seconds
    from fairlead.wiring.traffic import send_traffic

    if args.rate <= 0:
        raise UsageError("--rate must be above 0", fix="fairlead traffic --help")
    try:
        delay = None if args.label_delay is None else float(parse_seconds(args.label_delay))
    except ValueError as error:
        raise UsageError(f"--label-delay {args.label_delay}: {error}") from error
    result = send_traffic(
        new_context(args),
        data=args.data,
        rate=args.rate,
        seconds=args.seconds,
        requests=args.requests,
        while_rollout=args.while_rollout,
        label_delay=delay,
        sticky=args.sticky,
        url=args.url,
        seed=args.seed,
        say=say,
    )
    latency = result["latency_ms"]
    arms = ", ".join(f"{name} {count:,}" for name, count in result["by_arm"].items())
    emit(
        args,
        result,
        f"{result['sent']:,} requests ({arms}): {result['failed']:,} failed, {result['late']:,} late; "
        f"p50 {latency['p50']:.1f} ms, p99 {latency['p99']:.1f} ms; {result['labels_sent']:,} labels sent",
    )
    return 0
