"""`fairlead run --on cluster`: the same pipeline, its steps as pods of Kubeflow Pipelines."""

import argparse
import importlib.util
import os
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import Any

from fairlead.cli.cluster_pipeline import ClusterPipeline, Kubeflow, compile_for
from fairlead.cli.local_pipeline import STEPS, Request
from fairlead.cli.output import emit, progress_console, say
from fairlead.cli.run_display import display_for
from fairlead.cli.stages import new_context
from fairlead.data.sources import source_fingerprint
from fairlead.errors import EXIT_OK, ExtraMissing, StoreError, UsageError
from fairlead.registry.environment import code_version
from fairlead.spec.pipeline import Pipeline
from fairlead.store.archives import MAX_BYTES, publish_folder
from fairlead.wiring.context import Context, remote_json
from fairlead.wiring.models import champion

POLL_SECONDS = 1.0


def run_on_cluster(args: argparse.Namespace) -> int:
    """Submit the pipeline; with --wait follow it as a local run is followed.

    Raises UsageError for what pods cannot do, before anything is uploaded or created."""
    from fairlead.cli.run import exit_code, failure, follow

    context, place = check(args)
    if args.compile:
        return compile_only(args, context, place)
    kubeflow = Kubeflow(place)
    experiment = kubeflow.experiment(place.experiment or context.project.project)
    request = Request(STEPS[0], args.last, parameters(context, place), str(context.run_folder))
    name = f"{context.project.project} {context.run}"
    with tempfile.TemporaryDirectory(prefix="fl-submit-") as folder:
        package = compile_for(place, request.last, Path(folder))
        run = kubeflow.submit(package, name, experiment, dict(request.arguments))
    link = kubeflow.link(run)
    if not args.wait:
        emit(args, {"run": run, "link": link, "name": name}, f"run {run} submitted: {link}")
        return EXIT_OK
    say(f"run {run}: {link}")
    results: dict[str, dict[str, Any]] = {}
    pipeline = ClusterPipeline(kubeflow, run, context, request)
    try:
        with display_for(progress_console()) as display:
            ok = follow(request, pipeline, display, results, POLL_SECONDS)
    except KeyboardInterrupt:
        say(f"the run goes on: {link}")
        raise
    if not ok:
        raise failure(pipeline)
    value = {"run": run, "link": link, "name": name, "exit_code": exit_code(results), "steps": results}
    emit(args, value, f"run {run}: {results[request.last].get('summary', '')}\nreports: {link}")
    return exit_code(results)


def compile_only(args: argparse.Namespace, context: Context, place: Pipeline) -> int:
    """Write the pipeline to a file, and say how kfp's own command submits it."""
    given = parameters(context, place)
    with tempfile.TemporaryDirectory(prefix="fl-submit-") as folder:
        package = Path(args.compile)
        package.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(compile_for(place, args.last, Path(folder)), package)
    experiment = place.experiment or context.project.project
    words = ["kfp", *(["--endpoint", place.host] if place.host else []), "run", "create", "-e", experiment]
    words += ["-r", f"{experiment} {context.run}", "-f", str(package), *(f"{key}={given[key]}" for key in given)]
    emit(args, {"package": str(package), "parameters": given, "command": words}, shlex.join(words))
    return EXIT_OK


def check(args: argparse.Namespace) -> tuple[Context, Pipeline]:
    """The project, and where its pods run. Raises UsageError, SpecError, ExtraMissing."""
    if args.first != STEPS[0] or args.earlier is not None:
        raise UsageError(
            "--from and --run are for runs on this machine",
            why="on a cluster Kubeflow's cache takes up each step whose data, code and configuration are the same",
            fix="leave them out",
        )
    for module in ("kfp", "kfp.kubernetes"):
        if importlib.util.find_spec(module) is None:
            raise ExtraMissing("fairlead run --on cluster needs kfp", fix="pip install 'fairlead[pipelines]'")
    from fairlead.cli.run_request import new_run_id

    context = new_context(args, new_run_id())
    project = context.project
    told = {"host": args.host, "namespace": args.namespace}
    place = Pipeline.model_validate(
        {**project.pipeline.model_dump(exclude_unset=True), **{key: value for key, value in told.items() if value}}
    )
    if not project.store.startswith("s3://"):
        raise UsageError(f"pods cannot reach the store {project.store}", fix="store: s3://bucket/prefix")
    if place.image is None:
        raise UsageError(
            "pipeline.image is not set",
            why="the steps' pods need the platform image",
            fix="--set pipeline.image=REGISTRY/fairlead-platform:VERSION",
        )
    if args.last == "deploy" and project.deploy.on == "local":
        raise UsageError(
            "the deploy step would start servers inside of its own pod",
            where="deploy.on: local",
            fix="--set deploy.on=cluster, which serves by a Helm release; or --to register",
        )
    _check_sources(context)
    return context, place


def parameters(context: Context, place: Pipeline) -> dict[str, str | int]:
    """The pipeline's parameters. The project folder is put into the store. Raises StoreError, DataError."""
    source = source_fingerprint(context.project.data, context.base)
    try:
        archive = publish_folder(context.store, context.base)
    except StoreError as error:
        if "too large" not in error.what:
            raise
        raise StoreError(
            error.what,
            where=error.where,
            why=f"the folder travels to pods as one archive of at most {MAX_BYTES // 2**20} MiB, its data included",
            fix="copy the data to the store and name it in data.source as s3://..., and name what pods do not need in "
            ".fairleadignore",
        ) from error
    environment = {
        "AWS_ENDPOINT_URL": place.store_endpoint or os.environ.get("AWS_ENDPOINT_URL", ""),
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", ""),
        "AWS_REGION": os.environ.get("AWS_REGION", ""),
    }
    return {
        "context": remote_json(context, archive, [*context.overrides, *in_pod(context)], environment),
        "source": source,
        "code": code_version(context.base),
        "config": context.loaded.sha256,
        "champion": found.digest if (found := champion(context)) is not None else "",
    }


def in_pod(context: Context) -> tuple[str, ...]:
    """What is true here and not in a pod: contexts of a kubeconfig, and addresses of this machine."""
    overrides = ["deploy.cluster.context=null", "deploy.cluster.url=null"]
    if context.project.train.rayjob is not None:
        overrides.append("train.rayjob.context=null")
    return tuple(overrides)


def _check_sources(context: Context) -> None:
    source = context.project.data.source
    base = context.base.resolve()
    for name in (source,) if isinstance(source, str) else source:
        if "://" not in name and not (base / Path(name)).resolve().is_relative_to(base):
            raise UsageError(
                f"pods cannot reach {name}",
                where="data.source",
                why="only the project's own folder travels to them",
                fix="copy it to the store and name it as s3://..., or move it into the project's folder",
            )
