"""Counters of several replicas as one: sums that never shrink, whoever leaves, and nothing counted twice."""

from itertools import count

from prometheus_client.parser import text_string_to_metric_families

from fairlead.records.release import Arm, Release
from fairlead.serve.control_state import ControlState
from fairlead.serve.messages import ReplicaReport
from fairlead.serve.metrics import Metrics

RELEASE = Release("m", 3, Arm(1, "bundle", "sha256:" + "1" * 64))


class Replica:
    """What a replica counts and tells."""

    def __init__(self, name: str, state: ControlState, generation: int = 3) -> None:
        self.name, self.state, self.generation = name, state, generation
        self.metrics = Metrics("m")
        self.metrics.released(generation, {(1, "champion"): 100.0})

    def tell(self, waiting: int = 0) -> None:
        gauges = self.metrics.gauges(waiting=waiting, log_dropped=1)
        counted = self.metrics.teller.take()
        self.state.sync(ReplicaReport(self.name, self.generation, counted=counted, gauges=gauges))

    def told(self) -> dict[str, float]:
        text = self.metrics.render(self.state.metrics()).decode()
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {",".join([sample.name, *sorted(sample.labels.values())]): sample.value for sample in samples}


def test_sums_are_of_all_replicas_also_of_those_that_left() -> None:
    clock = count()
    state = ControlState(RELEASE, monotonic=lambda: float(next(clock)))
    one, two = Replica("one", state, generation=2), Replica("two", state)
    for replica, refused in ((one, 2), (two, 3)):
        for _ in range(refused):
            replica.metrics.refused(429)
        replica.tell(waiting=refused)
    two.metrics.refused(503)  # one has never seen this status
    two.tell(waiting=4)
    one.tell(waiting=2)
    assert one.told() == two.told()
    told = one.told()
    assert (told["fairlead_refused_total,429,m"], told["fairlead_refused_total,503,m"]) == (5, 1)
    assert (told["fairlead_queue_requests,m"], told["fairlead_request_log_dropped,m"]) == (6, 2)
    assert (told["fairlead_release_generation,m"], told["fairlead_release_generation_wanted,m"]) == (2, 3)
    state.leave("one")
    told = two.told()
    assert (told["fairlead_refused_total,429,m"], told["fairlead_replicas,m"]) == (5, 1)
    assert told["fairlead_release_generation,m"] == 3


def test_what_could_not_be_told_is_told_the_next_time() -> None:
    state = ControlState(RELEASE)
    replica = Replica("one", state)
    replica.metrics.refused(429)
    lost = replica.metrics.teller.take()
    replica.metrics.refused(429)
    replica.metrics.teller.give_back(lost)
    replica.tell()
    replica.tell()
    assert replica.told()["fairlead_refused_total,429,m"] == 2


def test_a_new_control_begins_at_zero_and_a_histogram_stays_whole() -> None:
    replica = Replica("one", ControlState(RELEASE))
    seconds = replica.metrics._seconds.labels("m", "1", "champion")
    seconds.observe(0.003)
    replica.tell()
    replica.state = ControlState(RELEASE)
    seconds.observe(0.02)
    replica.tell()
    told = replica.told()
    buckets = [value for name, value in told.items() if name.startswith("fairlead_request_duration_seconds_bucket")]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[-1]) == (0, 1)
    assert told["fairlead_request_duration_seconds_count,1,champion,m"] == 1
