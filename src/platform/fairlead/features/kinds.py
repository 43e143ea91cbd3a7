"""The few types that columns have, as manifests, schemas and statistics name them."""

import pyarrow as pa

KINDS = ("int", "float", "string", "bool", "timestamp", "tensor")


def kind_of(arrow: pa.DataType) -> str | None:
    """int, float, string, bool, timestamp or tensor; None for types that Fairlead does not take."""
    types = pa.types
    if types.is_dictionary(arrow):
        return kind_of(arrow.value_type)
    if types.is_boolean(arrow):
        return "bool"
    if types.is_integer(arrow):
        return "int"
    if types.is_floating(arrow) or types.is_decimal(arrow):
        return "float"
    if types.is_string(arrow) or types.is_large_string(arrow) or arrow == pa.string_view():
        return "string"
    if types.is_timestamp(arrow) or types.is_date(arrow):
        return "timestamp"
    if types.is_list(arrow) or types.is_large_list(arrow) or types.is_fixed_size_list(arrow):
        inner = kind_of(arrow.value_type)
        return "tensor" if inner in ("int", "float", "tensor") else None
    return None
