"""`fairlead rollout rehearse` and `fairlead rollout replay`: a policy is played before it is used, and again after."""

import argparse
from typing import Any

from fairlead.cli.output import emit, say
from fairlead.cli.stages import new_context
from fairlead.cli.verbs import SubVerb

_FLAGS = (
    ("--rate", "per_second", "requests a second"),
    ("--failure-rate", "failure_rate", "share of the champion's calls that fail"),
    ("--slow-rate", "slow_rate", "share of the champion's answers over the latency bound"),
    ("--difference", "difference", "mean score difference of two honest models"),
    ("--noise", "noise", "retraining noise that the bound of score differences is derived from"),
    ("--labelled", "labelled", "share of the answers that get a label"),
    ("--label-seconds", "label_seconds", "how much later labels come, in seconds"),
)


def _rehearse_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rollouts", type=int, default=400, help="simulated rollouts per true effect (default: 400)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    for option, name, what in _FLAGS:
        parser.add_argument(option, dest=name, type=float, default=None, metavar="X", help=what)


def _rehearse(args: argparse.Namespace) -> int:
    from fairlead.deploy.rehearsal.grid import rehearse
    from fairlead.deploy.rehearsal.promises import broken_promises
    from fairlead.deploy.rehearsal.report import table
    from fairlead.errors import UsageError
    from fairlead.reports.terminal import print_block
    from fairlead.wiring.rehearsal import as_value, base_rates, plan_of, write_report

    if args.rollouts < 10:
        raise UsageError(f"--rollouts {args.rollouts} are too few to tell a share from chance", fix="--rollouts 400")
    context = new_context(args)
    plan = plan_of(context)
    base, source = base_rates(context, plan, {name: getattr(args, name) for _, name, _ in _FLAGS})
    say(f"world: {source}; {base.per_second:.3g} requests a second")
    rehearsal = rehearse(plan, base, rollouts=args.rollouts, seed=args.seed)
    broken = broken_promises(rehearsal)

    def text(screen: Any) -> None:
        print_block(table(rehearsal), screen)
        for each in broken:
            screen.print(f"[yellow]warning:[/yellow] {each.what}", soft_wrap=True)
            for fix in each.fixes:
                screen.print(f"  would help: {fix}", soft_wrap=True, markup=False)
        if not broken:
            screen.print("The policy decides in its time, and keeps what it promises on all simulated effects.")

    emit(args, as_value(rehearsal, broken, source), text)
    say(f"report: {write_report(context, rehearsal, broken)}")
    return 0


def _replay_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", nargs="?", default=None, help="the rollout (default: the newest)")


def _replay(args: argparse.Namespace) -> int:
    from fairlead.deploy.rollout.sentences import seconds
    from fairlead.wiring.rehearsal import replay_rollout
    from fairlead.wiring.rollouts import find_rollout

    context = new_context(args)
    found = replay_rollout(context, find_rollout(context, args.id))
    lines = [
        f"recorded: {found.recorded_ended} after {seconds(found.recorded_seconds)} and "
        f"{found.recorded_requests:,} answers of the candidate",
        f"replayed: {found.ended} after {seconds(found.seconds)} and {found.candidate_requests:,} "
        f"answers of the candidate (from {found.rows:,} rows of the request log)",
        "",
    ]
    lines += [f"  {decision.at}  {decision.phase_after.value:<9} {decision.sentence}" for decision in found.decisions]
    if found.ended == "undecided":
        lines.append(f"  the recording ends: {found.status}")
    emit(args, found, "\n".join(lines))
    return 0


SUBVERBS = {
    "rehearse": SubVerb(
        "play the policy on simulated candidates, before it is used",
        _rehearse,
        _rehearse_arguments,
        "fairlead rollout rehearse\nfairlead rollout rehearse --rate 5 --set deploy.rollout.max_hours=2",
    ),
    "replay": SubVerb(
        "play the present policy on what a rollout recorded",
        _replay,
        _replay_arguments,
        "fairlead rollout replay 0002 --set deploy.rollout.error_budget=5%",
    ),
}
