"""A served model with two replicas on a real local Ray, what can happen to it, and what its clients see of that.

Used by the tests of a short form (test_serve_faults.py) and by benchmarks/faults.py, which tells the whole.
"""

import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from server_process import free_port
from tiny_models import FEATURES, ROW, table, write_bundle

from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.client import ServingClient
from fairlead.serve.ray_names import candidate_app, ingress_app
from fairlead.serve.router import on_candidate
from fairlead.serve.token import read_token, token_file
from fairlead.serve.traffic import TrafficPlan, run_traffic
from fairlead.spec.serve import RequestLog, Serve
from fairlead.store.opening import open_store
from fairlead.store.protocol import Store

MODEL = "delays"
REPLICAS = 2
POISON_DISTANCE = 666.0
"""A candidate with the fault "dies" ends its process when it sees this distance."""

FAULTS = ("raises", "hangs", "10x slow", "garbage", "100 MB", "dies")
"""What a candidate may do wrong."""

_SLOW_SECONDS = 0.005


@dataclass
class Seen:
    """What the clients of one row saw, with milliseconds of the good answers."""

    requests: int
    failed: int
    late: int
    fallbacks: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    failures: list[str] = field(default_factory=list)
    by_status: dict[str, int] = field(default_factory=dict)
    by_arm: dict[str, int] = field(default_factory=dict)
    answers: list[tuple[float, float, str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, result: dict[str, Any]) -> "Seen":
        """From the result of `run_traffic`."""
        latency = result["latency_ms"]
        return cls(
            requests=result["sent"],
            failed=result["sent"] - result["answered"],
            late=result["late"],
            fallbacks=result["fallbacks"],
            p50_ms=latency["p50"],
            p99_ms=latency["p99"],
            max_ms=latency["max"],
            failures=result["failures"],
            by_status=result["by_status"],
            by_arm=result["by_arm"],
            answers=result.get("answers", []),
        )

    def of_champion_keys(self, salt: str, weight: float) -> tuple[float, float]:
        """p50 and p99 in milliseconds of the requests whose key is not the candidate's."""
        ms = [1000 * (came - sent) for sent, came, key, _ in self.answers if not on_candidate(key, salt, weight)]
        return float(np.quantile(ms, 0.5)), float(np.quantile(ms, 0.99))


def two_replicas(port: int) -> Serve:
    """What is served unless something else is asked for. One Ray has one port."""
    log = RequestLog(rotate_seconds=1)
    return Serve(port=port, replicas=REPLICAS, deadline_ms=1000, sticky="header:x-fairlead-key", log=log)


class FaultWorld:
    """One served model and its bundles. `close` takes it down."""

    def __init__(self, base: Path, ray_address: str, spec: Serve | None = None, trips: int = 0) -> None:
        """`trips`: turns of a loop in the champion's graph, to make it slow."""
        from fairlead.serve.ray_app import start_ray_serving

        self.base, self._address = base, ray_address
        self.store: Store = open_store("store", base)
        drafts = base / "drafts"
        self.first = write_bundle(self.store, drafts, version=1, fault="hangs" if trips else "", trips=trips)
        self.second = write_bundle(self.store, drafts, version=2, bias=0.3)
        self._versions = 2
        rows = table(3000)
        pq.write_table(rows.append_column("user", [[f"user-{i}" for i in range(3000)]]), base / "live.parquet")
        self.spec = spec or two_replicas(free_port())
        url = start_ray_serving(self.spec, Release(MODEL, 1, self.first), "store", base, ray_address)
        self.client = ServingClient(url, read_token(token_file(base)), MODEL)
        self._generation = 1
        self.settle(self.spec.replicas)

    # --- what is live ------------------------------------------------------------------------------------------------
    def put(self, champion: Arm, candidate: Arm | None = None, weight: float = 0.0, shadow: float = 0.0) -> None:
        """Wish for a release, under a rollout of its own, and wait until all replicas apply it."""
        self._generation += 1
        release = Release(MODEL, self._generation, champion, candidate, weight, shadow, f"r{self._generation}")
        self.client.put_release(release)
        self.wait(lambda s: s["applied"] is not None and s["applied"].generation == self._generation)
        if candidate is not None:
            self.wait(lambda s: s["candidate_ready"])

    def wait(self, condition: Callable[[Any], bool], seconds: float = 90.0) -> None:
        """Until the control tells so."""
        deadline = time.monotonic() + seconds
        while not condition(status := self.client.release()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds:g} s: {status}")
            time.sleep(0.05)

    def settle(self, replicas: int = REPLICAS) -> None:
        """Until exactly so many replicas live, and HAProxy knows them. The control forgets a silent one after 5 s."""
        self.wait(lambda status: status["replicas"] == replicas and len(self.replicas()) == replicas)
        time.sleep(2)

    def evidence(self) -> ServingEvidence:
        """What the replicas told the control."""
        time.sleep(0.5)  # they tell it five times a second
        return self.client.evidence()

    def counted(self, metric: str, times: int = 40) -> float:
        """The largest sum that any replica tells of a counter. A scrape is answered by one of them."""
        address = f"{self.client.url}/metrics"
        found = [0.0]
        for _ in range(times):
            with urllib.request.urlopen(address, timeout=10) as answer:
                lines = answer.read().decode().splitlines()
            found.append(sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(metric)))
        return max(found)

    def new_version(self) -> Arm:
        """One more version, healthy as yet."""
        self._versions += 1
        return write_bundle(self.store, self.base / "drafts", version=self._versions, bias=self._versions / 10)

    def spoil(self, arm: Arm, fault: str) -> None:
        """Replace the candidate `arm`, which runs, by one of the same name that does what `fault` says."""
        from ray import serve

        app = serve.deployment(faulty_candidate()).options(
            name="model",
            max_ongoing_requests=64,
            ray_actor_options={"num_cpus": 0},
            graceful_shutdown_timeout_s=1,
            health_check_period_s=2,
            health_check_timeout_s=5,
            logging_config={"enable_access_log": False},
        )
        bound = app.bind(arm, self.store.uri, str(self.base), fault)
        serve.run(bound, name=candidate_app(MODEL, arm.digest), route_prefix=None, blocking=False)

    # --- requests ----------------------------------------------------------------------------------------------------
    def during(self, happens: Callable[[], object] | None, *, rate: float, requests: int, data: str = "") -> Seen:
        """What the clients see while something happens, a second after they began."""
        plan = TrafficPlan(
            self.client.url,
            MODEL,
            data or "live.parquet",
            self.base,
            FEATURES.names(),
            rate,
            requests=requests,
            sticky="user",
            keep_answers=True,
        )
        results: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: results.append(run_traffic(plan)))
        thread.start()
        try:
            if happens is not None:
                time.sleep(1)
                happens()
        finally:
            thread.join(requests / rate + 60)
        return Seen.of(results[0])

    def poisoned(self, every: int = 100) -> str:
        """The rows of the traffic, and one body again and again that kills a candidate with the fault "dies"."""
        rows = pq.read_table(self.base / "live.parquet").to_pylist()
        for index in range(0, len(rows), every):
            rows[index] = {**ROW, "at": rows[0]["at"], "distance": POISON_DISTANCE, "user": rows[index]["user"]}
        target = self.base / "poisoned.parquet"
        import pyarrow as pa

        schema = pq.read_schema(self.base / "live.parquet")
        pq.write_table(pa.Table.from_pylist([{n: r.get(n, 0) for n in schema.names} for r in rows], schema), target)
        return target.name

    # --- what happens ------------------------------------------------------------------------------------------------
    def replicas(self) -> list[int]:
        """Process ids of this model's ingress replicas."""
        title = f"ray::ServeReplica:{ingress_app(MODEL)}:ingress"
        return processes(title)

    def kill_replicas(self, times: int, every_seconds: float) -> None:
        """SIGKILL one replica after the other; each one's successor serves before the next one goes."""
        for _ in range(times):
            # A successor has a process once Ray has noticed the death; it serves once Ray has it running.
            self._until(lambda: len(self.replicas()) >= REPLICAS)
            self._until(lambda: self._running() >= REPLICAS)
            time.sleep(every_seconds)
            os.kill(self.replicas()[0], signal.SIGKILL)

    def _running(self) -> int:
        """Replicas of the ingress that Ray sends requests to."""
        from ray import serve

        ingress = serve.status().applications[ingress_app(MODEL)].deployments["ingress"]
        return ingress.replica_states.get("RUNNING", 0)

    def _until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in {seconds:g} s")
            time.sleep(0.1)

    def freeze_replica(self, seconds: float) -> None:
        """SIGSTOP one replica, and let it go on after a while."""
        victim = self.replicas()[0]
        os.kill(victim, signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            os.kill(victim, signal.SIGCONT)

    def redeploy(self, replicas: int, version: str | None = None) -> None:
        """Ray's own update of the ingress: another `version` replaces all replicas, another number scales."""
        from ray import serve

        from fairlead.serve.ray_app import ingress_deployment

        options: dict[str, Any] = {"num_replicas": replicas, "_internal": True}
        if version is not None:
            options["version"] = version
        app = ingress_deployment(self.spec).options(**options)
        token = str(token_file(self.base).resolve())
        bound = app.bind(MODEL, self.spec, self.store.uri, str(self.base), token)
        serve.run(bound, name=ingress_app(MODEL), route_prefix="/", blocking=False)
        self._until(lambda: len(self.replicas()) == replicas, 120.0)

    def scale(self, numbers: Sequence[int], every_seconds: float) -> None:
        """One number of replicas after the other."""
        for number in numbers:
            self.redeploy(number, "scaled")
            time.sleep(every_seconds)

    def swap_models(self, times: int, every_seconds: float) -> None:
        """Make the other version champion, again and again."""
        for number in range(times):
            self.put(self.first if number % 2 else self.second)
            time.sleep(every_seconds)

    def close(self) -> None:
        """Take the model down."""
        from fairlead.serve.ray_app import stop_ray_serving

        self.client.close()
        stop_ray_serving(MODEL, self._address)


def processes(title: str) -> list[int]:
    """Ids of processes with this title below the Ray that was started from here. Others of the machine may have the
    same title, and are none of ours."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "cmdline").read_bytes().split(b"\0")[0].decode("utf-8", "replace")
            state = (entry / "stat").read_text().rsplit(")", 1)[1].split()[0]
            ours = OWN_RAY.encode() in (entry / "environ").read_bytes() if name == title else False
        except OSError:
            continue
        if ours and state not in "ZX":
            found.append(int(entry.name))
    return sorted(found)


# Inherited by all processes of a Ray that is started from here.
os.environ["FAIRLEAD_FAULT_WORLD"] = str(os.getpid())
OWN_RAY = f"FAIRLEAD_FAULT_WORLD={os.getpid()}"


def faulty_candidate() -> type[Any]:
    """The deployment of a candidate, with a fault between it and its model. Made here, so that Ray carries its code."""
    from fairlead.serve import candidate_server
    from fairlead.serve.ray_candidate import CandidateModel

    class FaultyModel:
        def __init__(self, model: Any, fault: str) -> None:
            self.signature = model.signature
            self._model, self._fault = model, fault

        def predict_many(self, items: Any) -> Any:
            if self._fault == "raises":
                raise RuntimeError("raised on purpose")
            if self._fault == "hangs":
                time.sleep(3600)
            if self._fault == "10x slow":
                time.sleep(_SLOW_SECONDS)
            if self._fault == "dies" and any(row["distance"] == POISON_DISTANCE for item in items for row in item):
                os._exit(1)
            return self._model.predict_many(items)

    class FaultyCandidate(CandidateModel):
        def __init__(self, arm: Arm, store_uri: str, base: str, fault: str) -> None:
            super().__init__(arm, store_uri, base)
            batcher = self._server._batcher
            model = batcher._predict_many.__self__  # type: ignore[attr-defined]
            batcher._predict_many = FaultyModel(model, fault).predict_many
            if fault in ("garbage", "100 MB"):
                body = b"\xde\xad" * 40 if fault == "garbage" else bytes(100 * 2**20)

                def encode(call: int, seconds: float, answers: Any) -> bytes:
                    return candidate_server_frame(call, body)

                candidate_server.encode_reply = encode  # type: ignore[assignment]

    def candidate_server_frame(call: int, body: bytes) -> bytes:
        return (4 + len(body)).to_bytes(4, "little") + call.to_bytes(4, "little") + body

    return FaultyCandidate
