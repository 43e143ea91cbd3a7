"""Answers that a label may still come for: joined by request id, and held back until their horizon is over.

Without a horizon a label is evidence as soon as it comes. With one, every answer is one observation of its time, which
counts when its whole horizon is over, with its label or without; a label that comes later is counted apart. Why that
matters, `deploy.rollout.losses` says. The first answer of a key is its unit of evidence, whether it gets a label or
not: choosing among a key's answers by whose label came would favour the early ones again.

Constant memory: at most `kept` answers are waited for. When more are waiting, half of them are let go, chosen by the
hash of the request's id, and of what comes from then on as well: a fair sample, whichever labels come when. Answers
that wait no more are remembered, while there is room, to tell late, repeated and changed labels. Times are seconds of
one clock that never goes back; a restart of the server forgets what waits, of both arms alike.
"""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from fairlead.serve.evidence import Outcome
from fairlead.serve.units import SLOTS, slot_of

RESULTS = ("joined", "unknown", "duplicate", "changed", "late", "left_out")
"""What can become of a label. `left_out`: of an answer that the sample has no room for."""


@dataclass(slots=True)
class Awaited:
    """One answer, under which rollout, and when it was told. `scale`: the unit of the label's errors."""

    outcome: Outcome
    rollout: str
    at: float
    label: float | None = None
    scale: float = 1.0


@dataclass(slots=True)
class Joined:
    """Labels that came together: how many of each of `RESULTS`, those that are evidence at once, and late ones."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RESULTS, 0))
    evident: list[Awaited] = field(default_factory=list)
    late: list[Awaited] = field(default_factory=list)


class AwaitedLabels:
    """Not thread-safe: one event loop owns it."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._known: dict[str, Awaited] = {}  # what waits for nothing: the oldest goes when there are too many
        self._held: dict[str, Awaited] = {}  # what waits: forgetting the oldest would favour early labels
        self._waiting: deque[Awaited] = deque()
        self._share = SLOTS

    def start(self) -> None:
        """Another rollout begins: nothing that waits is evidence for it."""
        self._known |= self._held
        self._held.clear()
        self._waiting.clear()
        self._share = SLOTS

    @property
    def share(self) -> float:
        """The share of the answers that are waited for, 0 to 1."""
        return self._share / SLOTS

    def remember(
        self,
        outcomes: Sequence[Outcome],
        rollout: str,
        now: float,
        *,
        horizon: float | None = None,
        is_unit: Callable[[Outcome], bool] = lambda outcome: True,
    ) -> None:
        """Answers that were told at `now`. With a `horizon`, those that compare something and that `is_unit` (asked
        once for each) wait for it."""
        known, held = self._known, self._held
        for outcome in outcomes:
            before = known.get(outcome.id)
            if (held and outcome.id in held) or (before is not None and before.label is not None):
                continue  # the same request, answered again
            if horizon is not None and self._is_left_out(outcome.id):
                continue
            if before is not None:
                del known[outcome.id]  # it is as young as its last answer
            awaited = Awaited(outcome, rollout, now)
            if horizon is not None and outcome.compares and is_unit(outcome):
                held[outcome.id] = awaited
                self._waiting.append(awaited)
            else:
                known[outcome.id] = awaited
        while len(self._waiting) > self._kept:
            self._halve()
        for identity in list(itertools.islice(known, max(0, len(known) - self._kept))):
            del known[identity]

    def join(
        self, labels: Iterable[tuple[str, float]], scale: float, now: float, *, horizon: float | None = None
    ) -> Joined:
        """Labels that came at `now`; `scale` is the unit of their errors."""
        joined = Joined()
        for identity, label in labels:
            known = self._held.get(identity) or self._known.get(identity)
            if known is None:
                joined.counts["left_out" if self._is_left_out(identity) else "unknown"] += 1
            elif known.label is not None:
                joined.counts["duplicate" if known.label == label else "changed"] += 1
            elif horizon is not None and now - known.at > horizon:
                known.label, known.scale = label, scale
                joined.counts["late"] += 1
                joined.late.append(known)
            else:
                known.label, known.scale = label, scale
                joined.counts["joined"] += 1
                if horizon is None:
                    joined.evident.append(known)
        return joined

    def over(self, now: float, horizon: float) -> list[Awaited]:
        """Answers whose horizon is over by `now`, oldest first; each is given once."""
        waiting, done = self._waiting, []
        while waiting and now - waiting[0].at > horizon:
            awaited = waiting.popleft()
            self._known[awaited.outcome.id] = self._held.pop(awaited.outcome.id)
            done.append(awaited)
        return done

    def _is_left_out(self, identity: str) -> bool:
        return self._share < SLOTS and slot_of(identity) >= self._share

    def _halve(self) -> None:
        self._share //= 2
        for awaited in self._waiting:
            if self._is_left_out(awaited.outcome.id):
                del self._held[awaited.outcome.id]
        self._waiting = deque(each for each in self._waiting if not self._is_left_out(each.outcome.id))
