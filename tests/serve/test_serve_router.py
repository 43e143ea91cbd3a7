"""Laws of the split."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.serve.router import copier, is_shadowed, on_candidate, position, splitter

keys = st.text(min_size=1, max_size=40)
salts = st.text(st.characters(codec="ascii"), min_size=1, max_size=80)


@given(keys, salts, st.floats(0, 100))
def test_a_key_stays_where_it_is_while_the_weight_stays(key: str, salt: str, weight: float) -> None:
    assert on_candidate(key, salt, weight) == on_candidate(key, salt, weight)


@given(keys, salts, st.floats(0, 100), st.floats(0, 100))
def test_the_keys_of_the_candidate_only_grow_with_the_weight(key: str, salt: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert on_candidate(key, salt, high) or not on_candidate(key, salt, low)


@given(keys, salts)
def test_weight_0_is_nobody_and_weight_100_is_everybody(key: str, salt: str) -> None:
    assert not on_candidate(key, salt, 0)
    assert on_candidate(key, salt, 100)
    assert not is_shadowed(key, salt, 0)
    assert is_shadowed(key, salt, 100)
    assert 0 <= position(key, salt) < 1


@given(st.lists(keys, min_size=1, max_size=5), salts, st.floats(0, 100))
def test_a_splitter_says_what_the_split_says_for_each_key_in_turn(names: list[str], salt: str, weight: float) -> None:
    chooses = splitter(salt, weight)
    assert [chooses(key) for key in names] == [on_candidate(key, salt, weight) for key in names]
    copied = copier(salt, weight)
    assert [copied(key) for key in names] == [is_shadowed(key, salt, weight) for key in names]


@given(keys, salts)
def test_a_splitter_knows_to_the_last_bit_where_its_share_ends(key: str, salt: str) -> None:
    place = position(key, salt) * 100.0
    for weight in (math.nextafter(place, 0), place, math.nextafter(place, 101)):
        assert splitter(salt, weight)(key) == on_candidate(key, salt, weight)


def test_keys_lie_where_they_lay_in_earlier_versions() -> None:
    assert position("key-1", "sha256:abc") == 0.015126003009496373


@pytest.mark.parametrize("weight", [1, 5, 25, 50])
def test_the_share_of_many_keys_is_the_weight(weight: float) -> None:
    n = 20_000
    hits = sum(on_candidate(f"key-{i}", "sha256:abc", weight) for i in range(n))
    sigma = math.sqrt(n * weight / 100 * (1 - weight / 100))
    assert abs(hits - n * weight / 100) < 4.5 * sigma


def test_another_candidate_meets_other_keys() -> None:
    chosen = {salt: {i for i in range(2000) if on_candidate(str(i), salt, 10)} for salt in ("one", "two")}
    both = chosen["one"] & chosen["two"]
    assert 5 < len(both) < 60  # 1 % of 2,000 when the two are independent


def test_shadow_and_split_choose_independently() -> None:
    both = sum(on_candidate(str(i), "s", 50) and is_shadowed(str(i), "s", 50) for i in range(4000))
    assert 850 < both < 1150
