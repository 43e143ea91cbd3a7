"""Links between columns: found when they break or turn, silent within their rate, whatever the single columns do."""

import numpy as np
import pytest

from fairlead.watch.links import moved_links


def window(rng: np.random.Generator, rows: int, slope: float = 0.6, sign: float = 1.0) -> dict[str, np.ndarray]:
    a = rng.normal(size=rows)
    b = slope * a + rng.normal(size=rows)
    label = (rng.random(rows) < 1 / (1 + np.exp(1 - sign * 0.7 * b))).astype(float)
    others = {f"x{i}": rng.standard_t(3, rows) for i in range(8)}
    counts = rng.poisson(1, rows).astype(float)
    counts[rng.random(rows) < 0.2] = np.nan
    return {"a": a, "b": b, "counts": counts, **others, "label": label}


def test_a_link_that_falls_apart_is_named_though_no_column_moved() -> None:
    rng = np.random.default_rng(7)
    live = window(rng, 3000)
    live["a"] = rng.permutation(live["a"])
    found = moved_links(window(rng, 4000), live)
    assert {(link.first, link.second) for link in found} >= {("a", "b")}
    assert {name for link in found for name in (link.first, link.second)} <= {"a", "b", "label"}
    assert found[0].before == pytest.approx(0.5, abs=0.05)
    assert "rank correlation of a and b" in found[0].what


def test_a_label_that_turns_round_is_named_with_the_feature() -> None:
    rng = np.random.default_rng(7)
    found = moved_links(window(rng, 4000), window(rng, 4000, sign=-1.0))
    assert (found[0].first, found[0].second) == ("b", "label")
    assert found[0].before > 0.2 > -0.2 > found[0].now


def test_units_and_missing_values_are_no_broken_links() -> None:
    rng = np.random.default_rng(7)
    live = window(rng, 4000)
    live["a"] = (live["a"] - 32) * 5 / 9
    live["b"] = np.exp(live["b"])
    live["counts"][rng.random(4000) < 0.6] = np.nan
    assert moved_links(window(rng, 4000), live) == ()


def test_windows_that_are_alike_are_accused_no_more_often_than_stated() -> None:
    """400 pairs of windows at a rate of 2 %: 8 expected; 18 or more happen once in a thousand."""
    accused = 0
    for seed in range(400):
        rng = np.random.default_rng([seed, 3])
        accused += bool(moved_links(window(rng, 400), window(rng, 600), false_alarm=0.02, least=0.0))
    assert accused < 18


def test_few_rows_and_constant_columns_say_nothing() -> None:
    rng = np.random.default_rng(7)
    few = window(rng, 100)
    assert moved_links(few, {**few, "a": -few["a"]}) == ()
    many = window(rng, 1000)
    assert moved_links(many, {**many, "x0": np.ones(1000)}) == ()
    assert moved_links({}, {}) == ()
