"""How many keys an A/B test of a rate takes, and how often it names a winner that is none, by simulation.

    python benchmarks/ab_test_keys.py --tests 200

Each test is judged by the real `judge_ab` with a look after each 1 % of its keys, to its declared end. Half of the keys
are on each arm. `expected_rate` is the champion's rate.
"""

import argparse

import numpy as np

from fairlead.deploy.strategies.ab_test import AbArm, AbPlan, Outcome, judge_ab
from fairlead.records.evidence import RunningRate

ROWS = (
    (0.02, 0.0), (0.02, 0.1), (0.02, 0.2), (0.02, 0.5),
    (0.1, 0.0), (0.1, 0.05), (0.1, 0.1), (0.1, 0.2),
    (0.3, 0.0), (0.3, 0.05), (0.3, 0.1), (0.3, 0.2),
)  # fmt: skip
LOOKS = 100


def play(plan: AbPlan, rates: tuple[float, float], rng: np.random.Generator) -> tuple[Outcome, int]:
    """How one test ends, and after how many keys."""
    per_look = plan.max_keys // LOOKS
    keys, events = [0, 0], [0, 0]
    for _ in range(LOOKS):
        ours = int(rng.binomial(per_look, plan.candidate_share))
        for arm, new in enumerate((per_look - ours, ours)):
            keys[arm] += new
            events[arm] += int(rng.binomial(new, rates[arm]))
        arms = [AbArm(n, RunningRate(n, k)) for n, k in zip(keys, events, strict=True)]
        outcome = judge_ab(plan, arms[0], arms[1], 0.0).outcome
        if outcome is not Outcome.RUNNING:
            return outcome, sum(keys)
    raise AssertionError("a test goes on after its declared end")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tests", type=int, default=200, help="simulated tests per row (default: 200)")
    parser.add_argument("--max-keys", type=int, default=200_000, help="the declared end (default: 200,000)")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation (default: 1)")
    args = parser.parse_args()
    print(f"| champion's rate | candidate's | names it within {args.max_keys:,} keys | names the other | median keys |")
    print("|---|---|---|---|---|")
    for rate, lift in ROWS:
        rng = np.random.default_rng(args.seed)
        plan = AbPlan("metric", args.max_keys, 1.0, expected_rate=rate)
        found = [play(plan, (rate, rate * (1 + lift)), rng) for _ in range(args.tests)]
        right = [keys for outcome, keys in found if outcome is Outcome.CANDIDATE]
        wrong = sum(outcome is Outcome.CHAMPION for outcome, _ in found)
        median = f"{int(np.median(right)):,}" if lift and len(right) > args.tests / 2 else ""
        shares = f"{100 * len(right) / args.tests:.3g} % | {100 * wrong / args.tests:.3g} %"
        print(f"| {100 * rate:g} % | {100 * rate * (1 + lift):.3g} % | {shares} | {median} |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
