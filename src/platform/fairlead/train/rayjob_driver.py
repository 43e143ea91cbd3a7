"""What a RayJob runs on its head pod: start the workers, and say in the exit code how it went.

    python -m fairlead.train.rayjob_driver s3://bucket/prefix fits/<project>/<key>

The launching step may be gone by then; all that counts is in the store. A failure that would come again is written
there by the worker that met it, so a retry of the RayJob in a new cluster refuses at once instead of repeating it.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

from fairlead.errors import FairleadError, IntegrityError
from fairlead.logs import configure_logging
from fairlead.store import open_store
from fairlead.store.protocol import Store
from fairlead.train.remote import JOB, Remote, folders_of
from fairlead.train.worker import Job, failure_of


def main(arguments: list[str]) -> int:
    """The exit code: 0 when all networks are trained, else the error's."""
    configure_logging()
    try:
        job, use_gpu = read_job(open_store(arguments[0], Path.cwd()), arguments[1])
        refused = failure_of(job)
        if refused is not None:
            raise refused
        from fairlead.train.ray_launcher import launch

        launch(job, "auto", use_gpu=use_gpu)
    except FairleadError as error:
        print(error, file=sys.stderr, flush=True)
        return error.exit_code
    print("trained", flush=True)
    return 0


def write_job(job: Job) -> None:
    """Leave the job where its pods look for it."""
    if job.remote is not None:
        job.remote.write(job.to_json().encode(), JOB)


def read_job(store: Store, prefix: str) -> tuple[Job, bool]:
    """The job as this pod sees it, its folders below $FAIRLEAD_BASE; and whether its workers have GPUs."""
    try:
        job = Job.from_json(store.read(f"{prefix}/{JOB}").decode())
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("the job's description cannot be read", where=store.url(prefix), why=str(error)) from error
    if not isinstance(job.remote, Remote):
        raise IntegrityError("the job's description names no store", where=json.dumps(prefix))
    pods = job.train.rayjob
    data, project, run = folders_of(job.remote)
    return replace(job, data=data, project_dir=project, run=run), bool(pods and pods.worker.gpus)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
