"""Steps per second and time to the first step of Fairlead under Ray Train, beside torchrun with the same loop.

    python benchmarks/train.py --rounds 5

Both run `fairlead.train.worker.work` with the same job on two workers; only what starts them differs. Rounds are
interleaved, medians are reported. Steps per second are counted from the first step's end to the last one's, so they
hold the cost of a launcher while training runs; the time to the first step holds the cost of starting: for Fairlead
with a Ray that is up already (as after `fairlead up`) and for torchrun the whole command.
"""

import argparse
import contextlib
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairlead.dataset import LABEL, DatasetWriter
from fairlead.features.transform import Transform
from fairlead.records.data import DatasetManifest
from fairlead.spec.features import Features
from fairlead.spec.train import Train
from fairlead.train.worker import Job

_FEATURES = Features(numeric=tuple(f"x{i}" for i in range(12)), categorical=("a", "b", "c"))
_TRAIN = Train(workers=2, global_batch=2048, epochs=4, learning_rate=0.003, retraining_noise=False, preflight=False)
_GOAL = 0.95

_HOLDER = """
import ray, sys
context = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
print(context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""

_RAY = """
import sys
from pathlib import Path
from fairlead.train.ray_launcher import launch
from fairlead.train.worker import Job
launch(Job.from_json(Path(sys.argv[1]).read_text()), sys.argv[2], use_gpu=False)
"""

_TORCHRUN = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from fairlead.train.worker import Job, work
from fairlead.train.workers import Workers
dist.init_process_group("gloo")
work(Job.from_json(Path(sys.argv[1]).read_text()), Workers(dist.get_rank(), dist.get_world_size(), torch.device("cpu")))
dist.destroy_process_group()
"""


def prepare(folder: Path, rows: int) -> Path:
    """Prepared data of 12 numbers and 3 categories with a binary label."""
    rng = np.random.default_rng(7)
    numbers = {f"x{i}": rng.normal(size=rows) for i in range(12)}
    codes = {name: rng.integers(0, size, rows) for name, size in (("a", 16), ("b", 100), ("c", 24))}
    label = (numbers["x0"] * numbers["x1"] + 0.3 * (codes["a"] % 3) + rng.normal(size=rows) > 0.3).astype(np.int64)
    words = {name: pa.array([f"{name}{code}" for code in values]) for name, values in codes.items()}
    table = pa.table({**numbers, **words, LABEL: label})
    manifest = DatasetManifest(
        "", "bench", "binary", "label", ("no", "yes"), {}, _FEATURES.names(), (), (), "random", {}, rows, 0, 0, 0, ""
    )
    with DatasetWriter(folder) as writer:
        writer.write("train", table)
        writer.write("validation", table.slice(0, rows // 20))
        writer.add_file("transform.json", Transform.fit(table.to_batches(), _FEATURES).to_json())
        return writer.finish(manifest).folder


@contextlib.contextmanager
def local_ray() -> Iterator[tuple[str, dict[str, str]]]:
    """A local Ray for as long as the benchmark takes: its address, and the environment that lets one in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-c", _HOLDER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    ) as holder:
        if holder.stdout is None or not (address := holder.stdout.readline().strip()):
            raise SystemExit("the local Ray did not start")
        yield address, environment
        holder.communicate()


def measure(command: list[str], environment: dict[str, str], run: Path) -> dict[str, float]:
    """Run one training to its end and read its times."""
    started = time.time()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} ended with exit code {done.returncode}:\n{done.stderr[-2000:]}")
    facts = json.loads((run / "main" / "trained.json").read_bytes())
    times = facts["times"]
    return {
        "steps_per_second": (facts["steps"] - 1) / (times["last_step_at"] - times["first_step_at"]),
        "first_step_seconds": times["first_step_at"] - started,
    }


def measure_all(folder: Path, data: Path, rounds: int) -> dict[str, list[dict[str, float]]]:
    """Interleaved rounds of both launchers."""
    found: dict[str, list[dict[str, float]]] = {"fairlead on Ray": [], "torchrun": []}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    (folder / "worker.py").write_text(_TORCHRUN)
    with local_ray() as (address, ray_environment):
        plain = {**os.environ, "OMP_NUM_THREADS": "1"}
        for round_number in range(-1, rounds):  # the first round warms up caches of the disk and is not counted
            for name in found if round_number % 2 else reversed(found):
                run = folder / "run"
                shutil.rmtree(run, ignore_errors=True)
                job = folder / "job.json"
                job.write_text(Job(_TRAIN, data, "binary", 2, run, folder).to_json())
                if name == "torchrun":
                    command, environment = [*torchrun, str(folder / "worker.py"), str(job)], plain
                else:
                    command, environment = [sys.executable, "-c", _RAY, str(job), address], ray_environment
                result = measure(command, environment, run)
                print(f"round {round_number + 1}: {name}: {result}", file=sys.stderr, flush=True)
                if round_number >= 0:
                    found[name].append(result)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the training split (default: 200,000)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        found = measure_all(folder, prepare(folder / "data", arguments.rows), arguments.rounds)
    medians: dict[str, Any] = {
        launcher: {metric: round(statistics.median(r[metric] for r in results), 3) for metric in results[0]}
        for launcher, results in found.items()
    }
    # Each round's two runs share what else the machine does: their ratio is steadier than the ratio of medians.
    pairs = zip(found["fairlead on Ray"], found["torchrun"], strict=True)
    ratio = statistics.median(ours["steps_per_second"] / theirs["steps_per_second"] for ours, theirs in pairs)
    goal = {"name": "training on Ray Train, steps per second against torchrun", "value": round(ratio, 4)}
    print(
        json.dumps(
            {
                "rounds": arguments.rounds,
                "rows": arguments.rows,
                "medians": medians,
                "rounds_measured": found,
                "goals": [goal | {"goal": f">= {_GOAL}", "met": ratio >= _GOAL}],
            }
        )
    )


if __name__ == "__main__":
    main()
