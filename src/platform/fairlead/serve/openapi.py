"""The API as an OpenAPI 3.1 document, written from the model's signature."""

from typing import Any

from fairlead import __version__
from fairlead.records.model import Field, Signature
from fairlead.records.trial import WORDS
from fairlead.serve.awaited_labels import RESULTS

_ERROR = {
    "description": "Refused; `field` names what to change.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}
_EMPTY = {"description": "Yes."}
_REFUSALS = {str(status): _ERROR for status in (400, 413, 415, 429, 503)}


def openapi_document(model: str, signature: Signature) -> dict[str, Any]:
    """Describe every route of a server that serves `model`."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Fairlead: {model}", "version": __version__},
        "paths": {**_model_paths(f"/v2/models/{model}"), **_other_paths()},
        "components": {
            "schemas": _schemas(signature),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


# --- routes -----------------------------------------------------------------------------------------------------------
def _model_paths(base: str) -> dict[str, Any]:
    absent, unready = {"404": _ERROR, "503": _ERROR}, {"503": _ERROR}
    infer = ("InferRequest", "InferResponse")
    predict = ("PredictRequest", "PredictResponse")
    return {
        base: {"get": _get("Model metadata", unready)},
        f"{base}/ready": {"get": _get("Can the model answer?", unready, body=False)},
        f"{base}/infer": {"post": _post("Infer", *infer, _REFUSALS)},
        f"{base}/predict": {"post": _post("Predict plain rows", *predict, _REFUSALS)},
        f"{base}/versions/{{version}}": {
            "get": _get("Metadata of one version", absent),
            "parameters": [_VERSION],
        },
        f"{base}/versions/{{version}}/ready": {
            "get": _get("Can this version answer?", absent, body=False),
            "parameters": [_VERSION],
        },
        f"{base}/versions/{{version}}/infer": {
            "post": _post("Infer with one version", *infer, {**_REFUSALS, "404": _ERROR}),
            "parameters": [_VERSION],
        },
        f"{base}/versions/{{version}}/predict": {
            "post": _post("Predict with one version", *predict, {**_REFUSALS, "404": _ERROR}),
            "parameters": [_VERSION],
        },
    }


def _other_paths() -> dict[str, Any]:
    guarded = {"401": _ERROR, "503": _ERROR}
    return {
        "/v2": {"get": _get("Server metadata")},
        "/v2/health/live": {"get": _get("Is the process alive?", body=False)},
        "/v2/health/ready": {"get": _get("Can it answer?", {"503": _ERROR}, body=False)},
        "/fairlead/v1/feedback": {"post": _post("Post labels that arrived", "Labels", "LabelCounts", _REFUSALS)},
        "/fairlead/v1/evidence": {"get": {**_get("What was counted", guarded), "security": [{"token": []}]}},
        "/fairlead/v1/release": {
            "get": {**_get("What is wanted and applied", guarded), "security": [{"token": []}]},
            "put": {
                **_post("Wish for a release", "Release", "ReleaseView", {**_REFUSALS, **guarded, "409": _ERROR}),
                "security": [{"token": []}],
            },
        },
        "/metrics": {
            "get": {
                "summary": "Metrics of all replicas in the text format of Prometheus",
                "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {}}}, "503": _ERROR},
            }
        },
    }


_VERSION = {"name": "version", "in": "path", "required": True, "schema": {"type": "string", "pattern": "^[0-9]{1,9}$"}}


def _get(summary: str, others: dict[str, Any] | None = None, *, body: bool = True) -> dict[str, Any]:
    found: dict[str, Any] = {"description": "Found."}
    if body:
        found["content"] = {"application/json": {"schema": {"type": "object"}}}
    return {"summary": summary, "responses": {"200": found if body else _EMPTY, **(others or {})}}


def _post(summary: str, request: str, response: str, others: dict[str, Any]) -> dict[str, Any]:
    return {
        "summary": summary,
        "requestBody": {"required": True, "content": {"application/json": {"schema": _ref(request)}}},
        "responses": {
            "200": {"description": "Answered.", "content": {"application/json": {"schema": _ref(response)}}},
            **others,
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


# --- schemas ----------------------------------------------------------------------------------------------------------
def _schemas(signature: Signature) -> dict[str, Any]:
    return {
        "Error": _object({"error": {"type": "string"}, "code": {"type": "string"}, "field": {"type": "string"}}),
        **_predict_schemas(signature),
        **_infer_schemas(signature),
        "Labels": _labels_schema(signature),
        "LabelCounts": {
            "type": "object",
            "properties": {
                **{name: {"type": "integer"} for name in RESULTS},
                "outcomes": _object({name: {"type": "integer"} for name in WORDS}),
            },
        },
        "Release": {"type": "object", "required": ["model", "generation", "champion"]},
        "ReleaseView": {"type": "object", "required": ["wanted", "applied", "candidate_ready", "replicas", "error"]},
    }


_IDENTITY = {"type": "string", "minLength": 1, "maxLength": 128}


def _answered_by() -> dict[str, Any]:
    return _object(
        {
            "request_id": {"type": "string"},
            "model_version": {"type": "string"},
            "model_digest": {"type": "string"},
            "arm": {"enum": ["champion", "candidate"]},
            "fallback": {"type": "boolean"},
        }
    )


def _predict_schemas(signature: Signature) -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {field.name: _value_schema(field) for field in signature.inputs},
        "required": [field.name for field in signature.inputs if field.required],
        "additionalProperties": False,
    }
    predictions = {"type": "array", "items": {"type": "object"}}
    return {
        "PredictRequest": {
            "type": "object",
            "properties": {"id": _IDENTITY, "instances": {"type": "array", "minItems": 1, "items": row}},
            "required": ["instances"],
            "additionalProperties": False,
        },
        "PredictResponse": _object({"predictions": predictions, "parameters": _answered_by()}),
    }


def _infer_schemas(signature: Signature) -> dict[str, Any]:
    output = {
        "type": "object",
        "properties": {"name": {"enum": [output.name for output in signature.outputs]}},
        "required": ["name"],
    }
    return {
        "InferRequest": {
            "type": "object",
            "properties": {
                "id": _IDENTITY,
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "minItems": 1, "items": _input_schema(signature)},
                "outputs": {"type": "array", "items": output},
            },
            "required": ["inputs"],
            "additionalProperties": False,
        },
        "InferResponse": _object(
            {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "parameters": _answered_by(),
                "outputs": {"type": "array", "items": {"type": "object"}},
            }
        ),
    }


def _labels_schema(signature: Signature) -> dict[str, Any]:
    label = {"type": "number"} if signature.task == "regression" else {"enum": list(signature.classes)}
    entry = {
        **_object({"request_id": {"type": "string", "minLength": 1}, "label": label}),
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"labels": {"type": "array", "minItems": 1, "items": entry}, "outcomes": _outcomes_schema()},
        "anyOf": [{"required": ["labels"]}, {"required": ["outcomes"]}],
        "additionalProperties": False,
    }


def _outcomes_schema() -> dict[str, Any]:
    """What an A/B test or a bandit compares, by key, or by the request that a key was met by."""
    name = {"type": "string", "minLength": 1}
    return {
        "type": "array",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "key": name,
                "request_id": name,
                "metric": name,
                "value": {"anyOf": [{"type": "number"}, {"type": "boolean"}]},
            },
            "required": ["metric", "value"],
            "oneOf": [{"required": ["key"]}, {"required": ["request_id"]}],
            "additionalProperties": False,
        },
    }


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _input_schema(signature: Signature) -> dict[str, Any]:
    options = []
    for field in signature.inputs:
        options.append(
            {
                "type": "object",
                "properties": {
                    "name": {"const": field.name},
                    "datatype": {"const": field.datatype},
                    "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
                    "data": {"type": "array", "items": {}},
                    "parameters": {"type": "object"},
                },
                "required": ["name", "datatype", "shape", "data"],
                "additionalProperties": False,
            }
        )
    return {"oneOf": options}


def _value_schema(field: Field) -> dict[str, Any]:
    schema: dict[str, Any]
    if field.shape:
        schema = {"type": "array", "items": {}}
    elif field.kind == "timestamp":
        schema = {"type": "string", "format": "date-time"}
    elif field.datatype == "BYTES":
        schema = {"type": "string"}
    elif field.datatype == "BOOL":
        schema = {"type": "boolean"}
    elif field.datatype.startswith("FP"):
        schema = {"type": "number", "minimum": -3.4e38, "maximum": 3.4e38}
    else:
        schema = {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}
    if field.required or field.shape:
        return schema
    return {**schema, "type": [schema["type"], "null"]}
