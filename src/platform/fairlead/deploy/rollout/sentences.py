"""How numbers and states read in the sentences of a rollout."""

from fairlead.records.release import Arm
from fairlead.records.rollout import Phase, RolloutPlan, RolloutRecord
from fairlead.records.trial import AB_TEST, BANDIT

STRATEGIES = {AB_TEST: "A/B test", BANDIT: "bandit"}


def percent(share: float) -> str:
    """0.0123 as "1.2 %"; tiny shares keep two digits."""
    value = 100 * share
    if value == 0 or abs(value) >= 0.05:
        return f"{value:.1f} %"
    return f"{value:.2g} %"


def points(difference: float) -> str:
    """A difference of two shares: 0.0123 as "+1.2 %"."""
    return ("+" if difference >= 0 else "-") + percent(abs(difference))


def bound(share: float) -> str:
    """A declared share: 0.02 as "2 %"."""
    return f"{100 * share:.4g} %"


def level(alpha: float) -> str:
    """The level of a limit with error probability `alpha`: 0.005 as "99.5 %"."""
    return f"{100 * (1 - alpha):.5g} %"


def weight(percents: float) -> str:
    """A traffic share that is in percent already: 10.0 as "10 %"."""
    return f"{percents:g} %"


def count(number: int, noun: str, plural: str = "") -> str:
    """1204, "request" as "1,204 requests"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def seconds(amount: float) -> str:
    """A duration for people."""
    if amount < 120:
        return f"{amount:.0f} s"
    return f"{amount / 60:.0f} min" if amount < 7200 else f"{amount / 3600:.1f} h"


def arm(which: Arm) -> str:
    """An arm by its version."""
    return f"version {which.version}"


def phase_of(plan: RolloutPlan, phase: Phase) -> str:
    """A phase in a word or two: a canary may be an A/B test or a bandit."""
    return STRATEGIES[plan.trial.kind] if plan.trial is not None and phase is Phase.CANARY else phase.value


def stage(record: RolloutRecord) -> str:
    """Where the rollout is: "shadow 100 %", "canary 10 %"."""
    phase = record.resume_phase if record.phase is Phase.PAUSED and record.resume_phase else record.phase
    if phase is Phase.SHADOW:
        return f"shadow {weight(record.shadow_percent)}"
    if phase is Phase.CANARY:
        return f"{phase_of(record.plan, phase)} {weight(record.weight)}"
    return phase.value


def wait(needed: int | None, per_second: float) -> str:
    """How long a decision still takes: "about 380 more requests, 13 s at 30 a second"."""
    if needed is None or needed <= 0:
        return ""
    text = f"about {needed:,} more requests"
    return f"{text}, {seconds(needed / per_second)} at {per_second:.3g} a second" if per_second > 0 else text
