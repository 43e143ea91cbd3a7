"""What a RayService does to the applications, on a real local Ray: the file is applied again and again.

Wishes come by `user_config`; what the file says of traffic must restart nothing.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from conftest import Bundles, copy_of
from prometheus_client.parser import text_string_to_metric_families
from server_process import free_port
from tiny_models import FEATURES, MODEL, ROW, table

from fairlead.errors import ServeError, StaleGeneration
from fairlead.records.release import Arm, Release
from fairlead.serve.client import ServingClient
from fairlead.serve.ray_names import candidate_app, control_app, ingress_app
from fairlead.serve.token import ensure_token, read_token
from fairlead.serve.traffic import TrafficPlan, run_traffic

_ray = [
    pytest.mark.ray,
    # Ray Serve's own modules warn when they are imported or closed; nothing here can change that.
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]
pytestmark = _ray

FIRST = Arm(1, "bundles/delays/1", "sha256:" + "1" * 64)
SECOND = Arm(2, "bundles/delays/2", "sha256:" + "2" * 64)


@dataclass
class File:
    """The file of a RayService, and what applies it."""

    bundles: Bundles
    port: int

    def apply(self, release: Release, /, **changed: Any) -> None:
        """What KubeRay does when `serveConfigV2` changes: the whole file, to the same route of Ray Serve."""
        from ray.serve.context import _get_global_client
        from ray.serve.schema import ServeDeploySchema

        from fairlead.serve.ray_cluster import user_config

        arguments = {
            "model": MODEL,
            "store": "store",
            "base": str(self.bundles.base),
            "serve": {"deadline_ms": 2000, "replicas": 2, "log": {"enabled": False}},
            "num_cpus": 0,
        }
        wish = {**user_config(release), **changed}
        file = {
            "proxy_location": "HeadOnly",
            "http_options": {"host": "127.0.0.1", "port": self.port},
            "applications": [
                {
                    "name": control_app(MODEL),
                    "import_path": "fairlead.serve.ray_cluster:control",
                    "route_prefix": None,
                    "args": arguments,
                    "deployments": [{"name": "control", "user_config": wish}],
                },
                {
                    "name": ingress_app(MODEL),
                    "import_path": "fairlead.serve.ray_cluster:ingress",
                    "route_prefix": "/",
                    "args": arguments,
                    "deployments": [{"name": "ingress", "num_replicas": 2}],
                },
            ],
        }
        client = _get_global_client(raise_if_no_controller_running=True)
        client.deploy_apps(ServeDeploySchema.model_validate(file))


@dataclass
class Served:
    """A model that is served from a file."""

    file: File
    client: ServingClient

    @property
    def bundles(self) -> Bundles:
        return self.file.bundles

    def wait(self, condition: Callable[[Any], bool], seconds: float = 60.0) -> Any:
        deadline = time.monotonic() + seconds
        while not condition(status := self.client.release()):
            assert time.monotonic() < deadline, status
            time.sleep(0.05)
        return status


def replicas() -> set[str]:
    """The actors of all replicas: one that restarts has another id."""
    import ray

    names = ray.util.list_named_actors(all_namespaces=True)
    return {actor["name"] for actor in names if actor["name"].startswith("SERVE_REPLICA")}


@pytest.fixture(scope="module")
def served(published: Bundles, local_ray: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    import pyarrow.parquet as pq
    from ray import serve
    from ray.serve.config import HTTPOptions

    from fairlead.serve.ray_app import _connect, stop_ray_serving

    bundles = copy_of(published, tmp_path_factory.mktemp("cluster"))
    pq.write_table(table(300), bundles.base / "live.parquet")
    file = File(bundles, free_port())
    _connect(local_ray)
    serve.shutdown()  # one that other tests left has a port of its own
    serve.start(proxy_location="HeadOnly", http_options=HTTPOptions(host="127.0.0.1", port=file.port))
    file.apply(Release(MODEL, 1, bundles.first))
    with ServingClient(f"http://127.0.0.1:{file.port}", read_token(ensure_token(bundles.base)), MODEL) as client:
        found = Served(file, client)
        deadline = time.monotonic() + 90
        while not client.ready():
            assert time.monotonic() < deadline, serve.status()
            time.sleep(0.2)
        found.wait(lambda s: s["applied"] is not None and s["replicas"] == 2)
        yield found
    stop_ray_serving(MODEL, local_ray)
    serve.shutdown()


def test_a_wish_in_the_file_restarts_no_replica_and_loses_no_request(served: Served) -> None:
    import threading

    from ray import serve

    before = replicas()
    results: list[dict[str, Any]] = []
    url, base = served.client.url, served.bundles.base
    plan = TrafficPlan(url, MODEL, "live.parquet", base, FEATURES.names(), 100, requests=2000)
    thread = threading.Thread(target=lambda: results.append(run_traffic(plan)))
    thread.start()
    first, second = served.bundles.first, served.bundles.second
    wishes = [
        Release(MODEL, n, first, second, w, rollout="0001") for n, w in ((2, 0.0), (3, 5.0), (4, 50.0), (5, 100.0))
    ]
    for wish in wishes:
        served.file.apply(wish)
        served.wait(lambda s, g=wish.generation: s["applied"].generation == g and s["candidate_ready"])
    thread.join(120)
    assert (results[0]["answered"], results[0]["failed"]) == (2000, 0)
    assert results[0]["by_arm"]["candidate"] > 0
    # The candidate's application was started by the control, not by the file, and outlived three of them.
    assert candidate_app(MODEL, second.digest) in serve.status().applications
    assert before < replicas()


def test_every_replica_tells_the_metrics_of_all(served: Served) -> None:
    import urllib.request

    def ask() -> tuple[float, float, float]:
        with urllib.request.urlopen(f"{served.client.url}/metrics") as answer:
            families = {f.name: f for f in text_string_to_metric_families(answer.read().decode())}
        counted, seconds = families["fairlead_requests"], families["fairlead_request_duration_seconds"]
        buckets = sum(s.value for s in seconds.samples if s.name.endswith("_bucket") and s.labels["le"] == "+Inf")
        (replicas,) = [sample.value for sample in families["fairlead_replicas"].samples]
        return sum(s.value for s in counted.samples if s.name.endswith("_total")), buckets, replicas

    plan = TrafficPlan(served.client.url, MODEL, "live.parquet", served.bundles.base, FEATURES.names(), 100)
    before, latest = -1.0, ask()[0]
    while before != latest:  # what earlier requests added may still be on its way
        time.sleep(1)
        before, latest = latest, ask()[0]
    result = run_traffic(replace(plan, requests=300))
    assert (result["answered"], result["failed"]) == (300, 0)
    deadline = time.monotonic() + 10
    while ask()[0] != before + 300:
        assert time.monotonic() < deadline, (before, ask())
        time.sleep(0.05)
    # Whichever replica answers, and each does a few times, it is the same.
    assert {ask() for _ in range(20)} == {(before + 300, before + 300, 2.0)}


def test_an_old_file_with_its_old_revision_is_the_newest_wish(served: Served) -> None:
    first, second = served.bundles.first, served.bundles.second
    served.file.apply(Release(MODEL, 20, first, second, 25.0, rollout="0002"))
    served.file.apply(Release(MODEL, 21, first, second, 50.0, rollout="0002"))
    served.wait(lambda s: s["applied"].generation == 21)
    served.file.apply(Release(MODEL, 20, first, second, 25.0, rollout="0002"))
    status = served.wait(lambda s: s["applied"].generation == 22)
    assert status["applied"].candidate_weight == 25.0


def test_a_killed_control_comes_back_with_the_wish_of_the_file(served: Served) -> None:
    import ray

    first, second = served.bundles.first, served.bundles.second
    served.file.apply(Release(MODEL, 30, first, second, 5.0, rollout="0003"))
    served.wait(lambda s: s["applied"].generation == 30 and s["candidate_ready"])
    (victim,) = [name for name in replicas() if f"{control_app(MODEL)}#" in name]
    ray.kill(ray.get_actor(victim, namespace="serve"), no_restart=True)
    deadline = time.monotonic() + 60
    while not [name for name in replicas() - {victim} if f"{control_app(MODEL)}#" in name]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    status = served.wait(lambda s: s["applied"] is not None and s["replicas"] == 2 and s["candidate_ready"])
    assert (status["applied"].generation, status["applied"].candidate_weight) == (30, 5.0)


def test_only_the_file_is_a_writer(served: Served) -> None:
    wanted = served.client.release()["wanted"]
    with pytest.raises(StaleGeneration, match="helm upgrade"):
        served.client.put_release(replace(wanted, generation=wanted.generation + 1, candidate_weight=1.0))


def test_a_wish_that_cannot_be_used_is_told_and_changes_nothing(served: Served) -> None:
    wanted = served.client.release()["wanted"]
    served.file.apply(replace(wanted, generation=40), release={"champion": 3})
    status = served.wait(lambda s: "cannot be used" in s["error"])
    assert status["applied"] == wanted
    assert served.client.infer([ROW])["parameters"]["fallback"] is False
    served.file.apply(replace(wanted, generation=41))
    served.wait(lambda s: s["applied"].generation == 41 and not s["error"])


@pytest.mark.parametrize(
    ("wanted", "told", "generation"),
    [
        (None, Release(MODEL, 3, FIRST), 3),
        (Release(MODEL, 3, FIRST), Release(MODEL, 4, FIRST), 4),
        (Release(MODEL, 9, FIRST), Release(MODEL, 3, FIRST), 9),
        (Release(MODEL, 9, FIRST), Release(MODEL, 3, SECOND), 10),
        (Release(MODEL, 9, FIRST), Release(MODEL, 9, FIRST, SECOND, 5.0), 10),
    ],
    ids=["the first", "an upgrade", "a restart after a rollback", "a rollback", "installed anew"],
)
def test_the_generation_is_the_revision_unless_that_went_back(
    wanted: Release | None, told: Release, generation: int
) -> None:
    from fairlead.serve.ray_cluster import taken_up, user_config

    assert taken_up(MODEL, user_config(told), wanted) == replace(told, generation=generation)


@pytest.mark.parametrize(
    "content",
    [{}, {"champion": 3}, {"champion": None}, {"weight": 5}, {"candidate_weight": 101.0}, {"candidate_weight": 5.0},
     {"candidate_weight": "5"}, {"model": "other"}],
    ids=str,
)  # fmt: skip
def test_what_is_no_release_is_refused(content: dict[str, Any]) -> None:
    from fairlead.serve.ray_cluster import taken_up, user_config

    known = user_config(Release(MODEL, 3, FIRST))["release"] if content else {}
    with pytest.raises(ServeError, match="cannot be used"):
        taken_up(MODEL, {"revision": 3, "release": {**known, **content}}, None)
