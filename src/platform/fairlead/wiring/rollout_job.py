"""Starting the Job that hosts a rollout inside of the cluster."""

import os
from dataclasses import dataclass

from fairlead.deploy.backends.rollout_job import METRICS_PORT, JobPlace, job_name, render_job
from fairlead.errors import RolloutError, UsageError
from fairlead.kube.kinds import Kind
from fairlead.packaged import pushed_image
from fairlead.records.registry import Version
from fairlead.spec.rayjob import check_image
from fairlead.store.archives import publish_folder
from fairlead.wiring.cluster import cluster_of, release_name
from fairlead.wiring.context import Context

JOBS = Kind("batch", "v1", "jobs")

# What is true here and not in a pod.
_IN_POD = ("deploy.on=cluster", "deploy.cluster.context=null", "deploy.cluster.url=null")


@dataclass(frozen=True)
class StartedJob:
    """The Job, and whether it was there already."""

    name: str
    namespace: str
    found: bool


def start_job(context: Context, version: Version) -> StartedJob:
    """Create the Job for a rollout of `version`, or find the one that runs already.

    Raises UsageError without an image or a store that pods reach, RolloutError when one has ended and is still there,
    and what the cluster refuses."""
    place = context.project.deploy.cluster
    image = place.image or pushed_image("runner")
    if not image:
        raise UsageError(
            "deploy.cluster.image is not set",
            why="the Job that hosts the rollout needs the platform image",
            fix="--set deploy.cluster.image=REGISTRY/fairlead-platform:VERSION",
        )
    try:
        check_image(image)
    except ValueError as error:
        raise UsageError(str(error), where="deploy.cluster.image") from error
    if not context.project.store.startswith("s3://"):
        raise UsageError(f"pods cannot reach the store {context.project.store}", fix="store: s3://bucket/prefix")
    cluster, release = cluster_of(context), release_name(context)
    name = job_name(release, version.number, version.digest)
    known = cluster.get(JOBS, name)
    if known is not None:
        return _found(known, name, cluster.namespace)
    digest = publish_folder(context.store, context.base, ("*.parquet", "*.csv", "*.jsonl"))
    overrides = [*context.overrides, *_IN_POD, f"deploy.cluster.namespace={cluster.namespace}"]
    command = ["python", "-m", "fairlead.cli.archived", context.project.store, digest, "rollout", "start"]
    file = context.loaded.path.resolve().relative_to(context.base.resolve()).as_posix()
    command += ["-f", file, "--version", str(version.number)]
    command += ["--metrics-port", str(METRICS_PORT), "--metrics-host", "0.0.0.0"]
    for override in overrides:
        command += ["--set", override]
    endpoint = place.store_endpoint or os.environ.get("AWS_ENDPOINT_URL", "")
    region = os.environ.get("AWS_DEFAULT_REGION", "")
    environment = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": region}
    job = render_job(
        JobPlace(
            release=release,
            namespace=cluster.namespace,
            image=image,
            service_account=place.service_account,
            version=version.number,
            digest=version.digest,
            command=command,
            token_secret=f"{release}-token",
            environment={key: value for key, value in environment.items() if value},
            env_secrets=place.env_secrets,
        )
    )
    cluster.create(JOBS, job)
    return StartedJob(name, cluster.namespace, found=False)


def _found(job: dict[str, object], name: str, namespace: str) -> StartedJob:
    status = job.get("status")
    conditions = status.get("conditions") or [] if isinstance(status, dict) else []
    ended = [c["type"] for c in conditions if c["type"] in ("Complete", "Failed") and c["status"] == "True"]
    if ended:
        raise RolloutError(
            f"the Job {name} has ended ({ended[0]})",
            where=f"namespace {namespace}",
            why="its pods' logs say how; the same candidate was tried by it",
            fix=f"kubectl -n {namespace} delete job {name}, then start it again",
        )
    return StartedJob(name, namespace, found=True)
