"""Detectors over many days: what they promise, by simulation, and how soon they see a change."""

import numpy as np
import pytest

from fairlead.watch.alarms import ChannelWatch, conformal_p, fewest_days, log_bets, threshold
from fairlead.watch.leaning import novelties

SEED = 5


def test_p_values_are_uniform_and_do_not_lean_on_each_other_even_with_ties() -> None:
    """2,000 channels of small whole numbers, 60 days: means, spread and correlations of uniform numbers."""
    rng = np.random.default_rng(SEED)
    days = rng.poisson(2.0, (60, 2000)).astype(float)
    p = np.array([conformal_p(days[:t], days[t], rng.random(2000)) for t in range(30, 60)])
    assert p.mean() == pytest.approx(0.5, abs=0.005)
    assert p.var() == pytest.approx(1 / 12, abs=0.003)
    lagged = np.corrcoef(p[:-1].ravel(), p[1:].ravel())[0, 1]
    assert abs(lagged) < 0.015


@pytest.mark.parametrize("days", [5, 30, 90, 400])
def test_every_bet_is_fair(days: int) -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    bets = np.exp(log_bets(p, np.full(len(p), days)))
    assert bets.mean(axis=0) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("kind", ["normal", "heavy", "counts", "weekly"])
def test_false_alarms_stay_within_the_budget(kind: str) -> None:
    """300 channels that all follow one common shock, so that they are far from independent; 200 days. The bound is on
    the expected number: T / c for each channel. Three years of them, at three times the standard error."""
    rng = np.random.default_rng(SEED)
    level, channels, days, reference = 60.0, 300, 200, 42
    counts = []
    for _ in range(2):
        shape = (reference + days, channels)
        common = rng.standard_normal((len(range(reference + days)), 1))
        values = {
            "normal": lambda s=shape, c=common: rng.standard_normal(s) + c,
            "heavy": lambda s=shape: rng.standard_cauchy(s),
            "counts": lambda s=shape: rng.poisson(1.0, s).astype(float),
            "weekly": lambda s=shape: rng.standard_normal(s),
        }[kind]()
        groups = np.arange(reference + days) % 7 if kind == "weekly" else np.zeros(reference + days, int)
        values = values + 10 * groups[:, None]
        watch = ChannelWatch(values[:reference], level, groups[:reference].tolist(), seed=SEED)
        counts.append(sum(len(watch.update(values[d], int(groups[d]))) for d in range(reference, reference + days)))
    hoped = channels * days / level
    spread = 12 if kind == "normal" else 3  # common shocks make alarms come together
    assert np.mean(counts) <= hoped + spread * np.sqrt(hoped / 2), counts
    assert np.mean(counts) > 0.05 * hoped, "a detector that never alarms would pass as well"


@pytest.mark.parametrize(("shift", "most"), [(1.0, 45), (2.0, 14), (6.0, 5)])
def test_a_change_is_found_soon_and_its_beginning_is_named(shift: float, most: int) -> None:
    rng = np.random.default_rng(SEED)
    channels, quiet = 40, 30
    watch = ChannelWatch(rng.standard_normal((90, channels)), threshold(channels, 1.0), seed=SEED)
    first: dict[int, tuple[int, int]] = {}
    for day in range(quiet + 60):
        for alarm in watch.update(rng.standard_normal(channels) + (shift if day >= quiet else 0.0)):
            if alarm.day >= quiet:
                assert alarm.up
                first.setdefault(alarm.channel, (alarm.day - quiet + 1, alarm.since))
    assert len(first) >= 0.95 * channels
    assert np.median([days for days, _ in first.values()]) <= most
    assert abs(np.median([since for _, since in first.values()]) - quiet) <= 4


