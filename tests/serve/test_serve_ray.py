"""Real Ray Serve with HAProxy: weights that change under load; candidates that fail, hang or die; a dying control."""

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from conftest import Bundles, copy_of
from tiny_models import FEATURES, MODEL, ROW, table, write_bundle

from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ServingEvidence
from fairlead.records.trial import OutcomeRule
from fairlead.serve.client import ServingClient
from fairlead.serve.ray_names import candidate_app, control_app
from fairlead.serve.router import on_candidate
from fairlead.serve.token import read_token, token_file
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.spec.serve import RequestLog, Serve

pytestmark = [
    pytest.mark.ray,
    # Ray Serve's own modules warn when they are imported or closed; nothing here can change that.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@dataclass
class Serving:
    """A model served on Ray, and where its bundles are."""

    bundles: Bundles
    client: ServingClient
    generation: int = 1
    _results: list[dict[str, Any]] = field(default_factory=list)

    def put(
        self,
        candidate: Arm | None,
        weight: float = 0.0,
        shadow: float = 0.0,
        rollout: str = "",
        outcome: OutcomeRule | None = None,
    ) -> None:
        """Wish for a release and wait until all replicas apply it and can call its candidate."""
        self.generation += 1
        first = self.bundles.first
        release = Release(MODEL, self.generation, first, candidate, weight, shadow, rollout, outcome=outcome)
        self.client.put_release(release)
        self.wait(lambda s: s["applied"] is not None and s["applied"].generation == self.generation)
        if candidate is not None:
            self.wait(lambda s: s["candidate_ready"])

    def wait(self, condition: Callable[[Any], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition(status := self.client.release()):
            assert time.monotonic() < deadline, status
            time.sleep(0.05)

    def traffic(self, rate: float, requests: int, **options: Any) -> "threading.Thread":
        """Start requests in the background; `finish` gives what the clients saw."""
        plan = TrafficPlan(self.client.url, MODEL, "live.parquet", self.bundles.base, FEATURES.names(), rate, **options)
        plan = TrafficPlan(**{**_fields(plan), "requests": requests})
        thread = threading.Thread(target=lambda: self._results.append(run_traffic(plan)))
        thread.start()
        return thread

    def finish(self, thread: "threading.Thread") -> dict[str, Any]:
        thread.join(120)
        return self._results.pop()

    def evidence(self) -> ServingEvidence:
        time.sleep(0.5)  # replicas tell the control five times a second
        return self.client.evidence()


def _fields(plan: TrafficPlan) -> dict[str, Any]:
    return {name: getattr(plan, name) for name in plan.__dataclass_fields__}


@pytest.fixture(scope="module")
def serving(
    published: Bundles, local_ray: str, ray_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Serving]:
    from fairlead.serve.ray_app import start_ray_serving, stop_ray_serving

    bundles = copy_of(published, tmp_path_factory.mktemp("ray"))
    rows = table(300)
    keys = [f"user-{i % 150}" for i in range(300)]
    pq.write_table(rows.append_column("user", [keys]), bundles.base / "live.parquet")
    spec = Serve(port=ray_port, deadline_ms=2000, sticky="header:x-fairlead-key", log=RequestLog(rotate_seconds=1))
    url = start_ray_serving(spec, Release(MODEL, 1, bundles.first), "store", bundles.base, local_ray)
    with ServingClient(url, read_token(token_file(bundles.base)), MODEL) as client:
        yield Serving(bundles, client)
    stop_ray_serving(MODEL, local_ray)
    ray.shutdown()  # this process's connection; tests of other modules make their own


def test_weights_change_under_load_and_nothing_fails_or_moves(serving: Serving) -> None:
    second = serving.bundles.second
    serving.put(second, 0.0, rollout="weights")
    thread = serving.traffic(200, 2000, sticky="user", keep_answers=True)
    stages = []
    for weight in (0.0, 5.0, 50.0, 100.0, 0.0):
        serving.put(second, weight, rollout="weights")
        begun = time.monotonic()
        time.sleep(1.5)
        stages.append((weight, begun, time.monotonic()))
    result = serving.finish(thread)
    print(f"\nsent {result['sent']}, answered {result['answered']}, failed {result['failed']}; {result['by_arm']}")
    assert (result["sent"], result["answered"], result["failed"]) == (2000, 2000, 0)
    for weight, begun, ended in stages:
        seen = [(key, arm) for sent, came, key, arm in result["answers"] if sent >= begun and came <= ended]
        assert len(seen) > 100
        assert all((arm == "candidate") == on_candidate(key, second.digest, weight) for key, arm in seen)
        print(f"weight {weight:g} %: {len(seen)} answers, all from the arm of their key")


def test_the_split_of_distinct_keys_is_binomial(serving: Serving) -> None:
    serving.put(serving.bundles.second, 50.0, rollout="binomial")
    result = serving.finish(serving.traffic(250, 1000))
    assert result["failed"] == 0
    sigma = math.sqrt(1000 * 0.25)
    assert abs(result["by_arm"]["candidate"] - 500) < 4.5 * sigma
    evidence = serving.evidence()
    assert evidence.candidate is not None
    assert evidence.champion is not None
    assert (evidence.candidate.requests, evidence.champion.requests) == (
        result["by_arm"]["candidate"],
        result["by_arm"]["champion"],
    )


def test_outcomes_of_keys_reach_the_control(serving: Serving) -> None:
    rule = OutcomeRule("orders", horizon_seconds=3.0, missing=0.0)
    serving.put(serving.bundles.second, 50.0, rollout="trial", outcome=rule)
    result = serving.finish(serving.traffic(200, 600, sticky="user", keep_answers=True))
    arms = {key: arm for _, _, key, arm in result["answers"]}
    words = serving.client.outcomes("orders", {key: arms[key] == "candidate" for key in arms} | {"nobody": 1})
    evidence = serving.evidence()
    assert evidence.candidate is not None
    assert evidence.candidate.keys is not None
    assert evidence.champion is not None
    assert evidence.champion.keys is not None
    met = evidence.candidate.keys.exposed + evidence.champion.keys.exposed
    assert 0.95 * len(arms) <= met <= len(arms)  # two keys may share a slot
    assert (words["unknown"], words["joined"] + words["late"]) == (len(arms) - met + 1, met)
    serving.wait(lambda _: serving.evidence().champion.keys.ripe == evidence.champion.keys.exposed)  # type: ignore[union-attr]
    ripe = serving.client.evidence()
    assert ripe.candidate is not None
    assert ripe.candidate.keys is not None
    assert ripe.candidate.keys.values.total == ripe.candidate.keys.arrived


def test_a_candidate_that_fails_is_never_seen(serving: Serving) -> None:
    serving.put(serving.bundles.fails, 100.0, rollout="fails")
    result = serving.finish(serving.traffic(200, 400))
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    evidence = serving.evidence()
    assert evidence.candidate is not None
    assert evidence.candidate.failures.n == 400
    assert evidence.candidate.failures.events == result["by_arm"]["champion"] > 50
    assert evidence.user_failures == 0


def test_a_candidate_or_shadow_that_hangs_forever_is_never_seen(serving: Serving) -> None:
    bundles = serving.bundles
    endless = write_bundle(bundles.store, bundles.base / "drafts", version=9, fault="hangs", trips=10**13)
    serving.put(endless, 0.0, 100.0, rollout="shadow")
    shadowed = serving.finish(serving.traffic(200, 800))
    assert shadowed["failed"] == shadowed["late"] == shadowed["fallbacks"] == 0
    assert shadowed["by_arm"] == {"champion": 800}
    serving.put(endless, 100.0, rollout="hangs")
    answered = serving.finish(serving.traffic(20, 40))
    assert (answered["failed"], answered["fallbacks"]) == (0, 0)
    evidence = serving.evidence()
    assert evidence.candidate is not None
    assert evidence.candidate.failures.events == 40
    assert evidence.user_failures == 0


def test_a_control_and_a_candidate_that_die_are_never_seen(serving: Serving) -> None:
    import ray

    serving.put(serving.bundles.second, 50.0, 50.0, rollout="dies")
    thread = serving.traffic(150, 1500)
    time.sleep(1)
    doomed = (control_app(MODEL), candidate_app(MODEL, serving.bundles.second.digest))
    names = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    victims = [name for name in names if any(f"::{app}#" in name for app in doomed)]
    assert len(victims) == 2, names
    for name in victims:
        ray.kill(ray.get_actor(name, namespace="serve"), no_restart=True)
    result = serving.finish(thread)
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    serving.wait(lambda s: s["candidate_ready"])
    serving.put(None)
    assert serving.client.infer([ROW])["parameters"]["arm"] == "champion"


def test_a_promotion_leaves_no_gap_and_no_candidate_behind(serving: Serving) -> None:
    from ray import serve

    bundles = serving.bundles
    serving.put(bundles.second, 50.0, rollout="promotes")
    thread = serving.traffic(200, 1000)
    time.sleep(1)
    serving.generation += 1
    serving.client.put_release(Release(MODEL, serving.generation, bundles.second, rollout="promotes"))
    serving.wait(lambda s: s["applied"].generation == serving.generation)
    assert serving.client.infer([ROW])["parameters"]["model_digest"] == bundles.second.digest
    result = serving.finish(thread)
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    deadline = time.monotonic() + 30
    while any("candidate" in name for name in serve.status().applications):
        assert time.monotonic() < deadline
        time.sleep(0.2)
