"""The flights project on a real cluster, by the ordinary commands: from raw files to a version promoted on evidence.

Fits are RayJobs of two workers, everything between pods goes through S3, the model is a RayService by Helm, and the
rollouts are Jobs of the cluster. 20 requests a second all the while, with their true labels a second later.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from accounts import create_account
from training_world import IMAGE as PLATFORM

import fairlead
from fairlead.kube import Cluster
from fairlead.kube.kinds import PODS
from fairlead.testing.seaweedfs import S3Server
from fairlead.wiring.rollout_job import JOBS

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "flights"
pytestmark = pytest.mark.timeout(1200)

PORT = 31831
RATE = 20
KILLS = 3
"""A Job waits 10, 20, 40, ... seconds before it makes the next pod."""
_SMALL = {"requests": {"cpu": "200m", "memory": "1Gi"}, "limits": {"memory": "3Gi"}}


class Flights:
    """The project's folder and the command line in it."""

    def __init__(self, folder: Path, cluster: Cluster, s3: S3Server) -> None:
        self.folder, self.cluster = folder, cluster
        self.environment = {**os.environ, **s3.environment, "PYTHONUNBUFFERED": "1"}
        self._write(s3)

    def _write(self, s3: S3Server) -> None:
        self.folder.mkdir(parents=True)
        chart = {
            "image": {"repository": "localhost/fairlead-serving", "tag": fairlead.__version__, "pullPolicy": "Never"},
            "store": {"endpoint": s3.endpoint, "existingSecret": "store"},
            "service": {"type": "NodePort", "nodePort": PORT},
            "ray": {"head": {"resources": _SMALL}},
        }
        (self.folder / "values.yaml").write_text(yaml.safe_dump(chart))
        project = yaml.safe_load((EXAMPLE / "fairlead.yaml").read_text())
        project["store"] = f"s3://{s3.bucket}/{self.cluster.namespace}"
        project["train"] |= {
            "launcher": "rayjob",
            "rayjob": {
                "image": PLATFORM,
                "namespace": self.cluster.namespace,
                "env_secrets": ["store"],
                "head": {"cpu": 0.2, "memory": "3GiB", "shared_memory": "128MiB"},
                "worker": {"cpu": 0.2, "memory": "3GiB", "shared_memory": "128MiB"},
            },
        }
        project["serve"]["deadline_ms"] = 2000  # two cores do all of it: requests, pods, the API server, the clients
        project["deploy"] |= {
            "on": "cluster",
            "cluster": {
                "namespace": self.cluster.namespace,
                "values": "values.yaml",
                "url": f"http://127.0.0.1:{PORT}",
                "image": f"localhost/fairlead-runner:{fairlead.__version__}",
                "env_secrets": ["store"],
            },
        }
        (self.folder / "fairlead.yaml").write_text(yaml.safe_dump(project, sort_keys=False))

    def data(self, months: range, folder: str = "data") -> None:
        """The raw files of some months."""
        command = [sys.executable, EXAMPLE / "make_data.py", self.folder / folder]
        command += ["--months", f"{months[0]}-{months[-1]}"]
        subprocess.run(command, check=True, env=self.environment, stdout=subprocess.DEVNULL)

    def run(self, *arguments: str, ok: int = 0) -> str:
        """Run a command of Fairlead and show what it says."""
        print(f"\n$ fairlead {' '.join(arguments)}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli", *arguments],
            cwd=self.folder, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
        print(f"{done.stdout}({time.monotonic() - began:.0f} s)", flush=True)
        assert done.returncode == ok, done.stdout
        return done.stdout

    def ask(self, *arguments: str) -> Any:
        """What a command answers with -o json."""
        done = subprocess.run(
            [sys.executable, "-m", "fairlead.cli", *arguments, "-o", "json"],
            cwd=self.folder, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kubectl(self, *arguments: str) -> str:
        """Run kubectl in the namespace and show what it says."""
        command = ["kubectl", "-n", self.cluster.namespace, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print(f"\n$ {' '.join(command)}\n{done.stdout}{done.stderr}", flush=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def history(self) -> list[dict[str, Any]]:
        """The release's revisions, shown as Helm shows them."""
        command = ["helm", "-n", self.cluster.namespace, "history", "flights"]
        print(subprocess.run(command, capture_output=True, text=True, check=True).stdout, flush=True)
        found: list[dict[str, Any]] = json.loads(subprocess.check_output([*command, "-o", "json"]))
        return found

    @contextlib.contextmanager
    def traffic(self) -> Iterator[dict[str, Any]]:
        """Live flights while a rollout is open; the result when it has ended."""
        result: dict[str, Any] = {}
        command = [sys.executable, "-m", "fairlead.cli", "traffic", "--data", "live/*.parquet", "--rate", str(RATE)]
        command += ["--while-rollout", "--label-delay", "1s", "-o", "json"]
        log = self.folder / "traffic.log"
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command, cwd=self.folder, env=self.environment, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
            try:
                yield result
                said, _ = process.communicate(timeout=60)
            finally:
                if process.poll() is None:
                    process.kill()
                    process.wait(30)
        assert said.strip(), log.read_text()
        result.update(json.loads(said))
        names = ("sent", "answered", "failed", "late", "fallbacks", "by_arm", "labels_sent", "latency_ms")
        print({name: result[name] for name in names}, flush=True)


@pytest.fixture(scope="module")
def flights(cluster: Cluster, cluster_s3: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Flights:
    create_account(cluster, "fairlead-rollout")
    return Flights(tmp_path_factory.mktemp("flights") / "project", cluster, cluster_s3)


def ended_job(flights: Flights, kills: int = 0, seconds: float = 900.0) -> int:
    """Wait for the rollout's Job, deleting its pod by force at `kills` random moments; how often that was done."""
    seed = 11
    print(f"seed {seed}")
    dice, killed, deadline = random.Random(seed), 0, time.monotonic() + seconds
    next_kill = time.monotonic() + dice.uniform(4, 12)
    while True:
        job = max(flights.cluster.list(JOBS), key=lambda each: str(each["metadata"]["creationTimestamp"]))
        if any(each["type"] in ("Complete", "Failed") for each in job["status"].get("conditions") or []):
            return killed
        assert time.monotonic() < deadline, flights.kubectl("logs", f"job/{job['metadata']['name']}", "--tail=50")
        pods = flights.cluster.list(PODS, labels=f"job-name={job['metadata']['name']}")
        running = [
            pod["metadata"]["name"]
            for pod in pods
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]
        if running and killed < kills and time.monotonic() > next_kill:
            flights.cluster.delete(PODS, running[0], grace_seconds=0)
            killed += 1
            next_kill = time.monotonic() + dice.uniform(4, 12)
        time.sleep(0.5)


def test_version_1_is_trained_by_pods_and_served_by_helm(flights: Flights) -> None:
    flights.data(range(1, 8))
    flights.data(range(9, 10), "live")
    flights.run("run", "--to", "register")
    flights.run("deploy", "--version", "1")
    flights.kubectl("get", "rayservice,rayjob,pods", "-o", "wide")
    assert flights.ask("model", "show", "champion")["number"] == 1
    assert flights.history()[-1]["description"] == "first deployment"


def test_version_2_is_promoted_by_a_job_whose_pod_is_deleted(flights: Flights) -> None:
    flights.data(range(8, 9))
    dates = {"validation": "2013-07-01", "test": "2013-08-01", "until": "2013-09-01"}
    flights.run("run", "--to", "register", *[f"--set=data.split.{name}={day}" for name, day in dates.items()])
    before = {pod["metadata"]["uid"] for pod in flights.cluster.list(PODS, labels="ray.io/serve=true")}
    with flights.traffic() as traffic:
        flights.run("rollout", "start", "--version", "2", "--in-cluster")
        killed = ended_job(flights, KILLS)
    print(f"the pod of the Job was deleted {killed} times")
    flights.run("rollout", "why")
    history = [line["description"] for line in flights.history() if line["description"].startswith("rollout ")]
    flights.kubectl("get", "rayservice,rayjob,jobs,pods")
    flights.kubectl("get", "events", "--field-selector", "involvedObject.kind=RayService")
    rollout = flights.ask("rollout", "get")
    assert rollout["phase"] == "promoted", rollout["decisions"][-1]
    assert killed == KILLS
    assert traffic["sent"] == traffic["answered"] > 1000
    assert (traffic["failed"], traffic["fallbacks"]) == (0, 0)
    assert flights.ask("model", "show", "champion")["number"] == 2
    told = [line.split(":")[0] for line in history]
    assert len(told) == len(set(told)) >= 5, "start, shadow, 10 %, 50 %, promotion, each told once"
    assert {pod["metadata"]["uid"] for pod in flights.cluster.list(PODS, labels="ray.io/serve=true")} == before


def test_version_3_fails_for_some_carriers_and_is_rolled_back(flights: Flights) -> None:
    folder = flights.folder / "broken"
    champion = flights.ask("model", "show", "champion")
    subprocess.run(
        [sys.executable, EXAMPLE / "break_graph.py", champion["bundle_folder"], folder, "--carriers", "UA,B6"],
        check=True, env=flights.environment, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    flights.run("model", "register", str(folder), "--why", "re-export of version 2")
    shutil.rmtree(folder)
    with flights.traffic() as traffic:
        flights.run("rollout", "start", "--version", "3", "--in-cluster", "--set", "deploy.rollout.shadow=off")
        ended_job(flights)
    flights.run("rollout", "why")
    flights.history()
    rollout = flights.ask("rollout", "get")
    assert rollout["phase"] == "aborted"
    assert rollout["candidate_requests_at_decision"] <= 40
    assert traffic["failed"] == 0, "the champion answered instead"
    assert flights.ask("model", "show", "champion")["number"] == 2
