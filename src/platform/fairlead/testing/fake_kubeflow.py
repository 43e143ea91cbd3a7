"""The part of Kubeflow Pipelines' API that Fairlead and kfp's client use, over real HTTP, for tests.

Each request is checked against the models of `kfp-server-api`, the client that is generated from Kubeflow's own API
definition: an unknown field, a wrong type or an unknown path is a 400. Runs are what `execute` makes of them.
"""

import contextlib
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
import yaml

from fairlead.testing.ir_run import Ended

_ROOT = "/apis/v2beta1"
Execute = Callable[[dict[str, Any], dict[str, Any], str, Ended], Any]


class Refused(Exception):
    """The API's answer to a request that it will not take."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeKubeflow:
    """What the API holds. `execute(pipeline_spec, parameters, run, ended)` runs a pipeline and fills `ended`.

    `token`: the only one that is let in; `namespaces`: those of a multi-user installation, () for one without users.
    `outage`: so many of the next questions about a run get a 503."""

    def __init__(self, execute: Execute, *, token: str = "", namespaces: tuple[str, ...] = ()) -> None:
        self._execute, self._token, self._namespaces = execute, token, namespaces
        self.url = ""
        self.outage = 0
        self.experiments: dict[str, Any] = {}
        self.pipelines: dict[str, Any] = {}
        self.versions: dict[str, Any] = {}
        self.recurring: dict[str, Any] = {}
        self.runs: dict[str, Any] = {}
        self.ended: dict[str, Ended] = {}
        self.threads: list[threading.Thread] = []
        self._api = kfp_server_api.ApiClient()
        self._routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/healthz", self._healthz),
            ("GET", r"/experiments", self._list_experiments),
            ("POST", r"/experiments", self._create_experiment),
            ("POST", r"/runs", self._create_run),
            ("GET", r"/runs", self._list_runs),
            ("GET", r"/runs/([^/:]+)", self._get_run),
            ("POST", r"/pipelines/upload", self._upload),
            ("POST", r"/pipelines/upload_version", self._upload_version),
            ("GET", r"/pipelines", self._list_pipelines),
            ("POST", r"/recurringruns", self._create_recurring),
            ("GET", r"/recurringruns", self._list_recurring),
        ]

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> tuple[int, Any]:
        """Status and JSON value."""
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        try:
            if self._token and headers.get("authorization") != f"Bearer {self._token}":
                raise Refused(401, "Request not authenticated")
            for wanted, path, handler in self._routes:
                found = re.fullmatch(_ROOT + path, url.path)
                if wanted == method and found:
                    return 200, self._api.sanitize_for_serialization(handler(*found.groups(), query=query, body=body))
            raise Refused(404, f"no route for {method} {url.path}")
        except Refused as error:
            return error.status, {"error": str(error), "code": 3, "message": str(error), "details": []}

    def read(self, body: bytes, model: str) -> Any:
        """A request's body as a model; Refused when it is not exactly that."""
        value = json.loads(body)
        _check(value, model)
        return self._api.deserialize(SimpleNamespace(data=json.dumps(value)), model)

    # --- handlers ----------------------------------------------------------------------------------------------------
    def _healthz(self, **_: Any) -> Any:
        return kfp_server_api.V2beta1GetHealthzResponse(multi_user=bool(self._namespaces))

    def _create_experiment(self, *, body: bytes, **_: Any) -> Any:
        asked = self.read(body, "V2beta1Experiment")
        self._namespace(asked.namespace)
        asked.experiment_id = str(uuid.uuid4())
        self.experiments[asked.experiment_id] = asked
        return asked

    def _list_experiments(self, *, query: dict[str, str], **_: Any) -> Any:
        self._namespace(query.get("namespace"))
        found = _filtered(self.experiments.values(), query)
        return kfp_server_api.V2beta1ListExperimentsResponse(experiments=found, total_size=len(found))

    def _create_run(self, *, body: bytes, **_: Any) -> Any:
        run = self.read(body, "V2beta1Run")
        if run.experiment_id not in self.experiments:
            raise Refused(404, f"experiment {run.experiment_id} not found")
        run.run_id, run.created_at, run.state = str(uuid.uuid4()), datetime.now(UTC), "PENDING"
        ended = self.ended[run.run_id] = Ended()
        self.runs[run.run_id] = run
        thread = threading.Thread(target=self._carry_out, args=(run, ended), daemon=True)
        self.threads.append(thread)
        thread.start()
        return run

    def _carry_out(self, run: Any, ended: Ended) -> None:
        run.state = "RUNNING"
        try:
            self._execute(run.pipeline_spec, dict(run.runtime_config.parameters or {}), run.run_id, ended)
        except Exception as error:  # whoever follows the run has to see it end
            ended.failure = f"the pipeline could not be run: {error}"
        run.error = kfp_server_api.GoogleRpcStatus(code=9, message=ended.failure) if ended.failure else None
        run.state = ended.state

    def _get_run(self, run: str, **_: Any) -> Any:
        if self.outage:
            self.outage -= 1
            raise Refused(503, "upstream connect error")
        if run not in self.runs:
            raise Refused(404, f"run {run} not found")
        found = self.runs[run]
        tasks = [
            kfp_server_api.V2beta1PipelineTaskDetail(run_id=run, task_id=name, display_name=name, state=state)
            for name, state in list(self.ended[run].states.items())
        ]
        found.run_details = kfp_server_api.V2beta1RunDetails(task_details=tasks)
        return found

    def _list_runs(self, *, query: dict[str, str], **_: Any) -> Any:
        found = _filtered(self.runs.values(), query)
        return kfp_server_api.V2beta1ListRunsResponse(runs=found, total_size=len(found))

    def _upload(self, *, query: dict[str, str], body: bytes) -> Any:
        _pipeline_in(body)
        pipeline = kfp_server_api.V2beta1Pipeline(pipeline_id=str(uuid.uuid4()), display_name=query["name"])
        self.pipelines[pipeline.pipeline_id] = pipeline
        return pipeline

    def _upload_version(self, *, query: dict[str, str], body: bytes) -> Any:
        _pipeline_in(body)
        if query["pipelineid"] not in self.pipelines:
            raise Refused(404, f"pipeline {query['pipelineid']} not found")
        version = kfp_server_api.V2beta1PipelineVersion(
            pipeline_id=query["pipelineid"], pipeline_version_id=str(uuid.uuid4()), display_name=query["name"]
        )
        self.versions[version.pipeline_version_id] = version
        return version

    def _list_pipelines(self, *, query: dict[str, str], **_: Any) -> Any:
        found = _filtered(self.pipelines.values(), query)
        return kfp_server_api.V2beta1ListPipelinesResponse(pipelines=found, total_size=len(found))

    def _create_recurring(self, *, body: bytes, **_: Any) -> Any:
        asked = self.read(body, "V2beta1RecurringRun")
        asked.recurring_run_id = str(uuid.uuid4())
        self.recurring[asked.recurring_run_id] = asked
        return asked

    def _list_recurring(self, *, query: dict[str, str], **_: Any) -> Any:
        found = _filtered(self.recurring.values(), query)
        return kfp_server_api.V2beta1ListRecurringRunsResponse(recurring_runs=found, total_size=len(found))

    def _namespace(self, name: str | None) -> None:
        if self._namespaces and not name:
            raise Refused(400, "Invalid input error: Namespace is empty in multi-user mode")
        if name and name not in self._namespaces:
            raise Refused(404, f"namespace {name} not found")


