"""The chances that a sample promises, against bounds that a right one breaks once in a million runs."""

import itertools

import numpy as np
import pytest
from scipy import stats

from fairlead.data.draws import Reservoir, StratifiedReservoir

LEVEL = 1e-6
SEED = 20_000


def inside(counts: np.ndarray, trials: int, chance: float) -> bool:
    """Does each count lie where a binomial one does but once in a million, all counts together?"""
    tail = LEVEL / (2 * len(counts))
    low, high = stats.binom.ppf([tail, 1 - tail], trials, chance)
    return bool((counts >= low).all() and (counts <= high).all())


def samples(size: int, draws: int, rows: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Which rows were drawn, bool [draws, rows]; the stream comes in three parts, each draw with a seed of its own."""
    drawn = np.zeros((draws, rows), bool)
    for draw in range(draws):
        sample = Reservoir(size, SEED + draw)
        for part in np.array_split(np.arange(rows), 3):
            sample.update(part, None if weights is None else weights[part])
        drawn[draw, sample.finish().places] = True
    print(f"seeds {SEED} to {SEED + draws - 1}")
    return drawn


def test_simple_every_row_and_every_pair_has_its_exact_chance() -> None:
    rows, size, draws = 12, 4, 4000
    drawn = samples(size, draws, rows)
    assert (drawn.sum(axis=1) == size).all()
    assert inside(drawn.sum(axis=0), draws, size / rows)
    pairs = np.array([(drawn[:, i] & drawn[:, j]).sum() for i, j in itertools.combinations(range(rows), 2)])
    assert inside(pairs, draws, size * (size - 1) / (rows * (rows - 1)))


def test_simple_every_subset_is_as_likely_as_every_other() -> None:
    """All 20 ways to draw 3 of 6, by chi-square."""
    drawn = samples(3, 4000, 6)
    codes = drawn @ (1 << np.arange(6))
    _, counts = np.unique(codes, return_counts=True)
    assert len(counts) == 20
    assert stats.chisquare(counts).pvalue > LEVEL


def test_weighted_the_order_of_draws_has_the_chances_of_drawing_one_after_the_other() -> None:
    """2 of 4 rows: the chance of {i, j} is w_i/W * w_j/(W - w_i) + w_j/W * w_i/(W - w_j)."""
    weights = np.array([1.0, 2.0, 3.0, 6.0])
    draws, total = 5000, weights.sum()
    drawn = samples(2, draws, 4, weights)
    counts, hoped = [], []
    for i, j in itertools.combinations(range(4), 2):
        counts.append(int((drawn[:, i] & drawn[:, j]).sum()))
        both = weights[i] * weights[j] / total
        hoped.append(draws * (both / (total - weights[i]) + both / (total - weights[j])))
    assert sum(hoped) == pytest.approx(draws)
    assert stats.chisquare(counts, hoped).pvalue > LEVEL


def test_weighted_rows_with_equal_weights_are_a_simple_sample_and_weight_0_is_never_drawn() -> None:
    weights = np.array([2.0] * 8 + [0.0] * 4)
    drawn = samples(3, 3000, 12, weights)
    assert not drawn[:, 8:].any()
    assert inside(drawn[:, :8].sum(axis=0), 3000, 3 / 8)


def test_stratified_sizes_are_exact_and_chances_alike_in_each_stratum() -> None:
    strata = np.repeat([5, 9, -2], [20, 10, 10])
    draws = 3000
    drawn = np.zeros((draws, 40), bool)
    for draw in range(draws):
        sample = StratifiedReservoir(8, SEED + draw)
        for part in np.array_split(np.arange(40), 4):
            sample.update(part, strata[part])
        drawn[draw, sample.finish().places] = True
    print(f"seeds {SEED} to {SEED + draws - 1}")
    for stratum, size in ((5, 4), (9, 2), (-2, 2)):
        own = drawn[:, strata == stratum]
        assert (own.sum(axis=1) == size).all()
        assert inside(own.sum(axis=0), draws, 8 / 40)


def test_importance_what_a_row_stands_for_averages_to_one_row() -> None:
    """E[weight if drawn, else 0] = 1 for every row (no bias). Each mean of 6,000 draws lies within 1e-6 bounds: normal
    ones, with the spread that the draws show; and the chances follow the weights upwards."""
    rng = np.random.default_rng(SEED)
    weights = np.sort(rng.gamma(2, 1, 15))
    draws = 6000
    worth = np.zeros((draws, 15))
    for draw in range(draws):
        sample = Reservoir(6, SEED + draw)
        sample.update(np.arange(15), weights)
        found = sample.finish()
        worth[draw, found.places] = found.weights
    print(f"seeds {SEED} to {SEED + draws - 1}")
    errors = worth.std(axis=0, ddof=1) / np.sqrt(draws)
    bound = stats.norm.isf(LEVEL / (2 * 15))
    assert (np.abs(worth.mean(axis=0) - 1) < bound * errors).all()
    chances = (worth > 0).mean(axis=0)
    assert stats.spearmanr(chances, weights).statistic > 0.95


@pytest.mark.parametrize("wrong", ["every third", "first rows"])
def test_the_bounds_refuse_a_sample_that_is_not_random(wrong: str) -> None:
    drawn = np.zeros((1000, 12), bool)
    drawn[:, :: 3 if wrong == "every third" else 1][:, :4] = True
    assert not inside(drawn.sum(axis=0), 1000, 4 / 12)
