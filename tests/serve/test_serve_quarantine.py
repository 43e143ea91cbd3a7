"""Bodies that a candidate died of: how many deaths it takes, and who gets to know."""

from fairlead.records.release import Arm, Release
from fairlead.serve.control_state import ControlState
from fairlead.serve.messages import ReplicaReport
from fairlead.serve.quarantine import Quarantine, Quarantines


def test_a_body_that_two_lives_ended_with_is_in_quarantine_and_the_list_is_bounded() -> None:
    quarantine = Quarantine(kept=3)
    assert not quarantine.suspect(b"poison", b"first life")
    assert not quarantine.suspect(b"poison", b"first life")  # the same body twice in one frame
    assert not quarantine.holds(b"poison")
    assert not quarantine.suspect(b"innocent", b"first life")
    assert quarantine.suspect(b"poison", b"second life")
    assert quarantine.holds(b"poison")
    assert not quarantine.holds(b"innocent")
    for number in range(10):
        quarantine.suspect(b"%d" % number, b"first life")
        quarantine.suspect(b"%d" % number, b"second life")
    assert len(quarantine) == 3
    assert quarantine.holds(b"9")
    assert not quarantine.holds(b"poison")


def test_what_two_replicas_saw_once_each_is_kept_from_the_candidate_by_all() -> None:
    candidate = Arm(2, "models/2", "sha256:two")
    state = ControlState(Release("delays", 1, Arm(1, "models/1", "sha256:one"), candidate, 50.0))
    seen = {name: Quarantines() for name in ("first", "second", "third")}
    seen["first"].of(candidate.digest).suspect(b"poison", b"one life")
    seen["second"].of(candidate.digest).suspect(b"poison", b"the next one")
    seen["second"].of("sha256:another").suspect(b"fine", b"of another candidate")
    for _ in range(2):
        for name, quarantines in seen.items():
            report = ReplicaReport(name, 1, strikes=quarantines.take_news())
            quarantines.of(candidate.digest).hold(state.sync(report).quarantined)
    for quarantines in seen.values():
        assert quarantines.of(candidate.digest).holds(b"poison")
        assert not quarantines.of(candidate.digest).holds(b"fine")
