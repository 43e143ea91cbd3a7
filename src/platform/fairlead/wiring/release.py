"""The register and deploy steps: a judged bundle becomes a version, and a version meets traffic."""

import getpass
import json
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.bundle.bundle import fetch_bundle
from fairlead.errors import GatesFailed, VersionNotFound
from fairlead.records.codec import from_json
from fairlead.records.evaluation import Evaluation
from fairlead.records.evidence import Verdict
from fairlead.records.registry import Version
from fairlead.records.rollout import RolloutRecord
from fairlead.reports.html import render_html
from fairlead.reports.model import KeyValues, Report, Section
from fairlead.wiring.context import Context
from fairlead.wiring.models import arm_of, champion, load_version
from fairlead.wiring.progress import StepProgress
from fairlead.wiring.rollouts import begin_rollout, deciding_sentence, host_rollout, outcome_of, rollout_report
from fairlead.wiring.serving import ensure_serving
from fairlead.wiring.steps import Outcome

BOOTSTRAP = "bootstrap: there was no champion, and the version passed all its gates"


def actor() -> str:
    """Who does it, for the history."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def run_register(context: Context, progress: StepProgress, bundle_uri: str, digest: str, fingerprint: str) -> Outcome:
    """A version for a bundle whose gates passed. The same run and digest again give the same version."""
    evaluation = sealed_evaluation(context, bundle_uri, digest)
    failed = [gate for gate in evaluation.gates if gate.verdict is not Verdict.PASS]
    if failed:
        raise GatesFailed(
            f"{len(failed)} of {len(evaluation.gates)} gates failed, so nothing was registered",
            where=report_place(context, "evaluate"),
            why="\n       ".join(f"{gate.name}: {gate.why}" for gate in failed),
            fix="read the evaluation report; a gate is changed in evaluate.gates of the project file",
        )
    progress("registering")
    version = context.registry().register(
        bundle_uri=bundle_uri,
        digest=digest,
        run=context.run or "manual",
        facts=version_facts(evaluation, fingerprint),
        actor=actor(),
        why=f"run {context.run or 'manual'} passed {len(evaluation.gates)} gates",
    )
    first = champion(context) is None
    summary = f"version {version.number}" + (": the first" if first else "")
    return Outcome(
        facts={"version": version.number, "first": first, "digest": digest},
        summary=summary,
        reads={"bundle": [digest]},
        writes={"version": [f"{context.project.project}/{version.number}"]},
    )


def sealed_evaluation(context: Context, bundle_uri: str, digest: str) -> Evaluation:
    """What was found when the bundle was judged: sealed in it, so that it is the same wherever the step runs."""
    bundle = fetch_bundle(context.store, bundle_uri, digest, context.home / "cache" / "bundles")
    return from_json(Evaluation, bundle.read("evaluation.json"))


def report_place(context: Context, step: str) -> str:
    """Where a person finds the report of a step of this run."""
    if context.archive:
        return context.store.url(f"reports/{context.project.project}/{context.run or 'manual'}/{step}.html")
    return str(context.run_folder / "reports" / f"{step}.html")


def version_facts(evaluation: Evaluation, fingerprint: str) -> dict[str, Any]:
    """What `model list` and `model compare` show without opening the bundle."""
    metrics = {name: value.value for name, value in evaluation.metrics.items() if value.value is not None}
    return {"data_fingerprint": fingerprint, "metrics": metrics, "test_rows": evaluation.rows, "task": evaluation.task}


def run_deploy(context: Context, progress: StepProgress, version: int) -> Outcome:
    """Bootstrap when there is no champion, else host a rollout until it ends or waits for a person."""
    registry = context.registry()
    found = registry.get(str(version))
    current = champion(context)
    if current is None or current.number == found.number:
        return _bootstrap(context, progress, found, already=current is not None)
    progress("starting the servers")
    ensure_serving(context, arm_of(current), progress)
    record = begin_rollout(context, current, found, say=progress)

    def tell(record: RolloutRecord) -> None:
        progress(record.status or record.phase.value)

    ended = host_rollout(context, record, tell)
    return rollout_outcome(context, ended, found)


def _bootstrap(context: Context, progress: StepProgress, version: Version, *, already: bool) -> Outcome:
    registry = context.registry()
    load_version(context, version)
    if not already:
        if context.project.deploy.bootstrap == "ask":
            registry.set_alias("candidate", version.number, actor=actor(), why="no champion yet: waits for a person")
            return Outcome(
                facts={"outcome": "waiting", "version": version.number},
                summary=f"version {version.number} waits: `fairlead model promote {version.number}` makes it champion",
            )
        registry.set_alias("champion", version.number, actor=actor(), why=BOOTSTRAP, evidence={"rule": "bootstrap"})
    progress("starting the servers")
    client = ensure_serving(context, arm_of(version), progress)
    why = "it was champion already; nothing changed" if already else BOOTSTRAP
    report = Report(
        title=f"Deployment of {context.project.project} {version.number}",
        subtitle="already champion" if already else "bootstrap",
        sections=(
            Section(
                title="What was decided",
                blocks=(KeyValues(items={"Champion": version.number, "Why": why, "Address": client.url}),),
            ),
        ),
    )
    return Outcome(
        facts={"outcome": "champion" if already else "bootstrap", "version": version.number, "url": client.url},
        summary=f"version {version.number} is champion ({'already' if already else 'bootstrap: there was none'}), "
        f"serving at {client.url}",
        reads={"version": [f"{context.project.project}/{version.number}"]},
        report=report,
    )


def rollout_outcome(context: Context, record: RolloutRecord, version: Version) -> Outcome:
    """How a rollout ended, as the outcome of a step."""
    outcome = outcome_of(record)
    last = deciding_sentence(record)
    return Outcome(
        facts={"outcome": outcome, "version": version.number, "rollout": record.id},
        summary=f"version {version.number} {outcome}: {last}",
        reads={"version": [f"{context.project.project}/{version.number}"]},
        writes={"rollout": [record.id]},
        report=rollout_report(context, record),
    )


def finish_rollout(context: Context, record: RolloutRecord) -> str:
    """Write the HTML report of a rollout; returns its path."""
    path = context.home / "rollouts" / f"{record.id}.html"
    data = render_html(rollout_report(context, record)).encode()
    write_atomic(path, data)
    context.store.write(f"reports/{context.project.project}/rollouts/{record.id}.html", data)
    return str(path)


def register_bundle(context: Context, folder: str, why: str) -> Version:
    """Register a sealed bundle from a folder, outside of a run. Raises BundleDamaged and VersionNotFound."""
    from pathlib import Path

    from fairlead.bundle.bundle import Bundle, publish

    path = Path(folder)
    if not (path / "manifest.json").is_file():
        raise VersionNotFound(f"{folder} holds no sealed bundle", fix="name a folder with a manifest.json")
    bundle = Bundle.load(path)
    uri = publish(context.store, path, context.project.project)
    facts: dict[str, Any] = {"data_fingerprint": bundle.manifest.lineage.get("data_fingerprint", "")}
    evaluation = path / "evaluation.json"
    if evaluation.is_file():
        facts = version_facts(from_json(Evaluation, evaluation.read_bytes()), str(facts["data_fingerprint"]))
    facts["lineage"] = json.loads(json.dumps(dict(bundle.manifest.lineage), default=str))
    return context.registry().register(
        bundle_uri=uri, digest=bundle.manifest.digest, run=f"register {path.name}", facts=facts, actor=actor(), why=why
    )
