"""The harness of `make planted` counts what it should: places, not noise."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(_BENCHMARKS))
    return importlib.import_module("planted")


def test_there_are_forty_kinds_and_each_names_its_place(planted: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted, "ROWS", 300)
    kinds = {kind for kind, family, _ in planted.plans(1, 0) if family != "clean"}
    assert len(kinds - set(planted.VARIANTS)) == 40
    for plan in planted.plans(1, 0):
        (case,) = planted.build(*plan)
        assert case.places, plan
    windows, training = planted.clean(1000, 300)
    assert windows.places == training.places == ()


def test_the_same_seed_plants_the_same_rows(planted: ModuleType) -> None:
    one, other = (planted.build("unit: s to ms", "anomaly", 3)[0] for _ in range(2))
    assert one.current.equals(other.current)
    assert not one.current.equals(planted.build("unit: s to ms", "anomaly", 4)[0].current)


def test_only_a_word_about_the_place_is_a_find_and_every_other_word_an_accusation(planted: ModuleType) -> None:
    case = planted.build("unit: s to ms", "anomaly", 0)[0]
    assert planted.judge(case, {"duration_s": "x"})["found"]
    missed = planted.judge(case, {"amount": "x"})
    assert (missed["found"], missed["others"]) == (False, {"amount": "x"})


def test_fairlead_is_asked_and_the_page_says_what_came_of_it(planted: ModuleType) -> None:
    plans = [("unit: s to ms", "anomaly", 0), ("written by the outcome", "leak", 0), ("clean", "clean", 1000)]
    outcomes = [outcome for plan in plans for outcome in planted.with_fairlead(plan)]
    assert [o["found"] for o in outcomes] == [True, True, False, False]
    assert [bool(o["refused"]) for o in outcomes] == [False, True, False, False]
    assert not any(o["others"] for o in outcomes)
    page = importlib.import_module("planted_page").page
    text, facts = page({"fairlead": outcomes}, {"fairlead": "1 s"}, planted.WINDOWS, planted.LEAKS, (), 1, 1)
    assert facts["kinds_found"] == 2
    assert facts["clean_accused"] == 0
    assert "| unit: s to ms | anomaly | 100% |" in text
    assert "Not found in every seed: missing surge" in text
