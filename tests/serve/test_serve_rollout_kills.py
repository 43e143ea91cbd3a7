"""The host of a rollout is killed (SIGKILL) at named points, with real servers on Ray and live requests.

Another host takes it up: the end is the one that it would have had, and no request fails. Six cases here; all thirty
with FAIRLEAD_KILLS=all, as `make sweep` runs them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import ray
from conftest import Bundles, copy_of
from tiny_models import FEATURES, MODEL, table

from fairlead.clock import SystemClock
from fairlead.deploy.rollout.plan import plan_from_spec
from fairlead.deploy.rollout.start import load, new_rollout
from fairlead.records.codec import from_json
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import Phase
from fairlead.registry.registry import Registry
from fairlead.serve.client import ServingClient
from fairlead.serve.token import read_token, token_file
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.spec.deploy import Rollout
from fairlead.spec.serve import RequestLog, Serve
from fairlead.testing.fault_points import VARIABLE

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

RATE = 150.0
POLICY = {
    "shadow": {"min_requests": 60, "max_flip_rate": 1, "max_score_difference": 1.0},
    "steps": [20, 50],
    "canary": {
        "min_requests": 20,
        "max_error_rate_increase": 0.5,
        "max_slow_rate": 0.9,
        "max_loss_increase": 1.0,
        "healthy_failure_rate": 0.01,
        "bad_failure_rate": 0.2,
    },
    "error_budget": 0.2,
}
PROMOTED = [
    *(f"{when}:{point}" for when in ("before", "after") for point in ("record:1", "record:2", "record:5", "put:1")),
    *(f"{when}:{point}" for when in ("before", "after") for point in ("put:3", "put:5", "release:2", "release:4")),
    *("before:registry:1", "after:registry:1", "after:registry:2", "before:tell:2", "after:tell:4", "after:lease:1"),
]
ABORTED = [
    *("after:record:1", "after:record:4", "before:record:3", "before:put:2", "after:put:2"),
    *("before:release:2", "before:registry:1", "after:registry:1"),
]
CASES = [*((point, Phase.PROMOTED) for point in PROMOTED), *((point, Phase.ABORTED) for point in ABORTED)]
FEW = ["after:put:3", "before:registry:1", "after:registry:1", "before:record:5"]


def chosen() -> list[tuple[str, Phase]]:
    """All cases, or a few of each end."""
    if os.environ.get("FAIRLEAD_KILLS") == "all":
        return CASES
    return [*((point, Phase.PROMOTED) for point in FEW), *((point, Phase.ABORTED) for point in ABORTED[1:5:3])]


@dataclass
class Live:
    """A served model with live requests, and its registry."""

    bundles: Bundles
    client: ServingClient
    registry: Registry
    seen: dict[str, Any] = field(default_factory=dict)

    def begin(self, candidate: Arm) -> str:
        """A rollout of `candidate` against the champion; its id."""
        champion = self.champion()
        plan = plan_from_spec(Rollout.model_validate(_policy()), Serve(deadline_ms=2000))
        record = new_rollout(self.bundles.store, MODEL, plan, champion, candidate, SystemClock(), "a test")
        self.registry.set_alias("candidate", candidate.version, "a test", f"rollout {record.id}")
        return record.id

    def champion(self) -> Arm:
        """The registry's champion."""
        number = self.registry.aliases()["champion"]
        return next(arm for arm in (self.bundles.first, self.bundles.second) if arm.version == number)

    def host(self, rollout: str, told: Path, point: str = "") -> subprocess.CompletedProcess[str]:
        """A process that hosts the rollout, until it ends or dies."""
        base = self.bundles.base
        arguments = [str(base / "store"), self.client.url, str(token_file(base)), MODEL, rollout, str(told)]
        environment = {**os.environ, VARIABLE: point, "PYTHONWARNINGS": "default"}
        command = [sys.executable, "-m", "fairlead.testing.rollout_host", *arguments]
        return subprocess.run(command, env=environment, cwd=base, capture_output=True, text=True, timeout=150)


def _policy() -> dict[str, Any]:
    from fairlead.spec.deploy import Canary

    latency = {"latency": "off"} if "latency" in Canary.model_fields else {}
    return {**POLICY, "canary": {**POLICY["canary"], **latency}}


@pytest.fixture(scope="module")
def live(published: Bundles, local_ray: str, ray_port: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    from fairlead.serve.ray_app import start_ray_serving, stop_ray_serving

    bundles = copy_of(published, tmp_path_factory.mktemp("kills"))
    pq.write_table(table(300), bundles.base / "live.parquet")
    registry = Registry(bundles.store, MODEL)
    for arm in (bundles.first, bundles.second, bundles.fails):
        registry.register(arm.bundle_uri, arm.digest, f"run {arm.version}", {}, "a test", "a test")
    registry.set_alias("champion", 1, "a test", "the first")
    spec = Serve(port=ray_port, deadline_ms=2000, log=RequestLog(rotate_seconds=5))
    url = start_ray_serving(spec, Release(MODEL, 1, bundles.first), "store", bundles.base, local_ray)
    ended = threading.Event()
    with ServingClient(url, read_token(token_file(bundles.base)), MODEL) as client:
        world = Live(bundles, client, registry)
        plan = TrafficPlan(url, MODEL, "live.parquet", bundles.base, FEATURES.names(), RATE)
        thread = threading.Thread(target=lambda: world.seen.update(run_traffic(plan, stop=ended.is_set)))
        thread.start()
        try:
            yield world
        finally:
            ended.set()
            thread.join(60)
    stop_ray_serving(MODEL, local_ray)
    ray.shutdown()
    print(f"\n{world.seen['sent']:,} requests, {world.seen['failed']} failed, {world.seen['late']} late")
    assert world.seen["sent"] > 100
    assert world.seen["failed"] == 0, world.seen["failures"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("point", "end"), chosen(), ids=lambda value: str(value))
def test_a_host_killed_at(point: str, end: Phase, live: Live, tmp_path: Path) -> None:
    bundles, before, told = live.bundles, live.champion(), tmp_path / "told"
    other = bundles.second if before == bundles.first else bundles.first
    rollout = live.begin(other if end is Phase.PROMOTED else bundles.fails)

    first = live.host(rollout, told, point)
    assert first.returncode == -signal.SIGKILL, f"{point} was not reached: {first.stdout}{first.stderr}"
    second = live.host(rollout, told)
    assert second.returncode == 0, second.stderr

    record = load(bundles.store, MODEL, rollout)
    assert (record.phase, second.stdout.split()[-1]) == (end, end.value), record.status
    for earlier, later in zip(record.decisions, record.decisions[1:], strict=False):
        assert later.generation > earlier.generation
        assert (later.phase_before, later.weight_before) == (earlier.phase_after, earlier.weight_after), "a gap"
    lines = [int(line) for line in told.read_text().split()]
    assert list(dict.fromkeys(lines)) == [decision.generation for decision in record.decisions], "all told, in order"
    expected = other if end is Phase.PROMOTED else before
    served = live.client.release()["applied"]
    assert live.registry.aliases() == {"champion": expected.version}
    assert (served.champion, served.candidate) == (expected, None)
    assert from_json(Release, bundles.store.read(f"releases/{MODEL}.json")) == served
    assert live.registry.verify() > 0
