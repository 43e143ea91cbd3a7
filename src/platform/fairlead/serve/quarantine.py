"""Requests that a candidate died of: not sent to it again, by no replica.

Several requests may be in flight when a candidate dies, and machines fail too. So a body is quarantined when two lives
of the candidate ended while they had it. Each replica tells the control what it saw, and is told what others saw.
Bodies and lives are told by digests; the lists are bounded, the oldest leave first.
"""

from collections.abc import Iterable
from hashlib import blake2b

Strike = tuple[bytes, bytes]
"""The digest of a body, and the life that ended while it had it."""

_NEWS_KEPT = 1024


class Quarantine:
    """The bodies that one candidate must not get. Lives in one event loop."""

    def __init__(self, kept: int = 1024) -> None:
        self._kept = kept
        self._strikes: dict[bytes, bytes] = {}
        self._held: dict[bytes, None] = {}
        self._news: list[Strike] = []

    def __len__(self) -> int:
        """Bodies in quarantine."""
        return len(self._held)

    def suspect(self, body: bytes, life: bytes) -> bool:
        """The candidate's `life` ended while it had `body`. True when the body is quarantined by that."""
        strike = (_digest(body), life)
        self._news.append(strike)
        del self._news[:-_NEWS_KEPT]
        return self.strike(strike)

    def strike(self, strike: Strike) -> bool:
        """Count what was seen here or elsewhere. True when the body is quarantined by that."""
        digest, life = strike
        if digest in self._held:
            return False
        first = self._strikes.get(digest)
        if first is None or first == life:
            self._strikes[digest] = life
            _bound(self._strikes, self._kept)
            return False
        del self._strikes[digest]
        self.hold((digest,))
        return True

    def hold(self, digests: Iterable[bytes]) -> None:
        """Quarantine bodies that others know to be deadly."""
        for digest in digests:
            self._held[digest] = None
        _bound(self._held, self._kept)

    def holds(self, body: bytes) -> bool:
        """True when `body` is in quarantine. Costs nothing while the quarantine is empty."""
        return bool(self._held) and _digest(body) in self._held

    def held(self) -> tuple[bytes, ...]:
        """Digests of the bodies in quarantine."""
        return tuple(self._held)

    def take_news(self) -> list[Strike]:
        """What was seen here since the last call."""
        news, self._news = self._news, []
        return news

    def give_back(self, news: list[Strike]) -> None:
        """Tell `news` again the next time."""
        self._news = [*news, *self._news][-_NEWS_KEPT:]


class Quarantines:
    """Those of the last few candidates, by their digest: one may be away for a while and come back."""

    def __init__(self, kept: int = 3) -> None:
        self._kept = kept
        self._of: dict[str, Quarantine] = {}

    def of(self, candidate: str) -> Quarantine:
        """What `candidate` died of."""
        found = self._of.pop(candidate, None)
        if found is None:
            found = Quarantine()
        self._of[candidate] = found
        for old in list(self._of)[: -self._kept]:
            del self._of[old]
        return found

    def take_news(self) -> dict[str, list[Strike]]:
        """What was seen here since the last call, by candidate."""
        return {candidate: news for candidate, found in self._of.items() if (news := found.take_news())}

    def give_back(self, news: dict[str, list[Strike]]) -> None:
        """Tell `news` again the next time."""
        for candidate, strikes in news.items():
            if candidate in self._of:
                self._of[candidate].give_back(strikes)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _bound(entries: "dict[bytes, bytes] | dict[bytes, None]", kept: int) -> None:
    while len(entries) > kept:
        del entries[next(iter(entries))]
