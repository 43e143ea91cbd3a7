"""The evaluate step: calibrate on validation, judge on test, seal the bundle with what was found."""

import json
import shutil
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fairlead.atomic import write_atomic
from fairlead.bundle.bundle import publish, seal
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.runtime import Predictor
from fairlead.clock import SystemClock
from fairlead.data.balance import balanced
from fairlead.dataset import LABEL, WEIGHT, PreparedData, fetch_prepared
from fairlead.dataset.weights import unless_alike
from fairlead.errors import FairleadError
from fairlead.evaluate.baselines import BaselineData
from fairlead.evaluate.calibration import calibration_facts, fit_calibration
from fairlead.evaluate.card import model_card
from fairlead.evaluate.evaluation import EvaluateRequest, evaluate
from fairlead.evaluate.report import evaluation_report
from fairlead.evaluate.threshold import choose_threshold
from fairlead.records.codec import from_json, to_json, to_value
from fairlead.records.data import Statistics
from fairlead.records.evaluation import Evaluation
from fairlead.records.model import Signature
from fairlead.registry.environment import code_version, environment_facts
from fairlead.wiring.context import Context
from fairlead.wiring.drafts import fetch_draft
from fairlead.wiring.models import champion_bundle
from fairlead.wiring.noise_floor import NoiseFloor, measure_noise
from fairlead.wiring.progress import StepProgress
from fairlead.wiring.steps import Outcome

_LATENCY_CALLS = 200


def run_evaluate(context: Context, progress: StepProgress, fingerprint: str, draft: str) -> Outcome:
    """Calibration and threshold come from the validation split, every reported number from the test split."""
    data = fetch_prepared(context.store, fingerprint, context.home / "cache" / "prepared")
    folder = fetch_draft(context, draft)
    spec = context.project.evaluate
    manifest = data.manifest

    progress("calibrating", 0.05)
    predictor = Predictor.of_draft(folder)
    chosen = choose_on_validation(context, data, folder, predictor)

    progress("scoring the test split", 0.2)
    test = data.table("test")
    scores = chosen.calibration.apply(predictor.predict_table(test).logits)
    champion = champion_bundle(context)
    champion_scores, champion_why = score_with_champion(champion, test)

    progress("baselines and gates", 0.3)
    request = EvaluateRequest(
        spec=spec,
        task=manifest.task,
        classes=manifest.label_classes,
        scores=scores,
        labels=test[LABEL].to_numpy(),
        threshold=chosen.threshold,
        weights=row_weights(test),
        slices={name: column_values(test, name) for name in slice_columns(context, data)},
        baseline_data=baseline_data(context, data, test) if spec.baselines else None,
        champion_scores=champion_scores,
        champion=f"version {champion.version}" if champion else None,
        champion_why=champion_why,
        champion_threshold=champion.bundle.signature.threshold if champion else None,
        latency_ms=single_row_latency_ms(predictor, test),
        size_mb=(folder / "model.onnx").stat().st_size / 1e6,
        calibration=chosen.facts,
    )
    result = evaluate(request)

    progress("sealing the bundle", 0.95)
    sealed = seal_draft(context, data, folder, result, chosen.calibration, chosen.threshold, chosen.noise)
    uri = publish(context.store, sealed.folder, context.project.project)
    facts: dict[str, Any] = {
        "bundle_uri": uri,
        "digest": sealed.digest,
        "passed": result.passed,
        "retraining_noise": chosen.noise.retraining,
        "numeric_noise": chosen.noise.numeric,
        "gates": [to_value(gate) for gate in result.gates],
        "roc": roc_points(result),
        "confusion": {"labels": list(result.classes), "matrix": [list(row) for row in result.confusion]},
    }
    return Outcome(
        facts=facts,
        summary=headline(result),
        reads={"prepared": [fingerprint], "draft": [folder.name]},
        writes={"bundle": [sealed.digest]},
        metrics={name: value.value for name, value in result.metrics.items() if value.value is not None},
        report=evaluation_report(
            result, f"Evaluation of {context.project.project}", run=context.run, split_by=manifest.split_by
        ),
        seed=spec.seed,
    )


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the validation split decides: calibration, with what it changed there (`facts`), the threshold (binary
    only), and how far models differ that ought to be alike."""

    calibration: Calibration
    facts: dict[str, float]
    threshold: float | None
    noise: NoiseFloor


def choose_on_validation(context: Context, data: PreparedData, folder: Path, predictor: Predictor) -> Chosen:
    """Fit the calibration, choose the threshold and measure the noise floor of the draft in `folder`."""
    spec, task = context.project.evaluate, data.manifest.task
    rows = data.table("validation")
    logits = predictor.predict_table(rows).logits
    labels, weights = rows[LABEL].to_numpy(), row_weights(rows)
    calibration = fit_calibration(spec.calibration, logits, labels, task, weights)
    threshold = None
    if task == "binary":
        threshold = choose_threshold(spec.threshold, calibration.apply(logits), labels, weights)
    noise = measure_noise(
        folder, rows, logits, calibration,
        threshold=threshold,
        slices={name: column_values(rows, name) for name in slice_columns(context, data)},
        min_rows=spec.slices.min_rows,
    )  # fmt: skip
    return Chosen(calibration, calibration_facts(calibration, logits, labels, weights), threshold, noise)


def headline(result: Evaluation) -> str:
    """One line for a person."""
    name = {"binary": "auc", "multiclass": "accuracy", "regression": "rmse"}[result.task]
    metric = result.metrics.get(name)
    value = f"{name} {metric.value:.4f}" if metric and metric.value is not None else f"{name} not available"
    if metric and metric.interval:
        value += f" ({metric.interval.low:.4f} to {metric.interval.high:.4f})"
    failed = [gate.name for gate in result.gates if gate.verdict.value != "PASS"]
    verdict = (
        f"{len(result.gates)} of {len(result.gates)} gates passed" if not failed else f"failed: {'; '.join(failed)}"
    )
    return f"{value} on {result.rows:,} test rows; {verdict}"


def score_with_champion(champion: Any, test: pa.Table) -> tuple[np.ndarray | None, str]:
    """The champion's scores on the same rows, or None and why they cannot be had."""
    if champion is None:
        return None, "there is no champion"
    try:
        return Predictor(champion.bundle).predict_table(test).scores, ""
    except FairleadError as error:
        return None, f"version {champion.version} cannot score these rows: {error.what}"


