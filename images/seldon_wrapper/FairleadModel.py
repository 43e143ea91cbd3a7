"""The class that seldon-core's microservice loads: ``seldon-core-microservice FairleadModel --service-type MODEL``.

Its arguments are the parameters of the graph (PREDICTIVE_UNIT_PARAMETERS). Reading, predicting and wording are
Fairlead's; here is only what ties them to seldon-core's hooks. `predict_raw` instead of `predict`, because an array of
numbers and text is an array of text, and because seldon-core answers 500 to a row that is too short.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, jsonify, request
from seldon_core.flask_utils import SeldonMicroserviceException
from seldon_core.proto import prediction_pb2
from seldon_core.utils import construct_response_json, json_to_seldon_message
from werkzeug.exceptions import BadRequest, HTTPException

from fairlead.bundle.bundle import Bundle, fetch_bundle
from fairlead.bundle.predictor import Predictor
from fairlead.errors import FairleadError, TransformError
from fairlead.serve.parsing import RequestParser
from fairlead.serve.refusals import Refusal, bad_field
from fairlead.serve.seldon_v1 import answer_array, check_feedback, class_names, metadata, read_rows
from fairlead.store import open_store

MAX_BODY_BYTES = 10 * 2**20
FEEDBACK = ("/send-feedback", "/api/v1.0/feedback", "/api/v0.1/feedback")
PREDICT = ("/predict", "/api/v1.0/predictions", "/api/v0.1/predictions")
NOT_A_MODELS = ("/transform-input", "/transform-output", "/route", "/aggregate")


class FairleadModel:
    """One bundle. Verified when it is fetched, and each file again when it is read."""

    def __init__(
        self, store: str, bundle_uri: str, digest: str, version: int = 1, base: str = "/var/fairlead", threads: int = 1
    ) -> None:
        """Fetch and verify, before anything listens; a bundle that is not what was asked for ends the container."""
        try:
            folder = Path(base)
            self._bundle: Bundle = fetch_bundle(open_store(store, folder), bundle_uri, digest, folder / "bundles")
        except FairleadError as error:
            print(error, file=sys.stderr, flush=True)
            raise SystemExit(error.exit_code) from error
        self._version, self._threads = version, threads
        self._parser = RequestParser(self._bundle.signature)
        self._predictor: Predictor | None = None
        self.model_error_handler = error_handler()

    def load(self) -> None:
        """Called in each worker: onnxruntime's threads do not survive a fork."""
        self._predictor = Predictor(self._bundle, threads=self._threads)

    def predict_raw(self, message: Any) -> dict[str, Any]:
        """A SeldonMessage as JSON. Raises Refusal, FairleadError."""
        if self._predictor is None:
            raise RuntimeError("load() was not called")
        rows = read_rows(message, self._parser)
        meta = _meta(message)
        began = time.perf_counter()
        prediction = self._predictor.predict_rows(rows)
        milliseconds = (time.perf_counter() - began) * 1000
        labels = {} if prediction.labels is None else {"labels": prediction.labels.tolist()}
        metrics = [
            {"type": "COUNTER", "key": "fairlead_rows_total", "value": len(rows)},
            {"type": "TIMER", "key": "fairlead_predict_duration_seconds", "value": milliseconds},
            {"type": "GAUGE", "key": "fairlead_model_version", "value": self._version},
        ]
        array = answer_array(self._bundle.signature, prediction)
        answer: dict[str, Any] = construct_response_json(self, False, message, array, meta, metrics, labels)
        return answer

    def send_feedback_raw(self, _feedback: prediction_pb2.Feedback) -> prediction_pb2.SeldonMessage:
        """seldon-core has counted the reward; nothing else is kept."""
        return json_to_seldon_message({"meta": {"tags": self.tags()}})

    def class_names(self) -> list[str]:
        """The columns of an answer."""
        return class_names(self._bundle.signature)

    def tags(self) -> dict[str, Any]:
        """What every answer tells in its meta."""
        return {"model": self._bundle.manifest.model, "version": self._version, "digest": self._bundle.digest}

    def init_metadata(self) -> dict[str, Any]:
        """``GET /metadata``."""
        bundle = self._bundle
        return metadata(bundle.manifest.model, self._version, bundle.digest, bundle.signature)


def _meta(message: dict[str, Any]) -> dict[str, Any]:
    meta = message.get("meta") or {}
    try:
        json_to_seldon_message({"meta": meta})
    except SeldonMicroserviceException as error:
        raise bad_field("meta", error.message) from None
    return dict(meta)


def error_handler() -> Blueprint:
    """What seldon-core registers before its own handlers, which answer 500 to everything that they do not know."""
    blueprint = Blueprint("fairlead", __name__)

    @blueprint.record
    def _limit(state: Any) -> None:
        state.app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES

    @blueprint.before_app_request
    def _check() -> None:
        if request.path in NOT_A_MODELS:
            raise Refusal(404, "not_found", f"{request.path}: this is a model, it only predicts")
        in_a_form = "json" in request.args or "json" in request.form or request.mimetype == "multipart/form-data"
        if request.method == "POST" and request.path in PREDICT + FEEDBACK and not in_a_form:
            _check_body()

    @blueprint.app_errorhandler(Refusal)
    def _refused(error: Refusal) -> Response:
        return _failure(error.status, error.code, error.message)

    @blueprint.app_errorhandler(FairleadError)
    def _failed(error: FairleadError) -> Response:
        return _failure(400 if isinstance(error, TransformError) else 500, error.code, str(error))

    @blueprint.app_errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response:
        status = error.code or 500
        code = "invalid_json" if status == 400 else error.name.lower().replace(" ", "_")
        return _failure(status, code, error.description or error.name)

    @blueprint.app_errorhandler(json.JSONDecodeError)
    @blueprint.app_errorhandler(UnicodeDecodeError)
    @blueprint.app_errorhandler(RecursionError)
    def _unreadable(error: Exception) -> Response:
        return _failure(400, "invalid_json", f"the body is not JSON: {error}")

    return blueprint


def _check_body() -> None:
    try:
        message = request.get_json()
    except BadRequest:
        raise Refusal(400, "invalid_json", "the body is not JSON of content type application/json") from None
    if request.path in FEEDBACK:
        check_feedback(message)
    elif type(message) is not dict:
        raise Refusal(400, "invalid_json", "the body must be a JSON object")


def _failure(status: int, code: str, message: str) -> Response:
    """seldon-core's own form of a failure."""
    response = jsonify({"status": {"status": 1, "code": status, "reason": code, "info": message}})
    response.status_code = status
    return response
