"""The files of the chart that say what its values are, written from the models: values.yaml, its schema, the README."""

import json
import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from fairlead.deploy.backends.helm_values import HelmValues
from fairlead.spec.fields import FieldDoc, all_fields
from fairlead.spec.schema import SchemaGenerator
from fairlead.spec.serve import Serve

# Helm before 3.18 knows no later dialect, and nothing below needs one.
_DIALECT = "http://json-schema.org/draft-07/schema#"


def schema_file() -> str:
    """``values.schema.json``: Helm refuses values that do not fit before it renders anything."""
    schema = HelmValues.model_json_schema(by_alias=True, schema_generator=SchemaGenerator)
    schema = {"$schema": _DIALECT, **schema, "title": "Values of fairlead-model"}
    # A key set to null is one taken away, and so are all that are set to null below it.
    schema["properties"]["candidate"] = {"anyOf": [schema["properties"]["candidate"], {"type": "null"}]}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def values_file() -> str:
    """``values.yaml``: every value with its default, and what it means as a comment."""
    head = (
        "# Written by docs/generate.py from fairlead.deploy.backends.helm_values. Must be set: model, champion,\n"
        "# image.repository with a tag or digest, store.uri.\n"
    )
    return head + "\n".join(_lines(HelmValues, 0)) + "\n"


def _lines(model: type[BaseModel], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for name, info in model.model_fields.items():
        key = info.alias or name
        if depth == 0:
            yield ""
        yield f"{indent}# -- {info.description}"
        section = info.annotation
        if section is Serve:
            yield f"{indent}{key}: {{}}"
        elif isinstance(section, type) and issubclass(section, BaseModel):
            yield f"{indent}{key}:"
            yield from _lines(section, depth + 1)
        else:
            # JSON is YAML, and needs no rules about quotes.
            yield f"{indent}{key}: {json.dumps(_default(info))}"


def _default(info: FieldInfo) -> Any:
    if info.is_required():
        return "" if info.annotation is str else 0
    value = info.get_default(call_default_factory=True)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def values_table() -> str:
    """The table of the README: every value with type, default and meaning."""
    docs = [doc for doc in all_fields(HelmValues) if not doc.path.startswith("serve.")]
    rows = [_row(doc) for doc in docs if not doc.sections or doc.path == "serve"]
    return "| value | type | default | meaning |\n| --- | --- | --- | --- |\n" + "".join(rows)


def _expected(doc: FieldDoc) -> str:
    return doc.words if "matching " in doc.limits or not doc.limits else f"{doc.words}, {doc.limits}"


def _row(doc: FieldDoc) -> str:
    expected = _expected(doc).replace("list of mapping of names to typing.Any", "list of mappings")
    expected = re.sub(r"mappings? of names to (typing\.Any|texts)", "mapping", expected)
    default = "**required**" if doc.required else doc.default
    if default not in ("**required**", "none", "the defaults of its fields"):
        default = f"`{default}`"
    cells = (f"`{doc.path}`", expected, default, doc.description)
    return "| " + " | ".join(re.sub(r"([|<>])", r"\\\1", cell) for cell in cells) + " |\n"
