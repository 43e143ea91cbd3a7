"""How long the champion took lately: what a candidate must leave of the deadline."""

_KEPT = 512
_EVERY = 128


class RecentSeconds:
    """The last few hundred durations and their 99th percentile, brought up to date every 128th time."""

    def __init__(self) -> None:
        self._values = [0.0] * _KEPT
        self._count = 0
        self._p99 = -1.0

    def add(self, seconds: float) -> None:
        """Take one."""
        count = self._count
        self._values[count % _KEPT] = seconds
        self._count = count + 1
        if self._count % _EVERY == 0:
            known = sorted(self._values[: min(self._count, _KEPT)])
            self._p99 = known[int(0.99 * len(known))]

    @property
    def p99(self) -> float:
        """Negative while there are too few."""
        return self._p99
