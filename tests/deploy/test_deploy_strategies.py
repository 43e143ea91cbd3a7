"""A/B tests and bandits by simulation: error rates under repeated looks, regret, floors, rewards that come late."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.deploy.strategies.ab_test import AbArm, AbPlan, AbResult, Outcome, judge_ab
from fairlead.deploy.strategies.bandit import ArmRewards, EpsilonGreedy, Policy, Thompson, Ucb1, allocate
from fairlead.deploy.strategies.maturing import Maturing
from fairlead.records.evidence import RunningMean, RunningRate

SEED = 20260721
PLAN = AbPlan("orders", max_keys=20_000, max_seconds=86_400, alpha=0.05)
POLICIES: list[Policy] = [EpsilonGreedy(0.1), Thompson(draws=500), Ucb1(0.5)]


@pytest.fixture
def rng() -> np.random.Generator:
    print(f"seed {SEED}")
    return np.random.default_rng(SEED)


# --- A/B test --------------------------------------------------------------------------------------------------------
def rates(n: int, champion: float, candidate: float) -> tuple[AbArm, AbArm]:
    return AbArm(n, RunningRate(n, round(n * champion))), AbArm(n, RunningRate(n, round(n * candidate)))


def play(
    plan: AbPlan, rng: np.random.Generator, champion: float, candidate: float, *, share: float = 0.5, looks: int = 40
) -> AbResult:
    """One test with a look at 40 geometric places, up to the declared end."""
    n = plan.max_keys
    ours = rng.random(n) < share
    events = rng.random(n) < np.where(ours, candidate, champion)
    ours_n, ours_events = np.cumsum(ours), np.cumsum(ours & events)
    all_events = np.cumsum(events)
    result = None
    for at in np.unique(np.geomspace(50, n, looks).astype(int)) - 1:
        k, hits = int(ours_n[at]), int(ours_events[at])
        theirs, their_hits = int(at) + 1 - k, int(all_events[at]) - hits
        arms = AbArm(theirs, RunningRate(theirs, their_hits)), AbArm(k, RunningRate(k, hits))
        result = judge_ab(plan, *arms, elapsed_seconds=1.0)
        if result.outcome is not Outcome.RUNNING:
            return result
    assert result is not None
    return result


def test_without_a_difference_a_winner_is_rare_although_it_is_looked_at_often(rng: np.random.Generator) -> None:
    found = [play(PLAN, rng, 0.1, 0.1).outcome for _ in range(150)]
    winners = sum(outcome in (Outcome.CANDIDATE, Outcome.CHAMPION) for outcome in found)
    assert winners <= 0.05 * len(found)
    assert Outcome.RUNNING not in found


def test_a_real_difference_is_found_before_the_end_and_the_right_arm_wins(rng: np.random.Generator) -> None:
    better = [play(PLAN, rng, 0.10, 0.13).outcome for _ in range(30)]
    worse = [play(PLAN, rng, 0.13, 0.10).outcome for _ in range(30)]
    assert better.count(Outcome.CANDIDATE) >= 27
    assert worse.count(Outcome.CHAMPION) >= 27
    assert Outcome.CHAMPION not in better
    assert Outcome.CANDIDATE not in worse


def test_a_wrong_split_ends_the_test_without_a_winner(rng: np.random.Generator) -> None:
    wrong = [play(PLAN, rng, 0.10, 0.10, share=0.45).outcome for _ in range(20)]
    assert wrong.count(Outcome.INVALID) >= 19
    late = AbPlan("orders", max_keys=20_000, max_seconds=86_400)
    lost = judge_ab(late, AbArm(5000, RunningRate(5000, 500)), AbArm(5000, RunningRate(4000, 800)), 1.0)
    assert lost.outcome is Outcome.INVALID
    assert "with an outcome" in lost.why


def test_a_right_split_is_rarely_alarmed(rng: np.random.Generator) -> None:
    plan = AbPlan("orders", max_keys=5000, max_seconds=1, split_alpha=0.02)
    found = [play(plan, rng, 0.1, 0.1).outcome for _ in range(100)]
    assert found.count(Outcome.INVALID) <= 6


@pytest.mark.parametrize(
    ("plan", "arms", "seconds", "outcome"),
    [
        (PLAN, rates(0, 0, 0), 0.0, Outcome.RUNNING),
        (PLAN, rates(0, 0, 0), 86_400.0, Outcome.NO_WINNER),
        (PLAN, rates(10_000, 0.1, 0.1), 1.0, Outcome.NO_WINNER),
        (PLAN, rates(5_000, 0.1, 0.2), 1.0, Outcome.CANDIDATE),
        (AbPlan("errors", 20_000, 1.0, higher_is_better=False), rates(5_000, 0.1, 0.2), 0.5, Outcome.CHAMPION),
        (AbPlan("orders", 20_000, 1.0, smallest_effect=0.1), rates(5_000, 0.1, 0.1), 0.5, Outcome.SAME),
    ],
)
def test_what_ends_an_ab_test(plan: AbPlan, arms: tuple[AbArm, AbArm], seconds: float, outcome: Outcome) -> None:
    assert judge_ab(plan, *arms, seconds).outcome is outcome


def test_means_are_compared_within_their_range() -> None:
    low, high = RunningMean(high=100.0), RunningMean(high=100.0)
    low.add([10.0, 12.0] * 2000)
    high.add([20.0, 22.0] * 2000)
    plan = AbPlan("basket", max_keys=20_000, max_seconds=1)
    found = judge_ab(plan, AbArm(4000, low), AbArm(4000, high), 0.0)
    assert (found.outcome, found.observed) == (Outcome.CANDIDATE, pytest.approx(10.0))
    assert 0 < found.low < 10 < found.high
    empty = judge_ab(plan, AbArm(0, RunningMean(high=100.0)), AbArm(0, RunningMean(high=100.0)), 0.0)
    assert (empty.outcome, empty.low, empty.high) == (Outcome.RUNNING, -100.0, 100.0)


def test_arms_that_measure_different_things_are_refused() -> None:
    with pytest.raises(ValueError, match="rate on one arm"):
        judge_ab(PLAN, AbArm(1, RunningRate(1, 0)), AbArm(1, RunningMean()), 0.0)
    with pytest.raises(ValueError, match="another range"):
        judge_ab(PLAN, AbArm(1, RunningMean(high=2.0)), AbArm(1, RunningMean()), 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"alpha": 0.0},
        {"alpha": float("nan")},
        {"candidate_share": 1.0},
        {"max_keys": 0},
        {"max_seconds": 0.0},
        {"max_seconds": float("inf")},
        {"smallest_effect": -1.0},
        {"smallest_effect": float("nan")},
        {"expected_rate": 2.0},
        {"split_alpha": 0.0},
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must|needs"):
        AbPlan(**{"metric": "orders", "max_keys": 1, "max_seconds": 1.0, **changes})  # type: ignore[arg-type]


# --- bandits ---------------------------------------------------------------------------------------------------------
def regret(
    policy: Policy,
    rng: np.random.Generator,
    means: Sequence[float],
    *,
    rounds: int,
    keys: int = 50,
    floor: float = 0.02,
) -> tuple[float, float]:
    """(the regret per key over the whole run, the share of the best arm in the last quarter)."""
    keys, truth = 50, np.array(means)
    n, total = np.zeros(len(means), dtype=int), np.zeros(len(means))
    lost, best = 0.0, []
    for _ in range(rounds):
        arms = [ArmRewards(int(k), float(t)) for k, t in zip(n, total, strict=True)]
        shares = allocate(policy, arms, floor, rng)
        counts = rng.multinomial(keys, shares)
        total += rng.binomial(counts, truth)
        n += counts
        lost += float((counts * (truth.max() - truth)).sum())
        best.append(shares[int(truth.argmax())])
    return lost / (rounds * keys), float(np.mean(best[-rounds // 4 :]))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_regret_falls_far_below_an_even_split(policy: Policy, rng: np.random.Generator) -> None:
    means = (0.1, 0.1, 0.2)
    even = max(means) - sum(means) / len(means)
    found = [regret(policy, rng, means, rounds=200) for _ in range(10)]
    assert np.mean([lost for lost, _ in found]) < 0.5 * even
    assert np.mean([share for _, share in found]) > 0.75


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_regret_per_key_goes_on_falling(policy: Policy, rng: np.random.Generator) -> None:
    short = np.mean([regret(policy, rng, (0.1, 0.2), rounds=40, floor=0.0)[0] for _ in range(15)])
    long = np.mean([regret(policy, rng, (0.1, 0.2), rounds=320, floor=0.0)[0] for _ in range(15)])
    assert long < short


@settings(max_examples=200, deadline=None)
@given(
    arms=st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1)), min_size=1, max_size=6),
    policy=st.sampled_from(POLICIES),
    floor=st.floats(0, 1 / 6),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_arm_keeps_its_floor_and_a_seed_repeats(
    arms: list[tuple[int, float]], policy: Policy, floor: float, seed: int
) -> None:
    rewards = [ArmRewards(n, n * mean) for n, mean in arms]
    shares = allocate(policy, rewards, floor, np.random.default_rng(seed))
    assert shares == allocate(policy, rewards, floor, np.random.default_rng(seed))
    assert sum(shares) == pytest.approx(1.0)
    assert min(shares) >= floor - 1e-12


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_an_arm_without_rewards_is_tried(policy: Policy, rng: np.random.Generator) -> None:
    shares = allocate(policy, [ArmRewards(1000, 300.0), ArmRewards(0, 0.0)], 0.0, rng)
    assert shares[1] > 0.3


def test_thompson_gives_each_arm_the_probability_that_it_is_best(rng: np.random.Generator) -> None:
    (first, second) = allocate(Thompson(draws=20_000), [ArmRewards(8, 4.0), ArmRewards(8, 4.0)], 0.0, rng)
    assert first == pytest.approx(0.5, abs=0.02)
    # P(Beta(2, 1) > Beta(1, 2)) = 5 / 6
    (better, _) = allocate(Thompson(draws=20_000), [ArmRewards(1, 1.0), ArmRewards(1, 0.0)], 0.0, rng)
    assert better == pytest.approx(5 / 6, abs=0.02)
    assert first + second == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: ArmRewards(1, 2.0), "cannot sum"),
        (lambda: ArmRewards(-1, 0.0), "cannot sum"),
        (lambda: ArmRewards(1, float("nan")), "cannot sum"),
        (lambda: EpsilonGreedy(1.5), "epsilon"),
        (lambda: Thompson(draws=0), "draws"),
        (lambda: Ucb1(0.0), "width"),
        (lambda: allocate(Ucb1(), [], 0.0, np.random.default_rng(1)), "no arm"),
        (lambda: allocate(Ucb1(), [ArmRewards(0, 0.0)] * 3, 0.4, np.random.default_rng(1)), "floor"),
        (lambda: allocate(Ucb1(), [ArmRewards(0, 0.0)], -0.1, np.random.default_rng(1)), "floor"),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make()


# --- delayed rewards -------------------------------------------------------------------------------------------------
def test_fast_rewards_of_one_arm_are_no_advantage(rng: np.random.Generator) -> None:
    """Arm a rewards 20 % of its keys within a second, arm b 30 % after some 90 s. Counted as they come, a leads."""
    world = Maturing(("a", "b"), horizon_seconds=100.0, bucket_seconds=10.0)
    due: list[tuple[float, str, float]] = []
    as_they_come = {"a": [0, 0], "b": [0, 0]}
    for second in range(110):
        for arm, rate, delay in (("a", 0.2, 1.0), ("b", 0.3, 90.0)):
            for _ in range(20):
                world.expose(arm, float(second))
                as_they_come[arm][0] += 1
                if rng.random() < rate:
                    due.append((second + delay, arm, float(second)))
        for at, arm, exposed_at in [each for each in due if each[0] <= second]:
            world.reward(arm, exposed_at, 1.0, at)
            as_they_come[arm][1] += 1
        due = [each for each in due if each[0] > second]
    early = {arm: hits / n for arm, (n, hits) in as_they_come.items()}
    assert early["a"] > early["b"]
    first, second_arm = world.final(110.0)
    assert first.n == second_arm.n == 200
    assert first.total / first.n < second_arm.total / second_arm.n
    assert (world.late, world.unknown) == (0, 0)


def test_a_reward_after_its_horizon_or_without_an_exposure_is_no_evidence() -> None:
    world = Maturing(("a",), horizon_seconds=60.0, bucket_seconds=10.0)
    world.expose("a", 5.0)
    world.reward("a", 5.0, 1.0, 65.1)
    world.reward("a", 200.0, 1.0, 201.0)
    assert world.final(69.9) == (ArmRewards(0, 0.0),)
    assert world.final(70.0) == (ArmRewards(1, 0.0),)
    world.expose("a", 100.0)
    for _ in range(3):
        world.reward("a", 100.0, 0.5, 101.0)
    assert world.final(1000.0) == (ArmRewards(2, 0.5),)
    assert (world.late, world.unknown) == (1, 3)


def test_a_key_without_a_reward_has_the_declared_one() -> None:
    world = Maturing(("a",), horizon_seconds=1.0, bucket_seconds=1.0, missing=0.25)
    for _ in range(4):
        world.expose("a", 0.0)
    world.reward("a", 0.0, 1.0, 0.5)
    assert world.final(10.0) == (ArmRewards(4, 1.75),)


def test_memory_is_bounded_by_the_horizon() -> None:
    world = Maturing(("a", "b"), horizon_seconds=60.0, bucket_seconds=10.0)
    for second in range(5000):
        world.expose("ab"[second % 2], float(second))
        world.final(float(second))
        assert world.open_buckets <= 2 * (60 // 10 + 2)
    assert sum(arm.n for arm in world.final(10_000.0)) == 5000


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_a_bandit_learns_from_rewards_that_come_late(policy: Policy, rng: np.random.Generator) -> None:
    rates_of = {"a": 0.1, "b": 0.3}
    world = Maturing(tuple(rates_of), horizon_seconds=20.0, bucket_seconds=1.0)
    lost = 0.0
    for second in range(300):
        shares = allocate(policy, world.final(float(second)), 0.05, rng)
        for arm, count in zip(rates_of, rng.multinomial(20, shares), strict=True):
            lost += count * (0.3 - rates_of[arm])
            for _ in range(count):
                world.expose(arm, float(second))
            for _ in range(rng.binomial(count, rates_of[arm])):
                world.reward(arm, float(second), 1.0, second + 15.0)
    assert lost / (300 * 20) < 0.6 * 0.1


def test_unknown_arms_and_impossible_rewards_are_refused() -> None:
    world = Maturing(("a",), horizon_seconds=1.0, bucket_seconds=1.0)
    with pytest.raises(KeyError):
        world.expose("b", 0.0)
    for value in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="reward"):
            world.reward("a", 0.0, value, 0.0)
    for bad in (
        {"horizon_seconds": -1.0},
        {"bucket_seconds": 0.0},
        {"missing": 2.0},
        {"names": ()},
        {"names": ("a", "a")},
    ):
        with pytest.raises(ValueError):
            Maturing(**{"names": ("a",), "horizon_seconds": 1.0, "bucket_seconds": 1.0, **bad})  # type: ignore[arg-type]
