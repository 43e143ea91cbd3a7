"""The edge to Kubeflow Pipelines: submits the pipeline to its API, and tells what happens to the run.

How far the run is comes from Kubeflow; what its steps say comes from the store, where they leave it. kfp is imported
when it is needed, as everywhere.
"""

import contextlib
import importlib
import io
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fairlead.cli.kubeflow_refusals import refused
from fairlead.cli.local_pipeline import Event, Request
from fairlead.errors import ClusterUnreachable, KeyMissing, SpecError
from fairlead.logs import get_logger
from fairlead.spec.pipeline import Pipeline
from fairlead.wiring.context import Context, run_key

TOKEN_FILE_VARIABLE = "FAIRLEAD_KFP_TOKEN_FILE"
_ENDED = {"SUCCEEDED": 0, "FAILED": 1, "CANCELED": 1, "SKIPPED": 1}
_PATIENCE_POLLS = 60
_CACHED = "taken from Kubeflow's cache: data, code and configuration are those of an earlier run"

_log = get_logger(__name__)


class Kubeflow:
    """One Kubeflow Pipelines API. Raises ClusterUnreachable, ClusterRefused, ClusterIncomplete."""

    def __init__(self, place: Pipeline) -> None:
        self._place = place
        self.host = place.host or os.environ.get("KF_PIPELINES_ENDPOINT") or ""
        with self._errors("reach Kubeflow Pipelines"), _quiet():
            self._client = _client(self.host, place.namespace, _token())
            self.host = self.host or str(self._client._existing_config.host)
            self._client.get_kfp_healthz()

    def experiment(self, name: str) -> str:
        """The id of an experiment, which is made when there is none."""
        with self._errors(f"find or make the experiment {name}"), _quiet():
            found = self._client.create_experiment(name, namespace=self._place.namespace)
        return str(found.experiment_id)

    def submit(self, package: Path, name: str, experiment: str, parameters: dict[str, Any]) -> str:
        """Create a run of a compiled pipeline in an experiment (its id); the run's id."""
        place = self._place
        with self._errors(f"create the run {name}"), _quiet():
            run = self._client.run_pipeline(
                experiment, name, str(package), parameters,
                pipeline_root=place.root, service_account=place.service_account,
            )  # fmt: skip
        return str(run.run_id)

    def run(self, run: str) -> Any:
        """A run as Kubeflow sees it (V2beta1Run)."""
        with self._errors(f"ask for the run {run}"), _quiet():
            return self._client.get_run(run)

    def link(self, run: str) -> str:
        """Where a person looks at a run."""
        return f"{self.host}/#/runs/details/{run}"

    @contextlib.contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        import kfp_server_api
        import urllib3

        try:
            yield
        except (kfp_server_api.ApiException, urllib3.exceptions.HTTPError, OSError) as error:
            raise refused(what, self.host, self._place.namespace, error) from error


class ClusterPipeline:
    """A run on a cluster, seen as `LocalPipeline` shows one on this machine."""

    def __init__(self, kubeflow: Kubeflow, run: str, context: Context, request: Request) -> None:
        self._kubeflow, self._run, self._context, self._request = kubeflow, run, context, request
        self._done: list[str] = []
        self._announced: set[str] = set()
        self._told = b""
        self._seen: Any = None
        self._silence = 0
        self.log = kubeflow.link(run)

    def poll(self) -> int | None:
        """0 when the run has succeeded, 1 when it has ended otherwise, None while it goes on.

        An API that does not answer is asked again: the run does not depend on it."""
        try:
            self._seen = self._kubeflow.run(self._run)
        except ClusterUnreachable as error:
            self._silence += 1
            if self._silence > _PATIENCE_POLLS:
                raise
            _log.warning("%s; asking again", error.what)
            return None
        self._silence = 0
        return _ENDED.get(str(self._seen.state or ""))

    def events(self) -> Iterator[Event]:
        """What has happened since the last call."""
        while len(self._done) < len(self._request.steps):
            step = self._request.steps[len(self._done)]
            result = self._told_json(f"results/{step}.json")
            if result is None and self._is_cached(step):
                result = {"summary": _CACHED, "cached": True}
            if result is None:
                yield from self._news(step)
                return
            yield from self._started(step)
            self._done.append(step)
            yield Event("finished", step, str(result.get("summary", "")), result=result)

    def failed_step(self) -> str:
        """The step that had not ended when the run did."""
        return self._request.steps[min(len(self._done), len(self._request.steps) - 1)]

    def error(self) -> dict[str, Any] | None:
        """What the failed step said, when it failed on purpose."""
        said = self._told_json("error.json")
        return said if said is not None and said.get("step") == self.failed_step() else None

    def last_words(self) -> str:
        """What Kubeflow says of the end."""
        error = self._seen.error if self._seen is not None else None
        state = str(self._seen.state) if self._seen is not None else "not seen"
        tasks = [task for task in self._tasks() if task.error is not None and task.error.message]
        said = [f"{task.display_name}: {task.error.message}" for task in tasks]
        return "; ".join([*([str(error.message)] if error is not None else []), *said]) or f"the run is {state}"

    def _started(self, step: str) -> Iterator[Event]:
        if step not in self._announced:
            self._announced.add(step)
            yield Event("started", step)

    def _news(self, step: str) -> Iterator[Event]:
        line = self._read("progress.json")
        value = _mapping(line)
        if line == self._told or value is None or value.get("step") != step:
            return
        self._told = line
        yield from self._started(step)
        if value.get("message"):
            yield Event("message", step, str(value["message"]), value.get("share"))

    def _is_cached(self, step: str) -> bool:
        """A later step has begun, or the run has succeeded, and this one left nothing."""
        steps = self._request.steps
        later = steps[steps.index(step) + 1 :]
        if str(self._seen.state if self._seen is not None else "") == "SUCCEEDED":
            return True
        value = _mapping(self._read("progress.json"))
        return value is not None and value.get("step") in later

    def _tasks(self) -> list[Any]:
        details = self._seen.run_details if self._seen is not None else None
        return list(details.task_details or ()) if details is not None else []

    def _told_json(self, name: str) -> dict[str, Any] | None:
        return _mapping(self._read(name))

    def _read(self, name: str) -> bytes:
        try:
            return self._context.store.read(run_key(self._context.project.project, self._run, name))
        except KeyMissing:
            return b""


def compile_for(place: Pipeline, last: str, folder: Path) -> Path:
    """Compile the pipeline for these pods into `folder`; the file."""
    from kfp import compiler

    pipelines = importlib.import_module("fairlead.pipelines.on_cluster")
    path = folder / "pipeline.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(pipelines.build(place, last), str(path))
    return path


def _client(host: str, namespace: str | None, token: str | None) -> Any:
    import kfp

    class Client(kfp.Client):  # type: ignore[misc]
        """kfp's client, which does not ask a silent server five times, 5 s apart."""

        def get_kfp_healthz(self, sleep_duration: int = 0) -> Any:
            return self._healthz_api.healthz_service_get_healthz()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Client(host=host or None, namespace=namespace or "kubeflow", existing_token=token)


def _token() -> str | None:
    named = os.environ.get(TOKEN_FILE_VARIABLE)
    if not named:
        return None
    try:
        return Path(named).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SpecError(f"the token file cannot be read: {error}", where=TOKEN_FILE_VARIABLE) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # kfp's client prints links and notes to standard output, where the command's own result goes.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    for line in printed.getvalue().splitlines():
        _log.debug("kfp: %s", line)


def _mapping(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
