"""What Fairlead's applications on Ray Serve are called."""


def ingress_app(model: str) -> str:
    """The application that clients talk to."""
    return f"fairlead-{model}"


def control_app(model: str) -> str:
    """The one-replica application that holds the wish and the evidence."""
    return f"fairlead-{model}-control"


def candidate_app(model: str, digest: str) -> str:
    """The application of one candidate."""
    return f"{candidate_prefix(model)}{digest.removeprefix('sha256:')[:12]}"


def candidate_prefix(model: str) -> str:
    """How the names of a model's candidates begin."""
    return f"fairlead-{model}-candidate-"