@contextlib.contextmanager
def fake_kubeflow(execute: Execute, *, token: str = "", namespaces: tuple[str, ...] = ()) -> Iterator[FakeKubeflow]:
    """The API on a free port of 127.0.0.1; at the end its runs have ended too."""
    held = FakeKubeflow(execute, token=token, namespaces=namespaces)

    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, value = held.answer(self.command, self.path, self.headers, body)
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = _any

        def log_message(self, format: str, *args: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    held.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield held
    finally:
        for running in held.threads:
            running.join()
        server.shutdown()
        server.server_close()
        thread.join()


def _check(value: Any, kind: str) -> None:
    """Refuse what the generated client's model `kind` does not have, at any depth."""
    if value is None:
        return
    if kind.startswith("list["):
        for item in value:
            _check(item, kind[5:-1])
        return
    model = getattr(kfp_server_api, kind, None)
    if model is None or not getattr(model, "openapi_types", None):
        return
    if not isinstance(value, dict):
        raise Refused(400, f"{kind} is no {type(value).__name__}")
    by_key = {key: model.openapi_types[name] for name, key in model.attribute_map.items()}
    unknown = sorted(set(value) - set(by_key))
    if unknown:
        raise Refused(400, f"{kind} has no {', '.join(unknown)}")
    for key, inner in value.items():
        _check(inner, by_key[key])


def _filtered(values: Any, query: dict[str, str]) -> list[Any]:
    found = list(values)
    for predicate in json.loads(query.get("filter") or "{}").get("predicates", ()):
        wanted = predicate.get("stringValue", predicate.get("string_value"))
        found = [value for value in found if getattr(value, str(predicate["key"]), None) == wanted]
    if "experiment_id" in query:
        found = [value for value in found if value.experiment_id == query["experiment_id"]]
    return found


def _pipeline_in(body: bytes) -> Any:
    text = body.decode(errors="replace")
    start = text.find("components:")
    if start < 0:
        raise Refused(400, "no pipeline in the upload")
    end = text.find("\r\n--", start)
    return list(yaml.safe_load_all(text[start:end]))
