"""The train step: a fitted network becomes a draft of a bundle."""

import hashlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

from fairlead.atomic import write_atomic
from fairlead.bundle.signature import signature_for
from fairlead.dataset import PreparedData, fetch_prepared
from fairlead.errors import ExtraMissing
from fairlead.features.transform import Transform
from fairlead.records.codec import to_json
from fairlead.reports.model import KeyValues, LineChart, Report, Section
from fairlead.store.archives import publish_folder
from fairlead.train.progress import TrainProgress
from fairlead.train.remote import Remote
from fairlead.train.request import FitRequest, FitResult
from fairlead.wiring.context import Context
from fairlead.wiring.drafts import publish_draft, twin_path
from fairlead.wiring.progress import StepProgress
from fairlead.wiring.steps import Outcome


def run_train(context: Context, progress: StepProgress, fingerprint: str) -> Outcome:
    """Fit (or take up an interrupted fit of the same data and configuration) and write the draft."""
    data = fetch_prepared(context.store, fingerprint, context.home / "cache" / "prepared")
    key = train_key(context, fingerprint)
    result = fit_network(context, data, key, progress)
    draft = write_draft(context, data, result, context.home / "drafts" / key)
    facts = {
        "draft": publish_draft(context, draft),
        "weights_sha256": result.weights_sha256,
        "steps": result.steps,
        "workers": result.workers,
        "resumed_from_step": result.resumed_from_step,
        "onnx_parity": result.parity_max_abs,
    }
    last = result.history[-1] if result.history else {}
    resumed = f", resumed from step {result.resumed_from_step:,}" if result.resumed_from_step else ""
    return Outcome(
        facts=facts,
        summary=f"{result.steps:,} steps on {result.workers} worker(s) in {result.seconds:.0f} s{resumed}; "
        f"validation loss {float(last.get('validation_loss', float('nan'))):.4f}",
        reads={"prepared": [fingerprint]},
        writes={"weights": [result.weights_sha256], "draft": [key]},
        metrics={name: float(value) for name, value in last.items() if isinstance(value, int | float)},
        report=training_report(context, result),
        seed=context.project.train.seed,
    )


def train_key(context: Context, fingerprint: str) -> str:
    """The name of this fit: the same data, features, configuration and project code give the same one."""
    project = context.project
    # Where it runs is no part of what it is: a fit that failed for want of memory goes on in larger pods.
    parts = [fingerprint, project.train.model_dump_json(exclude={"rayjob"}), project.features.model_dump_json()]
    if ":" in project.train.model:
        sources = sorted(path for path in context.base.glob("*.py") if path.is_file())
        parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in sources]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:24]


def fit_network(context: Context, data: PreparedData, key: str, progress: StepProgress) -> FitResult:
    """Run `fairlead.train.fit` where the project file says."""
    try:
        from fairlead.train.fit import fit
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"training needs {error.name}, which is not installed", fix="pip install 'fairlead[train]'"
        ) from error
    manifest = data.manifest
    train = context.project.train
    address = None
    if train.launcher == "ray" or (train.launcher == "auto" and train.workers > 1):
        from fairlead.wiring.local_ray import ensure_local_ray

        progress("starting Ray")
        address = ensure_local_ray(context.base)
    request = FitRequest(
        train=train,
        data=data.folder,
        task=manifest.task,
        num_classes=len(manifest.label_classes),
        run=context.home / "train" / key,
        project_dir=context.base,
        ray_address=address,
        remote=_remote(context, manifest.fingerprint, key) if train.launcher == "rayjob" else None,
        project=context.project.project,
        run_id=context.run,
    )

    def tell(event: TrainProgress) -> None:
        progress(event.sentence(), event.share)

    return fit(request, tell)


def _remote(context: Context, fingerprint: str, key: str) -> Remote:
    """Where pods find data, project and each other's checkpoints."""
    source = context.project.data.source
    sources = (source,) if isinstance(source, str) else tuple(source)
    archive = publish_folder(context.store, context.base, [name for name in sources if "://" not in name])
    return Remote(context.store.uri, f"fits/{context.project.project}/{key}", fingerprint, archive)


def write_draft(context: Context, data: PreparedData, result: FitResult, folder: Path) -> Path:
    """The folder that evaluation seals: network, transform, signature, statistics, and the twin for the noise."""
    staging = folder.with_name(folder.name + ".partial")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    transform_json = data.transform_json()
    transform = Transform.from_json(transform_json)
    manifest = data.manifest
    shutil.copyfile(result.onnx, staging / "model.onnx")
    write_atomic(staging / "transform.json", transform_json)
    signature = signature_for(transform.fields, manifest.task, manifest.label_classes)
    write_atomic(staging / "signature.json", to_json(signature))
    known = data.statistics()
    columns = {field.name: known.columns[field.name] for field in transform.fields if field.name in known.columns}
    write_atomic(staging / "statistics.json", to_json(replace(known, columns=columns)))
    if result.twin_onnx is not None:
        shutil.copyfile(result.twin_onnx, twin_path(folder))
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return folder


def training_report(context: Context, result: FitResult) -> Report:
    """Curves and facts of one fit."""
    series: dict[str, list[tuple[float, float]]] = {}
    for name in ("train_loss", "validation_loss", "validation_auc"):
        points = [(float(e["epoch"]), float(e[name])) for e in result.history if e.get(name) is not None]
        if points:
            series[name.replace("_", " ")] = points
    train = context.project.train
    losses = {name: points for name, points in series.items() if "loss" in name}
    quality = {name: points for name, points in series.items() if "loss" not in name}
    blocks = [LineChart(title="Loss", series=losses, x_label="epoch", y_label="loss")]
    if quality:
        blocks.append(LineChart(title="Validation", series=quality, x_label="epoch", y_label="AUC"))
    facts = KeyValues(
        items=(
            ("Model", train.model),
            ("Steps", f"{result.steps:,}"),
            ("Workers", f"{result.workers} ({result.device})"),
            ("Precision", train.precision),
            ("Global batch", f"{train.global_batch:,} rows"),
            ("Time", f"{result.seconds:.1f} s"),
            ("Resumed from step", str(result.resumed_from_step) if result.resumed_from_step is not None else "no"),
            ("Weights", f"sha256:{result.weights_sha256}"),
            ("ONNX against PyTorch", f"largest difference {result.parity_max_abs:.2e}"),
        )
    )
    return Report(
        title=f"Training of {context.project.project}",
        subtitle=f"run {context.run or 'manual'}, Python {sys.version.split()[0]}",
        sections=(Section(title="Facts", blocks=(facts,)), Section(title="Curves", blocks=tuple(blocks))),
    )