@pytest.mark.parametrize(
    ("earlier", "level", "groups"), [(21, 7800.0, 7), (33, 7800.0, 1), (90, 7800.0, 1), (210, 7800.0, 1), (210, 1e6, 1)]
)
def test_the_largest_change_needs_the_days_that_the_order_of_days_allows_and_two_more_at_most(
    earlier: int, level: float, groups: int
) -> None:
    """400 channels that jump a million deviations. The detector begins with the first changed day, so that nothing won
    by luck before it helps."""
    rng = np.random.default_rng(SEED)
    weekdays = np.arange(earlier * groups) % groups
    watch = ChannelWatch(rng.standard_normal((earlier * groups, 400)), level, weekdays.tolist(), seed=SEED)
    first = np.full(400, 99)
    for day in range(1, 12):
        for alarm in watch.update(1e6 + rng.standard_normal(400), day % groups):
            first[alarm.channel] = min(first[alarm.channel], day)
    fewest = fewest_days(earlier, level, groups)
    print(f"seed {SEED}: {np.bincount(first).nonzero()[0]} days, fewest {fewest}")
    # The draws that break ties may be lucky, and begin a little ahead; one of a hundred at most.
    assert np.quantile(first, 0.01) >= fewest
    assert np.median(first) <= fewest + 2


def test_days_without_rows_say_nothing_and_break_nothing() -> None:
    rng = np.random.default_rng(SEED)
    values = rng.standard_normal((300, 100))
    values[rng.random(values.shape) < 0.3] = np.nan
    watch = ChannelWatch(values[:60], 30.0, seed=SEED)
    alarms = sum(len(watch.update(row)) for row in values[60:])
    assert alarms <= 100 * 240 * 0.7 / 30 * 1.2


def leaning_days(rng: np.random.Generator, days: int, channels: int, leaning: float) -> np.ndarray:
    """Spells (an autoregression) seen through the sampling of rows."""
    noise = rng.standard_normal((days, channels))
    for day in range(1, days):
        noise[day] = leaning * noise[day - 1] + np.sqrt(1 - leaning**2) * noise[day]
    return noise + 0.3 * rng.standard_normal((days, channels))


@pytest.mark.parametrize("leaning", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("weekly", [False, True])
def test_days_that_lean_on_the_day_before_stay_within_the_budget_and_would_not_as_they_are(
    leaning: float, weekly: bool
) -> None:
    """300 channels, 90 days of reference, 150 after it."""
    rng = np.random.default_rng(SEED)
    reference, days, channels, level = 90, 150, 300, 60.0
    groups = np.arange(reference + days) % 7 if weekly else np.zeros(reference + days, int)
    values = leaning_days(rng, reference + days, channels, leaning) + 5.0 * groups[:, None]
    new, found = novelties(values, reference, groups)
    counts = []
    for watched in (values, new):
        watch = ChannelWatch(watched[:reference], level, groups[:reference].tolist(), seed=SEED)
        counts.append(sum(len(watch.update(watched[d], int(groups[d]))) for d in range(reference, reference + days)))
    hoped = channels * days / level
    assert counts[1] <= hoped + 3 * np.sqrt(hoped), counts
    if leaning >= 0.5 and not weekly:
        assert counts[0] > 1.5 * hoped, "the days as they are should show why this is needed"
        assert np.median(found) == pytest.approx(leaning, abs=0.2)


def test_days_that_do_not_lean_are_kept_as_they_are() -> None:
    values = np.random.default_rng(SEED).standard_normal((90, 300))
    new, found = novelties(values, 60, np.zeros(90, int))
    kept = found == 0
    assert kept.mean() > 0.75
    assert np.array_equal(new[:, kept], values[:, kept])


def test_a_shift_of_days_that_lean_is_found_though_later() -> None:
    rng = np.random.default_rng(SEED)
    values = leaning_days(rng, 240, 40, 0.6)
    values[120:] += 3.0
    new, _ = novelties(values, 90, np.zeros(240, int))
    watch = ChannelWatch(new[:90], threshold(40, 1.0), seed=SEED)
    first: dict[int, int] = {}
    for day in range(90, 240):
        for alarm in watch.update(new[day]):
            if day >= 120:
                first.setdefault(alarm.channel, day - 119)
    assert len(first) >= 36
    assert np.median(list(first.values())) <= 40
