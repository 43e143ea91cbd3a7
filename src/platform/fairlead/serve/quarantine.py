"""Requests that a candidate died of: not sent to it again.

Several requests may be in flight when a candidate dies, and machines fail too. So a body is quarantined when it was
there for the second time. Bodies are told by their digest; the list is bounded, the oldest leave first.
"""

from hashlib import blake2b

STRIKES = 2


class Quarantine:
    """The bodies that one candidate must not get. Lives in one event loop."""

    def __init__(self, kept: int = 1024) -> None:
        self._kept = kept
        self._strikes: dict[bytes, int] = {}
        self._held: dict[bytes, None] = {}

    def __len__(self) -> int:
        """Bodies in quarantine."""
        return len(self._held)

    def suspect(self, body: bytes) -> bool:
        """The candidate died while it had `body`. True when the body is quarantined by that."""
        digest = _digest(body)
        strikes = self._strikes.pop(digest, 0) + 1
        if strikes < STRIKES:
            self._strikes[digest] = strikes
            _bound(self._strikes, self._kept)
            return False
        self._held[digest] = None
        _bound(self._held, self._kept)
        return True

    def holds(self, body: bytes) -> bool:
        """True when `body` is in quarantine. Costs nothing while the quarantine is empty."""
        return bool(self._held) and _digest(body) in self._held


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=16).digest()


def _bound(entries: "dict[bytes, int] | dict[bytes, None]", kept: int) -> None:
    while len(entries) > kept:
        del entries[next(iter(entries))]
