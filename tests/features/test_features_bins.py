"""Bins by table against a binary search."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fairlead.features.bins import Bins

_ANY = st.floats(allow_nan=False, allow_infinity=False)


def searched(edges: np.ndarray, values: np.ndarray) -> list[int]:
    found = np.searchsorted(edges, values, side="right") - 1
    return np.clip(found, 0, len(edges) - 2).tolist()


@given(
    arrays.arrays(np.float64, st.integers(2, 60), elements=_ANY, unique=True).map(np.sort),
    arrays.arrays(np.float64, st.integers(0, 200), elements=_ANY),
    st.booleans(),
)
def test_bins_are_those_of_a_binary_search(edges: np.ndarray, values: np.ndarray, among: bool) -> None:
    # Values on the edges and one step of the floating-point numbers beside them are where a table could go wrong.
    with np.errstate(over="ignore"):
        values = np.concatenate([values, edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    values = values[np.isfinite(values)]
    typical = values if among else edges[:0]
    assert Bins(edges, typical).of(values).tolist() == searched(edges, values)


@pytest.mark.parametrize("spread", [1, 3])
def test_bins_of_a_long_tail_and_of_a_short_one(spread: int) -> None:
    rng = np.random.default_rng(spread)
    values = np.exp(rng.normal(0, spread, 50_000))
    edges = np.unique(np.quantile(values, np.linspace(0, 1, 401)))
    more = np.concatenate([np.exp(rng.normal(0, spread, 50_000)), edges])
    assert Bins(edges, values).of(more).tolist() == searched(edges, more)
