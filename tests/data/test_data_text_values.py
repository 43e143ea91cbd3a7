"""The short way of reading plain numbers from text gives what the long way gives."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.data import text_values
from fairlead.data.text_values import parse_text

ODD = [
    "",
    "0",
    "-0",
    "007",
    "+1",
    "-",
    ".",
    "1.",
    ".5",
    "1e5",
    "1E-3",
    "1e400",
    "-1e400",
    "5e-324",
    "0x1F",
    "inf",
    "INF",
]
ODD += [
    "nan",
    "NA",
    " 1",
    "1 ",
    "1,5",
    "1_0",
    "9" * 18,
    "9" * 19,
    "-" + "9" * 18,
    "1-2",
    "--1",
    "1e",
    "e1",
    "1.2.3",
    "é",
]
NUMBERS = st.one_of(st.integers(-(10**19), 10**19).map(str), st.floats().map(repr), st.sampled_from(ODD))


@pytest.mark.parametrize("kind", ["int", "float"])
@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.none(), NUMBERS), max_size=6), st.integers(0, 2))
def test_both_ways_agree(kind: str, texts: list[str | None], begin: int) -> None:
    array = pa.array(texts, pa.string()).slice(begin)
    values, bad = parse_text(array, kind)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_values, "_plain_numbers", lambda array, kind: None)
        expected, expected_bad = parse_text(array, kind)
    assert (values.type, values.is_valid().to_pylist()) == (expected.type, expected.is_valid().to_pylist())
    assert bad.tolist() == expected_bad.tolist()
    bits = [column.fill_null(0).to_numpy(zero_copy_only=False).tobytes() for column in (values, expected)]
    assert bits[0] == bits[1]


@pytest.mark.parametrize("text", ODD)
@pytest.mark.parametrize("kind", ["int", "float"])
def test_one_odd_text_alone(kind: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    array = pa.array([text, "1", None])
    values, bad = parse_text(array, kind)
    monkeypatch.setattr(text_values, "_plain_numbers", lambda array, kind: None)
    expected, expected_bad = parse_text(array, kind)
    assert values.equals(expected)
    assert bad.tolist() == expected_bad.tolist()


def test_plain_numbers_take_the_short_way() -> None:
    rng = np.random.default_rng(1)
    floats = [repr(v) for v in rng.normal(size=50).tolist()] + ["", None]
    assert text_values._plain_numbers(pa.array(floats), "float") is not None
    assert text_values._plain_numbers(pa.array(["1", "", "-2"]), "int").to_pylist() == [1, None, -2]
    assert text_values._plain_numbers(pa.array(["1", "0x10"]), "int") is None
