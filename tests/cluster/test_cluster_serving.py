"""A model served by the chart on a real cluster: traffic moves by Helm, and no request is lost."""

import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from ray_ports import answers_without_token
from serving_world import IMAGE, MODEL, ROW, Served, story, write_project

from fairlead.deploy.backends.helm_program import HelmProgram
from fairlead.deploy.backends.helm_values import traffic_values
from fairlead.kube import Cluster
from fairlead.kube.kinds import EVENTS
from fairlead.packaged import packaged_folder
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Phase
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring import steps
from fairlead.wiring.models import arm_of
from fairlead.wiring.rollouts import begin_rollout, host_rollout

PORT = 31811


@pytest.fixture(scope="module")
def served(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Version 1 of the model, deployed as `fairlead deploy --on cluster` does."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster_s3.environment.items():
            patch.setenv(name, value)
        folder = tmp_path_factory.mktemp("served") / "project"
        store = f"s3://{cluster_s3.bucket}/{cluster.namespace}"
        file = write_project(folder, store, cluster, cluster_s3.endpoint, PORT)
        found = Served(file, cluster, f"http://127.0.0.1:{PORT}")
        found.register(1)
        began = time.monotonic()
        result = steps.deploy(found.context().to_json(), 1)
        print(f"\n{result['summary']} after {time.monotonic() - began:.0f} s")
        yield found


def helm_of(served: Served) -> HelmProgram:
    return HelmProgram(MODEL, served.cluster.namespace, packaged_folder("helm") / "fairlead-model")


def arms(served: Served) -> tuple[Arm, Arm]:
    """The champion, and a second version that is registered once."""
    registry = served.context().registry()
    known = {version.run: version for version in registry.versions()}
    second = known.get("run-2") or served.register(2)
    return arm_of(registry.get("champion")), arm_of(second)


def test_the_pods_answer_by_a_port_of_the_node(served: Served) -> None:
    with served.client() as client:
        answer = client.infer([ROW])
    assert answer["parameters"]["arm"] == "champion"
    assert answer["parameters"]["fallback"] is False
    assert len(served.pods()) == 1, f"one pod of {IMAGE} is enough"


def test_rays_ports_refuse_who_has_no_token(served: Served) -> None:
    (pod,) = served.pods()
    answers = answers_without_token(served.cluster.namespace, pod)
    print("\n" + "\n".join(f"{status:<16} {what}" for what, status in answers.items()))
    assert set(answers.values()) == {"401", "UNAUTHENTICATED"}


def test_traffic_moves_by_helm_and_nothing_restarts_or_fails(served: Served) -> None:
    champion, second = arms(served)
    helm, before = helm_of(served), served.pods()
    with served.traffic(20) as traffic:
        for weight in (0.0, 5.0, 50.0, 100.0):
            began = time.monotonic()
            release = Release(MODEL, 0, champion, second, weight)
            helm.upgrade(traffic_values(release), f"by hand: {weight:g} %")
            served.wait(lambda s, w=weight: s["applied"].candidate_weight == w and s["candidate_ready"], 90)
            print(f"{weight:g} % applied after {time.monotonic() - began:.1f} s")
            time.sleep(2)
        revision = served.history()[-2]["revision"]
        served.helm("rollback", MODEL, str(revision))
        served.wait(lambda s: s["applied"].candidate_weight == 50.0)
        print(f"helm rollback applied after {time.monotonic() - began:.1f} s")
        helm.upgrade(traffic_values(Release(MODEL, 0, champion)), "back to the champion alone")
        served.wait(lambda s: s["applied"].candidate is None)
    result = traffic.result
    print({name: result[name] for name in ("sent", "answered", "failed", "late", "by_arm")})
    assert result["sent"] == result["answered"] > 100
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    assert result["by_arm"]["candidate"] > 0
    assert served.pods() == before


def test_a_rollout_is_told_by_helms_history_and_events(served: Served) -> None:
    _, second = arms(served)
    context = served.context()
    registry = context.registry()
    with served.traffic(40) as traffic:
        record = begin_rollout(context, registry.get("champion"), registry.get(str(second.version)), "tests")
        began = time.monotonic()
        ended = host_rollout(context, record)
        print(f"\n{story(ended)}\nrollout took {time.monotonic() - began:.0f} s")
    print(served.helm("history", MODEL))
    result: dict[str, Any] = traffic.result
    print({name: result[name] for name in ("sent", "answered", "failed", "late", "by_arm")})
    assert ended.phase is Phase.PROMOTED
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    assert registry.aliases()["champion"] == second.version
    told = [line["description"] for line in served.history() if line["description"].startswith(f"rollout {ended.id} #")]
    assert len(told) == 5, "start, shadow, 10 %, 50 %, promotion"
    events = served.cluster.list(EVENTS, labels=f"fairlead.dev/rollout={ended.id}")
    assert {event["reason"] for event in events} >= {"RolloutShadow", "RolloutCanary", "RolloutPromoted"}
    assert all(event["involvedObject"]["uid"] == served.service()["metadata"]["uid"] for event in events)


def test_a_rollback_by_hand_in_the_middle_is_respected(served: Served) -> None:
    third = served.register(3)
    context = served.context("deploy.rollout.canary.min_requests=100000")
    registry = context.registry()
    began = begin_rollout(context, registry.get("champion"), third, "tests")
    fell_back = threading.Event()

    def look(record: Any) -> None:
        if record.weight == 10 and record.applied_generation == record.release_generation and not fell_back.is_set():
            fell_back.set()
            served.helm("rollback", MODEL, str(served.history()[-2]["revision"]))

    with served.traffic(40) as traffic:
        paused = host_rollout(context, began, look)
    assert (paused.phase, paused.pause_kind) == (Phase.PAUSED, "taken_over"), story(paused)
    assert served.history()[-1]["description"].startswith("Rollback to")
    assert traffic.result["failed"] == 0
    from fairlead.wiring.rollouts import command_rollout

    start = time.monotonic()
    ended = command_rollout(context, paused, "abort", "tests")
    print(f"\n{story(ended)}\naborted within {time.monotonic() - start:.1f} s")
    assert ended.phase is Phase.ABORTED
    served.wait(lambda s: s["applied"].candidate is None)


def test_a_bad_candidate_is_rolled_back_before_a_user_sees_it(served: Served) -> None:
    bad = served.register(4, fails=True)
    context = served.context("deploy.rollout.shadow=off")
    registry = context.registry()
    with served.traffic(40) as traffic:
        record = begin_rollout(context, registry.get("champion"), bad, "tests")
        ended = host_rollout(context, record)
        time.sleep(2)
    decided, confirmed = [datetime.fromisoformat(d.at) for d in ended.decisions[-2:]]
    seconds = (confirmed - decided).total_seconds()
    result = traffic.result
    print(f"\n{story(ended)}\nfrom the decision to the champion alone: {seconds:.1f} s")
    print({name: result[name] for name in ("sent", "answered", "failed", "fallbacks", "by_arm")})
    assert ended.phase is Phase.ABORTED
    assert (result["failed"], result["fallbacks"]) == (0, 0)
    assert seconds <= 10
    assert served.client().release()["applied"].candidate is None
