"""A small project of real parts: generated rows, a network trained here, one server process, real requests."""

import contextlib
import importlib.util
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.wiring import steps
from fairlead.wiring.context import Context, open_context
from fairlead.wiring.traffic import send_traffic

REPOSITORY = Path(__file__).parents[2]
PLANS = ("basic", "plus", "pro")
PROJECT = """
project: orders
data:
  source: rows.parquet
  label: {column: late, task: binary, positive: "yes"}
  split: {by: random, validation: 20%, test: 25%}
  validate: {schema: schema.yaml, max_rejected: 1%}
features: {numeric: [weight, distance], categorical: {plan: {}}}
train: {launcher: inprocess, workers: 1, global_batch: 64, epochs: 3, preflight: false}
evaluate:
  baselines: false
  bootstrap: 50
  gates: [{metric: auc, min: 0.6}]
serve: {backend: process, port: PORT, deadline_ms: 2000, log: {rotate_seconds: 1}}
deploy:
  rollout:
    shadow: {min_requests: 150, max_flip_rate: 0.5, max_score_difference: 0.6}
    steps: [20, 50]
    canary:
      min_requests: 60
      max_error_rate_increase: 0.3
      max_loss_increase: 0.3
      max_slow_rate: 0.5
      healthy_failure_rate: 0.01
      bad_failure_rate: 0.2
    error_budget: 0.2
"""


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def rows(count: int, seed: int) -> pa.Table:
    """Deliveries; `late` depends on weight, distance and plan, with noise."""
    rng = np.random.default_rng(seed)
    weight, distance = rng.gamma(2.0, 3.0, count), rng.normal(50, 20, count)
    plan = rng.choice(PLANS, count, p=[0.5, 0.3, 0.2])
    odds = 0.4 * (weight - 6) + 0.05 * (distance - 50) - 1.5 * (plan == "pro") + rng.logistic(0, 0.8, count)
    return pa.table(
        {
            "weight": [None if rng.random() < 0.05 else round(float(w), 3) for w in weight],
            "distance": distance.round(2),
            "plan": plan,
            "late": np.where(odds > 0, "yes", "no"),
        }
    )


class World:
    """One project on disk, seen through the command line."""

    def __init__(self, base: Path, capsys: Any = None) -> None:
        self.base, self.file = base, base / "fairlead.yaml"
        self.capsys = capsys

    @classmethod
    def make(cls, base: Path, count: int = 1600) -> "World":
        """Write the rows, the live rows and the project file."""
        base.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows(count, 1), base / "rows.parquet")
        pq.write_table(rows(2000, 2), base / "live.parquet")
        world = cls(base)
        world.file.write_text(PROJECT.replace("PORT", str(free_port())))
        return world

    def copy(self, to: Path) -> "World":
        """The same project with all that it has made so far, on a port of its own and with nothing running."""
        shutil.copytree(self.base, to)
        shutil.rmtree(to / ".fairlead" / "serve", ignore_errors=True)
        copied = World(to)
        old = open_context(copied.file).project.serve.port
        copied.file.write_text(copied.file.read_text().replace(f"port: {old}", f"port: {free_port()}"))
        return copied

    def context(self, run: str = "", *overrides: str) -> Context:
        """The wiring's view of it."""
        return open_context(self.file, overrides, run)

    def cli(self, capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
        """Exit code and JSON result of a command line."""
        capsys.readouterr()
        code = main([*words, "-f", str(self.file), "-o", "json"])
        return code, json.loads(capsys.readouterr().out)

    def version(self, run: str, *overrides: str, noise: bool = True) -> int:
        """Validate, prepare, train, evaluate, register; returns the version's number."""
        extra = overrides if noise else (*overrides, "train.retraining_noise=false")
        context = self.context(run, *extra).to_json()
        source = steps.validate(context)["source_fingerprint"]
        fingerprint = steps.prepare(context, source)["fingerprint"]
        draft = steps.train(context, fingerprint)["draft"]
        judged = steps.evaluate(context, fingerprint, draft)
        return int(steps.register(context, judged["bundle_uri"], judged["digest"], fingerprint)["version"])

    @contextlib.contextmanager
    def traffic(self, rate: float = 300.0) -> Iterator[dict[str, Any]]:
        """Real requests with labels from another thread, until the rollout that starts meanwhile has ended.

        The dict has what the clients saw once the context is left."""
        seen: dict[str, Any] = {}

        def send() -> None:
            seen.update(
                send_traffic(
                    self.context(),
                    data="live.parquet",
                    rate=rate,
                    seconds=None,
                    requests=None,
                    while_rollout=True,
                    label_delay=0.2,
                    sticky=None,
                    url=None,
                    seed=3,
                    say=lambda text: None,
                )
            )

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        yield seen
        thread.join(timeout=60)
        assert not thread.is_alive()

    def broken_bundle(self, source: Path, plan: str) -> Path:
        """The bundle in `source` with a graph that reads beyond a table for one plan: every digest fits."""
        from fairlead.bundle.bundle import Bundle, seal
        from fairlead.features.transform import Transform

        spec = importlib.util.spec_from_file_location("break_graph", REPOSITORY / "examples/flights/break_graph.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        bundle, output = Bundle.load(source), self.base / "broken"
        shutil.copytree(source, output)
        transform = Transform.from_json((output / "transform.json").read_bytes())
        tensor = next(tensor for tensor in transform.tensors if tensor.name == "categorical")
        row = {field.name: None for field in transform.fields} | {"plan": plan}
        column = tensor.columns.index("plan")
        index = int(transform.apply_rows([row])["categorical"][0, column])
        model = onnx.load(output / "model.onnx")
        onnx.save(module.break_graph(model, column, tensor.cardinalities[column], [index]), output / "model.onnx")
        card = (output / "card.md").read_text()
        (output / "manifest.json").unlink()
        seal(output, bundle.manifest.model, lineage=bundle.manifest.lineage, calibration=bundle.calibration, card=card)
        return output
