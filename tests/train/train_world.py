"""Small prepared data sets, jobs and builders for the tests of training."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fairlead.dataset import LABEL, DatasetWriter, PreparedData
from fairlead.features.transform import Transform
from fairlead.records.data import DatasetManifest
from fairlead.spec.features import Features
from fairlead.spec.train import Train
from fairlead.train.worker import Job, read_trained, work
from fairlead.train.workers import Workers

# The tests share the machine; threads that wait for each other there cost more than they win.
torch.set_num_threads(1)

ALONE = Workers(0, 1, torch.device("cpu"))

FEATURES = Features(numeric=("x", "y", "noise"), categorical=("colour",))


def table(rows: int, seed: int, task: str = "binary") -> pa.Table:
    """Rows whose label follows from x * y and the colour, with some values missing."""
    random = np.random.default_rng(seed)
    x, y, noise = random.normal(size=(3, rows))
    colour = random.choice(["red", "green", "blue"], size=rows)
    strength = 2 * x * y + np.where(colour == "red", 1.5, -0.5) + 0.1 * random.normal(size=rows)
    label = {
        "binary": (strength > 0).astype(np.int64),
        "multiclass": np.digitize(strength, [-1.0, 1.0]).astype(np.int64),
        "regression": 1000.0 + 50.0 * strength,
    }[task]
    missing = random.random(rows) < 0.1
    return pa.table(
        {
            "x": pa.array(x),
            "y": pa.array(y),
            "noise": pa.array(noise, mask=missing),
            "colour": pa.array(colour),
            LABEL: pa.array(label),
        }
    )


def write(folder: Path, splits: dict[str, pa.Table], features: Features, task: str, row_group_rows: int) -> Path:
    """A prepared data set in `folder` with the given rows."""
    transform = Transform.fit(splits["train"].to_batches(), features)
    classes = {"binary": ("no", "yes"), "multiclass": ("low", "middle", "high"), "regression": ()}.get(task, ())
    manifest = DatasetManifest(
        fingerprint="",
        project="world",
        task=task,
        label="label",
        label_classes=classes,
        schema={},
        features=features.names(),
        shards=(),
        sources=(),
        split_by="random",
        boundaries={},
        rows_read=sum(rows.num_rows for rows in splits.values()),
        rows_rejected=0,
        rows_unlabelled=0,
        rows_duplicate=0,
        transform_sha256="",
    )
    with DatasetWriter(folder, row_group_rows=row_group_rows) as writer:
        for split, rows in splits.items():
            writer.write(split, rows)
        writer.add_file("transform.json", transform.to_json())
        return writer.finish(manifest).folder


def prepared(folder: Path, rows: int = 600, task: str = "binary", row_group_rows: int = 100, seed: int = 1) -> Path:
    """A prepared data set of `rows` training rows."""
    splits = {"train": table(rows, seed, task), "validation": table(200, seed + 1, task)}
    return write(folder, splits, FEATURES, task, row_group_rows)


def train_spec(**changes: Any) -> Train:
    """A quick training."""
    values: dict[str, Any] = {
        "global_batch": 64,
        "epochs": 3,
        "learning_rate": 0.01,
        "model_options": {"hidden": (16,), "members": 2},
        "retraining_noise": False,
        "preflight": False,
        "checkpoint": {"every_steps": 4, "keep": 2},
    }
    return Train.model_validate(values | changes)


def job(folder: Path, data: Path, task: str = "binary", **changes: Any) -> Job:
    """A job whose run folder is `folder`/run and whose project is `folder`."""
    manifest = PreparedData(data).manifest
    return Job(train_spec(**changes), data, task, len(manifest.label_classes), folder / "run", folder)


def trained(job: Job, name: str = "main") -> dict[str, Any]:
    """Train in this process and give what trained.json says."""
    work(job, ALONE)
    facts = read_trained(job.run / name)
    assert facts is not None
    return facts


def progress_notes(run: Path) -> list[str]:
    """What the side file says in words."""
    lines = (run / "progress.jsonl").read_text().splitlines()
    return [note for note in (json.loads(line)["note"] for line in lines) if note]
