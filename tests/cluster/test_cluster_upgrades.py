"""A model served from worker pods: a rollout, a new chart, a new image and the loss of a pod cost no request.

Two worker pods with a replica each, behind a port of the node; 20 requests a second all the while.
"""

import itertools
import os
import shutil
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from serving_world import IMAGE, MODEL, TAG, Served, Traffic, story, write_project

from fairlead.deploy.backends.helm_program import HelmProgram
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS, SECRETS
from fairlead.packaged import packaged_folder
from fairlead.records.rollout import Phase
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps
from fairlead.wiring.rollouts import begin_rollout, host_rollout

pytestmark = pytest.mark.timeout(900)

PORT = 31821
RATE = 20.0
AFTER_SECONDS = 12.0
"""How long requests go on after the last change: longer than a leaving pod answers (preStopSeconds)."""
OTHER_TAG = os.environ.get("FAIRLEAD_TEST_OTHER_TAG", f"{TAG}-again")
"""The same image under another name: what changes is what Kubernetes sees of it."""
TOLD = ("serve.replicas=2", "serve.deadline_ms=8000")
"""Losses are looked for, not delays: a machine that stands still for some seconds is no reason to give a request up."""
WORKER = "ray.io/node-type=worker"
_SMALL = {"requests": {"cpu": "100m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}


@pytest.fixture(scope="module")
def served(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Version 1 on two worker pods, and a head that answers nothing."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("served") / "project"
        store = f"s3://{cluster_s3.bucket}/{cluster.namespace}"
        workers = {"replicas": 2, "min": 2, "max": 2, "resources": _SMALL}
        ray = {"head": {"resources": _SMALL}, "workers": workers, "deletionDelaySeconds": 20}
        file = write_project(folder, store, cluster, cluster_s3.endpoint, PORT, ray=ray)
        found = Served(file, cluster, f"http://127.0.0.1:{PORT}")
        found.register(1)
        began = time.monotonic()
        result = steps.deploy(found.context(*TOLD).to_json(), 1)
        print(f"\n{result['summary']} after {time.monotonic() - began:.0f} s")
        until(lambda: len(ready_workers(found)) == 2)
        yield found


def chart_with_version(folder: Path, version: str) -> Path:
    """The chart as its next version would be."""
    copy = folder / "fairlead-model"
    shutil.copytree(packaged_folder("helm") / "fairlead-model", copy)
    described = yaml.safe_load((copy / "Chart.yaml").read_text())
    (copy / "Chart.yaml").write_text(yaml.safe_dump({**described, "version": version}))
    return copy


def helm_of(served: Served, chart: Path | None = None) -> HelmProgram:
    return HelmProgram(MODEL, served.cluster.namespace, chart or packaged_folder("helm") / "fairlead-model")


def until(condition: Callable[[], Any], seconds: float = 600.0) -> Any:
    """Until it is true. The API server is asked twice a second."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.5)
    return found


def ready_workers(served: Served) -> list[str]:
    """The worker pods that requests are sent to."""
    return [
        pod["metadata"]["name"]
        for pod in served.cluster.list(PODS, labels=WORKER)
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", []))
    ]


def active(served: Served) -> str:
    """The Ray cluster that requests are sent to."""
    return str(served.service()["status"].get("activeServiceStatus", {}).get("rayClusterName", ""))


def metrics(served: Served) -> dict[str, float]:
    """What the counters of a scrape come to, over a connection of its own."""
    with urllib.request.urlopen(f"{served.url}/metrics", timeout=10) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found = dict.fromkeys(("fairlead_requests_total", "fairlead_replicas", "fairlead_release_generation"), 0.0)
    for sample in itertools.chain.from_iterable(family.samples for family in families):
        if sample.name in found:
            found[sample.name] += sample.value
    return found


def token(served: Served) -> str:
    found = served.cluster.get(SECRETS, f"{MODEL}-token")
    assert found is not None
    return str(found["data"]["token"])


def told(traffic: Traffic) -> dict[str, Any]:
    """What the clients saw, with the longest time between two answers."""
    result = traffic.result
    ends = sorted(ended for _, ended, _, _ in result["answers"])
    longest = max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)
    names = ("sent", "answered", "failed", "late", "fallbacks", "by_status", "failures")
    seen = {**{name: result.get(name) for name in names}, "longest_gap_s": round(longest, 2)}
    print(seen)
    return seen


def nothing_lost(traffic: Traffic) -> None:
    seen = told(traffic)
    assert seen["sent"] == seen["answered"] > RATE * AFTER_SECONDS, seen
    assert (seen["failed"], seen["fallbacks"]) == (0, 0), seen


def test_metrics_are_of_all_pods_whoever_answers(served: Served) -> None:
    until(lambda: metrics(served)["fairlead_replicas"] == 2)
    before = metrics(served)["fairlead_requests_total"]
    with served.client() as client, served.traffic(RATE) as traffic:
        time.sleep(5)
        assert client.release()["replicas"] == 2
    answered = traffic.result["answered"]
    until(lambda: metrics(served)["fairlead_requests_total"] == before + answered, 30)
    assert len({tuple(metrics(served).items()) for _ in range(10)}) == 1


def test_a_rollout_ends_in_a_promotion_and_loses_nothing(served: Served) -> None:
    second, before = served.register(2), served.pods()
    context = served.context(*TOLD)
    registry = context.registry()
    began = time.monotonic()
    with served.traffic(RATE, keep_answers=True) as traffic:
        ended = host_rollout(context, begin_rollout(context, registry.get("champion"), second, "tests"))
        print(f"\n{story(ended)}\nrollout took {time.monotonic() - began:.0f} s")
        time.sleep(AFTER_SECONDS)
    assert ended.phase is Phase.PROMOTED
    assert registry.aliases()["champion"] == second.number
    assert traffic.result["by_arm"]["candidate"] > 0
    nothing_lost(traffic)
    assert served.pods() == before


def test_a_new_chart_replaces_no_pod(served: Served, tmp_path: Path) -> None:
    before, secret = served.pods(), token(served)
    helm = helm_of(served, chart_with_version(tmp_path, "99.0.0"))
    with served.client() as client, served.traffic(RATE, keep_answers=True) as traffic:
        helm.upgrade({}, "the next version of the chart")
        time.sleep(AFTER_SECONDS)
        assert client.release()["applied"] is not None
    assert served.history()[-1]["chart"] == "fairlead-model-99.0.0"
    nothing_lost(traffic)
    assert (served.pods(), token(served)) == (before, secret)


def test_a_new_image_takes_over_and_the_token_stays(served: Served) -> None:
    before, cluster_before, secret = served.pods(), active(served), token(served)
    began = time.monotonic()
    with served.client() as client, served.traffic(RATE, keep_answers=True) as traffic:
        helm_of(served).upgrade({"image": {"tag": OTHER_TAG}}, "the next image")
        until(lambda: active(served) != cluster_before)
        print(f"\nthe new cluster took over after {time.monotonic() - began:.0f} s")
        until(lambda: not before.keys() & served.pods().keys())
        print(f"the old pods were gone after {time.monotonic() - began:.0f} s")
        time.sleep(AFTER_SECONDS)
        # The client was made with the token of before.
        assert client.release()["applied"] is not None
    nothing_lost(traffic)
    assert token(served) == secret
    images = {pod["spec"]["containers"][0]["image"] for pod in served.cluster.list(PODS, labels=WORKER)}
    assert images == {f"{IMAGE}:{OTHER_TAG}"}


def test_a_pod_that_is_deleted_or_evicted_costs_no_request(served: Served) -> None:
    secret = token(served)
    for name in until(lambda: ready if len(ready := ready_workers(served)) == 2 else None):
        began = time.monotonic()
        with served.traffic(RATE, keep_answers=True) as traffic:
            served.cluster.delete(PODS, name)
            until(lambda gone=name: served.cluster.get(PODS, gone) is None)
            print(f"\n{name} was gone after {time.monotonic() - began:.0f} s")
            until(lambda: len(ready_workers(served)) == 2)
            print(f"its successor was ready after {time.monotonic() - began:.0f} s")
            time.sleep(AFTER_SECONDS)
        nothing_lost(traffic)
    with served.client() as client:
        assert client.release()["applied"] is not None
    assert token(served) == secret


def test_a_pod_that_dies_without_a_word_costs_what_it_held(served: Served) -> None:
    name = until(lambda: ready if len(ready := ready_workers(served)) == 2 else None)[0]
    with served.traffic(RATE, keep_answers=True) as traffic:
        time.sleep(2)
        served.cluster.delete(PODS, name, grace_seconds=0)
        until(lambda: name not in served.pods())
        until(lambda: len(ready_workers(served)) == 2)
        time.sleep(AFTER_SECONDS)
    seen = told(traffic)
    assert seen["failed"] <= RATE, seen
