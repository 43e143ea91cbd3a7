"""Is a release that came over the network one that can be applied?"""

import math
import re

from fairlead.records.release import Arm, Release
from fairlead.records.trial import OutcomeRule
from fairlead.spec.deploy import MOST_SLICE_COLUMNS

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_release(release: Release) -> tuple[str, str] | None:
    """The first problem as (field, sentence), or None."""
    if type(release.model) is not str or not release.model:
        return "model", "model must be a name"
    if type(release.generation) is not int or release.generation < 0:
        return "generation", "generation must be a number that is not negative"
    for name in ("rollout", "note"):
        if type(getattr(release, name)) is not str:
            return name, f"{name} must be a string"
    if problem := _arm_problem(release.champion):
        return "champion", problem
    if release.candidate is not None and (problem := _arm_problem(release.candidate)):
        return "candidate", problem
    for name in ("candidate_weight", "shadow_percent"):
        value = getattr(release, name)
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 <= value <= 100:
            return name, f"{name} must be 0 to 100"
        if value and release.candidate is None:
            return name, f"{name} must be 0 without a candidate"
    for name in ("latency_bound_ms", "label_horizon_seconds"):
        bound = getattr(release, name)
        if bound is not None and (type(bound) not in (int, float) or not math.isfinite(bound) or bound <= 0):
            return name, f"{name} must be above 0"
    slices = release.slices
    if type(slices) is not tuple or len(slices) > MOST_SLICE_COLUMNS or any(type(name) is not str for name in slices):
        return "slices", f"slices must be at most {MOST_SLICE_COLUMNS} names of columns"
    if release.outcome is not None and (problem := _outcome_problem(release.outcome)):
        return "outcome", problem
    if release.candidate is not None and release.candidate.digest == release.champion.digest:
        return "candidate", "the candidate is the champion"
    return None


def _outcome_problem(rule: object) -> str:
    if not isinstance(rule, OutcomeRule) or type(rule.metric) is not str or not rule.metric:
        return "it must be an object with metric and horizon_seconds"
    numbers = (rule.horizon_seconds, rule.low, rule.high, *(() if rule.missing is None else (rule.missing,)))
    if any(type(number) not in (int, float) or not math.isfinite(number) for number in numbers):
        return "horizon_seconds, low, high and missing must be numbers"
    if not (rule.horizon_seconds > 0 and rule.low < rule.high and type(rule.binary) is bool):
        return "horizon_seconds must be above 0, and low below high"
    if rule.missing is not None and not rule.low <= rule.missing <= rule.high:
        return "missing must lie between low and high"
    return ""


def _arm_problem(arm: object) -> str:
    if not isinstance(arm, Arm):
        return "it must be an object with version, bundle_uri and digest"
    if type(arm.version) is not int or arm.version < 0:
        return "version must be a number that is not negative"
    if type(arm.bundle_uri) is not str or not arm.bundle_uri:
        return "bundle_uri must be a URI"
    if type(arm.digest) is not str or not _DIGEST.fullmatch(arm.digest):
        return "digest must be sha256: and 64 hexadecimal digits"
    return ""
