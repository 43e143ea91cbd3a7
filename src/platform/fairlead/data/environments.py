"""What the schema says of training and of serving: which columns are looked for, and which ought not to be there.

The label is known after the fact, so at serving it is not looked for unless the schema says that it exists there.
"""

from collections.abc import Iterator

from fairlead.data.schema import ENVIRONMENTS, Environment, Schema
from fairlead.data.sources import Source
from fairlead.data.suggestions import change_text
from fairlead.errors import SchemaMismatch
from fairlead.records.drift import Anomaly
from fairlead.spec.project import Project


def columns_at(project: Project, schema: Schema, environment: Environment) -> list[str]:
    """The columns that are looked for."""
    label = project.data.label.column
    found = []
    for name, rule in schema.columns.items():
        there = rule.exists_at(environment)
        if name == label and environment == "serving" and rule.environments is None:
            there = False
        if there:
            found.append(name)
    return found


def check_environments(project: Project, schema: Schema) -> None:
    """Raises SchemaMismatch for a feature that the schema has in one environment only, since the model's signature asks
    for it in both, and for a label that training lacks."""
    for name in project.features.names():
        rule = schema.columns.get(name)
        lacking = [one for one in ENVIRONMENTS if rule is not None and not rule.exists_at(one)]
        if lacking:
            raise SchemaMismatch(
                f"the feature {name} does not exist at {lacking[0]}",
                where=f"features: {name}",
                why=f"the schema has the column in these environments only: {', '.join(rule.environments or ())}"
                if rule is not None
                else "",
                fix=f"drop {name} from features, or correct environments in the schema",
            )
    label = schema.columns.get(project.data.label.column)
    if label is not None and not label.exists_at("training"):
        raise SchemaMismatch(
            f"the label {project.data.label.column} does not exist at training",
            where=f"data.label.column: {project.data.label.column}",
            why="the schema has the column in these environments only: serving",
            fix="correct environments in the schema",
        )


def unexpected_columns(source: Source, schema: Schema, environment: Environment) -> Iterator[Anomaly]:
    """Columns that a file has though the schema says that they do not exist in this environment: what is known only
    after the event, perhaps."""
    for name, rule in schema.columns.items():
        if rule.exists_at(environment):
            continue
        files = [file.uri for number, file in enumerate(source.files) if name in source.columns_of(number)]
        if files:
            only = ", ".join(rule.environments or ())
            what = f"{len(files)} of {len(source.files)} files have the column, which the schema has at {only} only"
            fix = "leave it out of the files, or correct environments in the schema"
            change = change_text({name: {"environments": None}})
            yield Anomaly(name, "unexpected_column", False, None, what, tuple(files[:1]), fix, change=change)
