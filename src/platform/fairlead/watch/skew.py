"""Live features against the training statistics of the models that answer.

A distance alone convicts nobody: temperatures in September differ from those of January to June, and a model trained
well is not to blame. `compare` says how far live rows are from one model's training rows. `attribute` holds the two
models of a rollout against the same live rows and names what is the candidate's own fault.

A cause is looked for only beyond the bound. So the chance that anything at all is said of live rows that are like the
training rows, a default value included, is at most `spec.false_alarm`, whatever the distributions (the bounds of
`distance`; rows drawn independently). Live rows that differ honestly are said to differ; a default value is named for
them only where the rest of the values are as in training, which a season does not leave them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fairlead.records.data import SkewFinding, Statistics
from fairlead.spec.watch import Skew
from fairlead.watch.cause import Cause, default_value, find_cause
from fairlead.watch.distance import (
    CYCLES,
    MISSING,
    Distance,
    cumulative_distance,
    distances,
    leaning,
    leaning_bound,
)

_ABSENT = 0.99
_AGAINST = "against training, live values are"


def compare(live: Statistics, reference: Statistics, spec: Skew, digest: str) -> tuple[SkewFinding, ...]:
    """One finding for each feature and part: the distance of live rows from the training rows of the model `digest`.

    `skewed` when the distance is above the bound: the larger of `spec.max_distance` and what sampling explains with
    probability 1 - `spec.false_alarm` for all features together (Bonferroni). Empty below `spec.min_rows` live rows.
    It means "different", not "wrong": a change of season is different too."""
    if live.rows < spec.min_rows:
        return ()
    found = distances(live, reference)
    delta = _delta(spec, found)
    return tuple(_plain(one, live, reference, spec, delta, digest) for one in found)


def attribute(
    live_for_champion: Statistics,
    live_for_candidate: Statistics,
    champion: Statistics,
    candidate: Statistics,
    spec: Skew,
    champion_digest: str,
    candidate_digest: str,
) -> tuple[SkewFinding, ...]:
    """Findings for both models on the same live rows, counted once with each model's training statistics as
    reference.

    The candidate's finding is `skewed`, and the champion's at the same place is not, where the candidate's training
    rows are to blame, and only there. All of these must hold:

    1. Live rows are further from the candidate's training rows than the bound of `compare`.

    2. They are further from the candidate's than from the champion's by more than `spec.max_distance` and by more than
    the sampling of the training rows explains. By the triangle inequality the two models' training rows then differ by
    as much themselves, so two models trained on alike rows are never told apart, however the season changes. (Half a
    day spreads its hours unevenly, so for hours that were moved the distances are not compared; live rows must side
    with the champion's by likelihood instead, see `distance.leaning`.)

    3. They fit the champion's training rows; or the candidate's rows are the champion's with a change that no season
    makes (hours moved, another unit, other names of values, one value in the place of others), so that the champion is
    right but for the season.

    Where live rows fit neither, both findings are `skewed`: drift, to be told but not held against the candidate."""
    if live_for_candidate.rows < spec.min_rows:
        return ()
    of_champion = {(d.feature, d.part): d for d in distances(live_for_champion, champion)}
    of_candidate = distances(live_for_candidate, candidate)
    delta = _delta(spec, (*of_champion.values(), *of_candidate))
    judge = _Judge(live_for_champion, live_for_candidate, champion, candidate, spec, delta)
    findings: list[SkewFinding] = []
    for one in of_candidate:
        theirs = of_champion.get((one.feature, one.part))
        verdict = judge.alone(one) if theirs is None else judge.against(one, theirs)
        findings.append(_finding(one, candidate_digest, judge.bound(one), verdict.candidate, verdict.why))
        if theirs is not None:
            findings.append(
                _finding(theirs, champion_digest, judge.bound(theirs), verdict.champion, verdict.champion_why)
            )
        else:
            why = "the champion was not trained on this"
            findings.append(SkewFinding(one.feature, one.part, champion_digest, 0.0, judge.bound(one), False, why))
    return tuple(findings)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether each of the two findings is `skewed`, and why."""

    candidate: bool
    champion: bool
    why: str
    champion_why: str


@dataclass(frozen=True, slots=True)
class _Judge:
    """Tells a candidate's own skew from drift."""

    live_for_champion: Statistics
    live: Statistics
    champion: Statistics
    candidate: Statistics
    spec: Skew
    delta: float

    def bound(self, one: Distance) -> float:
        """Beyond this, live rows do not fit the training rows."""
        return max(self.spec.max_distance, one.sampling_bound(self.delta))

    def against(self, one: Distance, theirs: Distance) -> _Verdict:
        """The candidate's distance `one` beside the champion's `theirs`."""
        outside, champion_outside = one.value > self.bound(one), theirs.value > self.bound(theirs)
        if not outside:
            champion_why = theirs.unfit or (
                self._of_champion(theirs) if champion_outside else "as in its training rows"
            )
            return _Verdict(False, champion_outside and not theirs.unfit, one.unfit or "as in training", champion_why)
        cause = self._cause(one)
        excess = one.value - theirs.value
        needed = max(self.spec.max_distance, one.reference_bound(self.delta) + theirs.reference_bound(self.delta))
        apart = (
            self._leans_to_champion(one, needed) if cause and one.part in CYCLES else excess > needed and not one.unfit
        )
        if not apart:
            if one.unfit:
                return _Verdict(False, False, one.unfit, theirs.unfit or one.unfit)
            told = _with_default(one, self.live, self.candidate)
            why = f"{told}; nearly as far from the champion's training rows ({theirs.value:.3f}): drift"
            champion_why = self._of_champion(theirs) if champion_outside else "as in training"
            return _Verdict(champion_outside, champion_outside, why, champion_why)
        if champion_outside and cause is None:
            told = _with_default(one, self.live, self.candidate)
            why = f"{told}; does not fit the champion's training rows either ({theirs.value:.3f}): drift"
            return _Verdict(True, True, why, self._of_champion(theirs))
        named = f"; against the champion's training rows, the candidate's are {cause.text}" if cause else ""
        champion_why = "as in its training rows"
        if champion_outside:
            champion_why = f"{theirs.unfit or theirs.what}, but nearer than the candidate's training rows"
        return _Verdict(True, False, one.what + named, champion_why)

    def alone(self, one: Distance) -> _Verdict:
        """A feature that the champion does not have: only its complete absence from live rows is told from a season."""
        column = self.live.columns.get(one.feature)
        absent = column is None or column.missing >= _ABSENT * self.live.rows
        if one.part == MISSING and one.value > self.bound(one) and absent:
            return _Verdict(True, False, f"{one.what}: live requests do not carry it", "")
        if one.value > self.bound(one) and not one.unfit:
            return _Verdict(
                False, False, f"{one.what}; the champion does not have it, so nothing tells it from drift", ""
            )
        return _Verdict(False, False, one.unfit or "as in training", "")

    def _of_champion(self, theirs: Distance) -> str:
        return _with_default(theirs, self.live_for_champion, self.champion)

    def _leans_to_champion(self, one: Distance, needed: float) -> bool:
        """For a cyclic part whose training rows were moved: do live rows side with the champion's beyond chance?"""
        size = CYCLES[one.part][0]
        columns = (self.live, self.champion, self.candidate)
        live, champion, candidate = (column.columns[one.feature].parts[one.part] for column in columns)
        apart = cumulative_distance(champion, candidate, size) > needed
        return apart and leaning(live, champion, candidate, size) > leaning_bound(one.live_rows, self.delta)

    def _cause(self, one: Distance) -> Cause | None:
        if one.part == MISSING or one.feature not in self.champion.columns:
            return None
        return find_cause(self.champion.columns[one.feature], self.candidate.columns[one.feature], one.part)


def _plain(
    one: Distance, live: Statistics, reference: Statistics, spec: Skew, delta: float, digest: str
) -> SkewFinding:
    bound = max(spec.max_distance, one.sampling_bound(delta))
    if one.unfit or one.value <= bound:
        return _finding(one, digest, bound, False, one.unfit or "as in training")
    column = live.columns.get(one.feature)
    if column is None or one.part == MISSING or column.edges:
        # Numbers of one month span less than those of a year, which looks like another unit: only attribution can tell.
        return _finding(one, digest, bound, True, _with_default(one, live, reference))
    cause = find_cause(reference.columns[one.feature], column, one.part)
    return _finding(one, digest, bound, True, one.what if cause is None else f"{one.what}; {_AGAINST} {cause.text}")


def _with_default(one: Distance, live: Statistics, reference: Statistics) -> str:
    """What differs, and the default value that live rows have where training rows had others."""
    column = live.columns.get(one.feature)
    if one.part or column is None:
        return one.what
    cause = default_value(reference.columns[one.feature], column)
    return one.what if cause is None else f"{one.what}; {_AGAINST} {cause.text}"


def _finding(one: Distance, digest: str, bound: float, skewed: bool, why: str) -> SkewFinding:
    return SkewFinding(one.feature, one.part, digest, one.value, bound, skewed, why)


def _delta(spec: Skew, found: Sequence[Distance]) -> float:
    """The false-alarm probability of each comparison, so that all together stay below the declared one."""
    return spec.false_alarm / max(1, len(found))
