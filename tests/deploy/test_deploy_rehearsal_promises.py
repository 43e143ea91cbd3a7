"""What a rehearsal tells: shares that the budgets allow, curves, and fixes that were tried."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from deploy_world import plan

from fairlead.deploy.rehearsal.grid import Rehearsal, gaps, rehearse, scenarios
from fairlead.deploy.rehearsal.play import Outcome, play
from fairlead.deploy.rehearsal.promises import KEPT, broken_promises
from fairlead.deploy.rehearsal.report import rehearsal_report
from fairlead.deploy.rehearsal.world import LATE, BaseRates, Effect
from fairlead.reports.html import render_html

QUICK: dict[str, Any] = {
    "shadow": {"min_requests": 300}, "canary": {"min_requests": 200, "latency": "off"}, "max_hours": 0.5,
}  # fmt: skip
BASE = BaseRates(per_second=100.0)


def rehearsed(base: BaseRates = BASE, rollouts: int = 60, **policy: Any) -> Rehearsal:
    return rehearse(plan(**{**QUICK, **policy}), base, rollouts=rollouts, seed=11)


def test_the_grid_has_every_kind_of_effect_in_every_size_and_shape() -> None:
    found = list(scenarios(plan(), replace(BASE, labelled=0.5)))
    kinds = {scenario.effect.kind for scenario in found}
    assert kinds == {"none", "failures", "slow", "latency", "difference", "loss"}
    for kind in kinds - {"none"}:
        mine = [scenario for scenario in found if scenario.effect.kind == kind]
        assert [scenario.size for scenario in mine] == ["small", "margin", "large", "large", "large", "large"]
        assert {scenario.effect.onset for scenario in mine} == {"sudden", "creeping", "late"}
        assert sum(scenario.effect.share < 1 for scenario in mine) == 1
    assert "difference" not in gaps(plan(shadow="off"), BASE), "scores are only compared in the shadow"
    assert "loss" not in gaps(plan(), BASE), "there are no labels"


def test_effects_grow_and_begin_when_they_say() -> None:
    at = np.array([0.0, 50.0, LATE * 100.0, 100.0, 200.0])
    assert Effect("slow", 0.1, "creeping").strength(at, 100.0).tolist() == [0.0, 0.5, LATE, 1.0, 1.0]
    assert Effect("slow", 0.1, "late").strength(at, 100.0).tolist() == [0.0, 0.0, 1.0, 1.0, 1.0]


def test_a_sound_policy_decides_as_its_budget_says() -> None:
    found = rehearsed()
    results = {result.scenario.name: result for result in found.results}
    assert results["none"].promoted >= KEPT
    assert results["failures, large"].rolled_back == 1.0
    assert results["failures, at the margin"].promoted <= 0.05
    assert results["score difference, large"].rolled_back >= KEPT
    assert results["none"].harmed_mean == 0
    assert results["failures, large, after 80 %"].harmed_mean > results["failures, large"].harmed_mean
    assert not [broken for broken in broken_promises(found) if "healthy" in broken.what]


def test_a_policy_without_time_is_told_how_much_it_needs_and_that_suffices() -> None:
    found = rehearsed(max_hours=0.01)
    broken = next(each for each in broken_promises(found) if "promotes only" in each.what)
    hours = float(next(fix for fix in broken.fixes if "max_hours" in fix).split("=")[1].split(":")[0])
    enough = play(plan(**{**QUICK, "max_hours": hours}), BASE, Effect(), runs=200, seed=5)
    assert enough.share(Outcome.PROMOTED) >= KEPT - 0.06
    assert enough.share(Outcome.PROMOTED) > found.results[0].promoted
    assert any("requests a second" in fix for fix in broken.fixes)
    assert any("steps" in fix for fix in broken.fixes) or hours > 0.02


def test_a_bound_that_the_champion_itself_does_not_meet_is_named() -> None:
    base = replace(BASE, slow_rate=0.06)
    broken = broken_promises(rehearsed(base, rollouts=40))
    assert any("max_slow_rate" in fix for each in broken for fix in each.fixes), broken


def test_a_fault_that_starts_late_is_answered_with_a_watch_that_catches_it() -> None:
    late = Effect("slow", 0.3, "late")
    without = play(plan(**QUICK, steps=[10]), BASE, late, runs=100, seed=3, usual_seconds=400.0)
    watched = play(plan(**QUICK, steps=[10], watch="10m"), BASE, late, runs=100, seed=3, usual_seconds=400.0)
    assert without.share(Outcome.PROMOTED) == 1.0
    assert watched.share(Outcome.ROLLED_BACK) == 1.0


def test_traffic_that_is_rarer_than_the_policy_waits_is_told() -> None:
    found = rehearsed(replace(BASE, per_second=0.2), rollouts=20, no_data="30s", max_hours=10)
    broken = broken_promises(found)
    assert "no_data" in broken[0].what
    assert "no_data" in broken[0].fixes[0]
    assert found.results[0].undecided == 1.0


def test_without_bound_or_noise_the_shadow_waits_for_a_person_and_the_report_says_why() -> None:
    found = rehearsed(replace(BASE, noise=None), rollouts=20)
    assert found.results[0].undecided == 1.0
    assert any("max_score_difference" in fix for each in broken_promises(found) for fix in each.fixes)


def test_the_report_shows_table_curves_and_warnings_offline() -> None:
    found = rehearsed(rollouts=30, max_hours=0.01)
    page = render_html(rehearsal_report(found, broken_promises(found), "flights"))
    assert page.count("<svg") >= 3
    assert "max_hours" in page
    assert "failures, at the margin" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(page) < 400_000


@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_seed_plays_the_same_rollouts(seed: int) -> None:
    first = play(plan(**QUICK), BASE, Effect("failures", 0.02), runs=50, seed=seed)
    again = play(plan(**QUICK), BASE, Effect("failures", 0.02), runs=50, seed=seed)
    assert np.array_equal(first.outcome, again.outcome)
    assert np.array_equal(first.seconds, again.seconds)