def slice_columns(context: Context, data: PreparedData) -> list[str]:
    """Declared slice columns, and those that a gate by slice names."""
    declared = [*context.project.evaluate.slices.columns]
    declared += [gate.slice for gate in context.project.evaluate.gates if gate.slice]
    return [name for name in dict.fromkeys(declared) if name in data.manifest.schema]


def row_weights(table: pa.Table) -> np.ndarray | None:
    """How much each row counts in every metric; None: alike, as where nothing else is declared (data.weight)."""
    if WEIGHT not in table.column_names:
        return None
    return unless_alike(table[WEIGHT].to_numpy())


def column_values(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array of str; missing values are the slice "(missing)"."""
    values = table[name].cast(pa.string()).fill_null("(missing)")
    return np.asarray(values.to_pylist(), dtype=object)


def baseline_data(context: Context, data: PreparedData, test: pa.Table) -> BaselineData:
    """Raw features, labels and weights of train and test for the baselines.

    The weights of data.balance are taken out again: the test rows are as they are, and a baseline that was told to
    think a rare class frequent would be worse than what anybody could have had for less."""
    features = context.project.features
    columns = [*features.numeric, *features.categorical, *features.datetime]
    weighted = WEIGHT in test.column_names
    train = data.table("train", [*columns, LABEL, *([WEIGHT] if weighted else [])])
    weights = row_weights(train)
    declared, label = context.project.data, data.manifest
    if weights is not None and declared.balance.weighs:
        codes, classes = train[LABEL].to_numpy(), len(label.label_classes)
        _, worth = balanced(declared.balance, codes, classes, declared.split.seed, label.label)
        weights = weights if worth is None else unless_alike(weights / worth)
    return BaselineData(
        train=train.select(columns),
        train_labels=train[LABEL].to_numpy(),
        test=test.select(columns),
        test_labels=test[LABEL].to_numpy(),
        numeric=tuple(features.numeric),
        categorical=tuple(features.categorical),
        datetime={name: options.parts for name, options in features.datetime_options().items()},
        train_weights=weights,
        test_weights=row_weights(test),
    )


def single_row_latency_ms(predictor: Predictor, test: pa.Table) -> float:
    """Median time of one prediction of one row, in milliseconds."""
    rows = test.slice(0, min(_LATENCY_CALLS, test.num_rows)).to_pylist()
    times = []
    for row in rows:
        started = time.perf_counter()
        predictor.predict_rows([row])
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def roc_points(result: Evaluation) -> dict[str, list[float]]:
    """The ROC curve as Kubeflow's ClassificationMetrics takes it."""
    points = result.curves.get("roc", ())
    step = max(1, len(points) // 100)
    thin = list(points[::step])
    return {
        "fpr": [x for x, _ in thin],
        "tpr": [y for _, y in thin],
        "thresholds": [round(1 - i / max(1, len(thin) - 1), 6) for i in range(len(thin))],
    }


class Sealed:
    """A sealed bundle on this machine."""

    def __init__(self, folder: Path, digest: str) -> None:
        self.folder, self.digest = folder, digest


def seal_draft(
    context: Context,
    data: PreparedData,
    draft: Path,
    result: Evaluation,
    calibration: Calibration,
    threshold: float | None,
    noise: NoiseFloor,
) -> Sealed:
    """Copy the draft, write what evaluation found into it, and seal."""
    folder = context.run_folder / "bundle"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in sorted(draft.iterdir()):  # not copytree, whose error does not tell a full disk from any other
        shutil.copyfile(path, folder / path.name)
    signature = from_json(Signature, (folder / "signature.json").read_bytes())
    write_atomic(folder / "signature.json", to_json(replace(signature, threshold=threshold)))
    statistics_ = from_json(Statistics, (folder / "statistics.json").read_bytes())
    measured = replace(
        statistics_,
        retraining_noise=noise.retraining,
        retraining_flips=noise.retraining_flips,
        numeric_noise=noise.numeric,
        slice_noise=noise.slices,
    )
    write_atomic(folder / "statistics.json", to_json(measured))
    write_atomic(folder / "evaluation.json", to_json(result))
    lineage = {
        "data_fingerprint": data.manifest.fingerprint,
        "code_version": code_version(context.base),
        "config_sha256": context.loaded.sha256,
        "environment": environment_facts(),
        "seed": context.project.train.seed,
        "run": context.run or "manual",
        "sources": [file.uri for file in data.manifest.sources],
    }
    card = model_card(
        model=context.project.project,
        evaluation=result,
        manifest=data.manifest,
        lineage=lineage,
        noise=noise.retraining,
        numeric_noise=noise.numeric,
    )
    manifest = seal(
        folder,
        context.project.project,
        lineage=lineage,
        calibration=calibration,
        card=card,
        created_at=SystemClock().now().isoformat(),
    )
    write_atomic(context.run_folder / "evaluation.json", json.dumps(to_value(result)).encode())
    return Sealed(folder, manifest.digest)
