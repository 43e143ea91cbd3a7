"""One error budget over all metrics and looks of a rollout.

The rule. `error_budget` bounds two probabilities, each on its own, because only one of them can come true for a given
candidate:

- **False promotion** (a candidate that is worse than some bound becomes champion). Promotion needs a PASS of every
  required metric, so also of the one that is violated: each metric passes at level 1 - error_budget, with nothing to
  split (the intersection-union test; Berger 1982, "Multiparameter hypothesis testing and acceptance sampling"). Looks
  cost nothing, as every PASS comes from a sequence that is valid at all looks; steps cost nothing, as the last step
  alone would have to pass wrongly.
- **False rollback** (a candidate that meets every bound is taken back). One wrong FAIL anywhere suffices, so this is a
  union bound over metrics and over steps that start counting anew. Three quarters go to hard failures, where speed
  matters most (with a budget of 1 % a candidate that fails one request in five is out within 40 requests in 99 % of
  the simulated rollouts), the rest evenly to the other metrics, whose limits hardly notice. Of the part for hard
  failures, three quarters go to the first test on live answers (it never restarts), the rest evenly to the test on
  shadow copies, to those that restart with each later step and with the watch, and to the detector of each step and
  of the watch (`detector`), which restarts at every look: they see a fault that starts late. The shares of slow
  answers, of the latency and of the loss are halved between the test that begins with the step (for the loss: with the
  rollout) and the detectors: one of slow answers and one of each quantile in each step and in the watch, and one of the
  loss in each of them. The latency's parts are split evenly over the quantiles. Where slices are declared, the shadow's
  comparisons (labels that change, score difference, and the loss that begins with the rollout) keep half of what they
  have, and the other half is split evenly over all slices that there may be.

Where the champion fails as often as the candidate, at a rate above the healthy one, the absolute test of hard failures
has no error probability worth the name. There `concurrent` bounds it: at most `Budget.blame` for each of its two forms
(the sums of a step, and since some look) in each step. This budget is for another world (both models fail) than the one
above, so it is not added to it, and it is larger: waiting for more blame would delay the way back from a candidate that
fails alone, while a rollback that was not deserved, in trouble that both models have, costs a second try.

An alarm of the check of the split (`sample_ratio`) neither promotes nor rolls back: it pauses for a person. So it takes
nothing from the two budgets; its own false alarms have probability at most `error_budget` over all steps.

The check for skewed features has a false-alarm probability of its own (``watch.skew.false_alarm``), on top.
"""

from dataclasses import dataclass

SLOW_METRICS = ("error_rate", "slow_rate", "latency", "shadow_flips", "shadow_score_difference", "loss")
"""The metrics that share what hard failures leave."""

HARD_SHARE = 0.75
"""The part of the error budget that hard failures get."""
LIVE_SHARE = 0.75
"""The part of that which the first test on live answers gets, when there are others."""

DETECTOR_SHARE = 0.5
"""The part of a slow metric's share that its detectors get, where it has some."""

BLAME_FACTOR, MAX_BLAME = 5.0, 0.05
"""The level of blame: this factor times the error budget, at most this."""

SLICE_SHARE = 0.5
"""The part of what a comparison of pairs has that all slices together get, where slices are declared."""

_SLICED = frozenset({"shadow_flips", "shadow_score_difference", "loss"})
_PER_STEP = frozenset({"error_rate", "slow_rate", "latency"})
_DETECTED = frozenset({"slow_rate", "latency", "loss"})


@dataclass(frozen=True, slots=True)
class Budget:
    """The split for a plan with `steps` canary steps, with a shadow phase or not, with a watch or not, that compares
    `quantiles` quantiles of the latency, and in the shadow at most `slices` slices."""

    error_budget: float
    abort_error: float
    steps: int
    shadow: bool = True
    watch: bool = False
    quantiles: int = 3
    slices: int = 0

    @property
    def promotion(self) -> float:
        """The error probability of each metric's PASS."""
        return self.error_budget

    @property
    def blame(self) -> float:
        """The error probability of blaming the candidate for failures that the champion has as often."""
        return max(self.error_budget, min(BLAME_FACTOR * self.error_budget, MAX_BLAME))

    @property
    def windows(self) -> int:
        """How often live counting starts anew: each canary step, and the watch."""
        return self.steps + int(self.watch)

    @property
    def restarts(self) -> int:
        """How many tests on hard failures there are beside the first on live answers: shadow copies, each later window,
        and the detector of each window."""
        return int(self.shadow) + self.windows - 1 + self.windows

    def failures(self, test: str) -> float:
        """The error probability of a FAIL on hard failures. `test`: "live" (all answers since the canary began), "step"
        (since this step began, from the second on), "detector" (of a step) or "shadow"."""
        if self.restarts == 0:
            return self.abort_error if test == "live" else 0.0
        if test == "live":
            return self.abort_error * LIVE_SHARE
        return self.abort_error * (1 - LIVE_SHARE) / self.restarts

    def rollback(self, metric: str) -> float:
        """The error probability of a FAIL of one of `SLOW_METRICS`, in one step where it restarts (for "latency": of
        one quantile)."""
        share = self._begun(metric) / self._parts(metric)
        return share * (1 - SLICE_SHARE) if metric in _SLICED and self.slices else share

    def slice(self, metric: str) -> float:
        """The error probability of a FAIL of one slice in the shadow."""
        return self._begun(metric) * SLICE_SHARE / self.slices if metric in _SLICED and self.slices else 0.0

    def _begun(self, metric: str) -> float:
        """What the tests of a slow metric have that begin with the step, or with the rollout."""
        return self._share(metric) * (1 - DETECTOR_SHARE if metric in _DETECTED else 1)

    def detection(self, metric: str) -> float:
        """The error probability of an alarm of a slow metric's detector within one step or the watch (for "latency": of
        one quantile)."""
        if metric not in _DETECTED:
            return 0.0
        share = self._share(metric) * DETECTOR_SHARE / self._parts(metric)
        return share if metric in _PER_STEP else share / max(self.windows, 1)

    def _parts(self, metric: str) -> int:
        return max(self.quantiles, 1) if metric == "latency" else 1

    @property
    def split_alarm(self) -> float:
        """The error probability of an alarm of the check of the split in one step. It pauses, and decides nothing."""
        return self.error_budget / max(self.steps, 1)

    def _share(self, metric: str) -> float:
        share = (self.error_budget - self.abort_error) / len(SLOW_METRICS)
        return share / self.windows if metric in _PER_STEP else share

    def spent_on_rollback(self) -> float:
        """All error probabilities of a FAIL together: never more than `error_budget`."""
        hard = self.failures("live") + (self.failures("step") * self.restarts if self.restarts else 0.0)
        slow = sum(
            self._parts(m) * (self.rollback(m) * (self.windows if m in _PER_STEP else 1))
            + self._parts(m) * self.detection(m) * self.windows
            + self.slice(m) * self.slices
            for m in SLOW_METRICS
        )
        return hard + slow
