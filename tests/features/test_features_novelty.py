"""The chance of what was never seen before: against counting, against simulation, and how often it accuses wrongly."""

from math import comb

import numpy as np
import pytest

from fairlead.features.novelty import chance_of_all_later, most_unseen

SEED = 31


@pytest.mark.parametrize(("count", "before", "later"), [(1, 10, 10), (3, 5, 7), (7, 0, 7), (2, 1000, 3), (0, 5, 5)])
def test_it_is_the_share_of_the_ways_to_choose(count: int, before: int, later: int) -> None:
    assert chance_of_all_later(count, before, later) == pytest.approx(comb(later, count) / comb(before + later, count))


def test_millions_of_rows_do_no_harm() -> None:
    assert chance_of_all_later(10, 5_000_000, 5_000_000) == pytest.approx(2.0**-10, rel=1e-3)
    assert chance_of_all_later(5_000, 10**7, 10**7) < 1e-300
    with pytest.raises(ValueError, match="6 of 5 rows"):
        chance_of_all_later(6, 10, 5)


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.004, 0.02])
@pytest.mark.parametrize(("before", "later"), [(1000, 1000), (4000, 1000), (500, 4000)])
def test_rows_of_one_process_are_accused_at_most_as_often_as_stated(share: float, before: int, later: int) -> None:
    """The worst share of marked rows for a rule "any at all" gives one in four at equal numbers of rows."""
    rng = np.random.default_rng([SEED, before, later])
    runs, level = 40_000, 0.01
    marked = rng.binomial(before, share, runs) == 0
    counts = rng.binomial(later, share, runs)
    chances = {k: chance_of_all_later(k, before, later) for k in set(counts.tolist())}
    accused = int(sum(no_mark and chances[k] <= level for no_mark, k in zip(marked, counts.tolist(), strict=True)))
    print(f"seed {SEED}: {accused} of {runs}")
    # 99.9 % quantile of the binomial distribution with 0.01: 463 of 40,000.
    assert accused <= 463


def test_two_percent_of_negatives_are_found_at_once() -> None:
    assert chance_of_all_later(20, 1000, 1000) < 1e-5


def test_the_rule_of_three() -> None:
    assert most_unseen(1000) == pytest.approx(3 / 1000, rel=0.01)
    assert most_unseen(0) == 1.0
    assert (1 - most_unseen(50)) ** 50 == pytest.approx(0.05)
