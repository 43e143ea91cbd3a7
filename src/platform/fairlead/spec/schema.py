"""The project file's JSON schema, for editors and other tools."""

from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from fairlead.spec import quantities
from fairlead.spec.project import Project

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_AS_TEXT = {
    quantities.parse_share: r"^\s*[0-9.]+\s*%\s*$",
    quantities.parse_seconds: r"^\s*[0-9.]+\s*(ms|s|min|m|h|d|w)\s*$",
    quantities.parse_bytes: r"^\s*[0-9.]+\s*(B|KB|MB|GB|KiB|MiB|GiB)\s*$",
    quantities.parse_instant: r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
}


class SchemaGenerator(GenerateJsonSchema):
    """Amounts may also be text with a unit; and no titles, which would only repeat the keys."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """See GenerateJsonSchema."""
        value = super().function_before_schema(schema)
        parser: Any = schema["function"]["function"]
        pattern = _AS_TEXT.get(parser)
        return value if pattern is None else {"anyOf": [value, {"type": "string", "pattern": pattern}]}

    def field_title_should_be_set(self, schema: Any) -> bool:
        """See GenerateJsonSchema."""
        return False


def json_schema() -> dict[str, Any]:
    """The schema of the whole file, with descriptions and defaults. What a person may write in two ways (``1%`` or
    0.01) is accepted in both."""
    schema = Project.model_json_schema(by_alias=True, schema_generator=SchemaGenerator)
    return {"$schema": DIALECT, **schema, "title": "fairlead.yaml"}
