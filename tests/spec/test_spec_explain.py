"""Explaining fields and codes."""

import pytest

from fairlead.errors import UsageError, all_errors
from fairlead.spec.explain import error_docs, explain
from fairlead.spec.fields import field_table


@pytest.mark.parametrize("path", sorted(field_table()))
def test_every_field_explains_itself(path: str) -> None:
    assert [doc.path for doc in explain(path).fields] == [path]


@pytest.mark.parametrize("code", [doc.code for doc in error_docs()])
def test_every_code_explains_itself(code: str) -> None:
    found = explain(code.lower()).error
    assert found is not None
    assert found.code == code
    assert len(found.text) > 20


def test_no_two_errors_share_a_code() -> None:
    codes = [cls.code for cls in all_errors() if "code" in vars(cls)]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize(
    ("word", "paths"),
    [
        ("precision", ["train.precision"]),
        ("evaluate.gates[3].min", ["evaluate.gates[].min"]),
        ("evaluate.gates.0.min", ["evaluate.gates[].min"]),
        ("features.numeric.distance.clip", ["features.numeric.<name>.clip"]),
        ("split.by", ["data.split.by"]),
        ("seed", ["data.sample.seed", "data.split.seed", "train.seed", "evaluate.seed"]),
    ],
)
def test_short_and_concrete_paths_are_understood(word: str, paths: list[str]) -> None:
    assert [doc.path for doc in explain(word).fields] == paths


def test_a_section_lists_what_is_below_it() -> None:
    below = [doc.path for doc in explain("data").below]
    assert "data.source" in below
    assert "data.split" in below
    assert "data.split.by" not in below
    below = [doc.path for doc in explain("features.datetime").below]
    assert below == ["features.datetime.<name>.parts", "features.datetime.<name>.encode"]


@pytest.mark.parametrize(
    ("word", "fix"),
    [
        ("train.precison", "did you mean train.precision?"),
        ("precison", "did you mean train.precision?"),
        ("FL-299", "FL-200"),
    ],
)
def test_unknown_words_get_the_nearest(word: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        explain(word)
    assert fix in str(caught.value.fix)


@pytest.mark.parametrize("word", ["", ".", "..", "[]", "\x00", "a" * 10_000, "[[[", "data..split"])
def test_nonsense_is_refused_politely(word: str) -> None:
    with pytest.raises(UsageError):
        explain(word)
