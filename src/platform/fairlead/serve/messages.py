"""What replicas tell the control."""

from dataclasses import dataclass


@dataclass(slots=True)
class Labels:
    """Labels as a replica understood them: class indices, or values with the `scale` of their errors."""

    items: list[tuple[str, float]]
    scale: float = 1.0
