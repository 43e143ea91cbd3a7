"""`fairlead validate`: the project file alone; rows are checked by ``fairlead data validate``."""

import argparse

HELP = "check the project file, with all problems at once"
EXAMPLES = """
fairlead validate
fairlead validate -f other.yaml --set train.epochs=3
fairlead validate -o json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """No arguments of its own."""


def run(args: argparse.Namespace) -> int:
    """Load the project file and say in one line what it describes."""
    from fairlead.cli.output import emit
    from fairlead.spec.load import load_project

    loaded = load_project(args.file, args.set)
    project = loaded.project
    value = {
        "valid": True,
        "project": project.project,
        "path": str(loaded.path),
        "sha256": loaded.sha256,
        "features": len(project.features.names()),
        "label": project.data.label.column,
        "gates": len(project.evaluate.gates),
    }
    text = (
        f"{loaded.path.name} is valid: project {project.project}, label {project.data.label.column}, "
        f"{value['features']} features, split by {project.data.split.by}, {value['gates']} gates"
    )
    emit(args, value, text)
    return 0
