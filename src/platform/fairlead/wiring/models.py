"""Versions and their bundles."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fairlead.atomic import write_atomic
from fairlead.bundle.bundle import Bundle, fetch_bundle
from fairlead.errors import ExtraMissing
from fairlead.records.registry import Version
from fairlead.records.release import Arm
from fairlead.wiring.context import Context


@dataclass(frozen=True)
class LoadedVersion:
    """A registered version with its verified bundle."""

    version: int
    bundle: Bundle


def champion(context: Context) -> Version | None:
    """The version that the alias `champion` names, or None."""
    registry = context.registry()
    number = registry.aliases().get("champion")
    return registry.get(str(number)) if number is not None else None


def load_version(context: Context, version: Version) -> LoadedVersion:
    """Fetch and verify the bundle of a version. Raises BundleDamaged."""
    bundle = fetch_bundle(context.store, version.bundle_uri, version.digest, context.home / "cache" / "bundles")
    return LoadedVersion(version.number, bundle)


def champion_bundle(context: Context) -> LoadedVersion | None:
    """The champion with its bundle, or None when there is none."""
    version = champion(context)
    return load_version(context, version) if version else None


def arm_of(version: Version) -> Arm:
    """What a release says of a version."""
    return Arm(version=version.number, bundle_uri=version.bundle_uri, digest=version.digest)


def export_version(context: Context, reference: str, file: str) -> dict[str, Any]:
    """Write a version as one ONNX graph from raw columns to its answer, and compare the two.

    Raises VersionNotFound, BundleDamaged, ExportMismatch, and ExtraMissing without the onnx package.
    """
    try:
        from fairlead.bundle.raw_graph.graph import raw_graph
        from fairlead.bundle.raw_graph.parity import check_parity
    except ModuleNotFoundError as error:
        raise ExtraMissing(
            f"writing ONNX needs {error.name}, which is not installed", fix="pip install 'fairlead[train]'"
        ) from error
    loaded = load_version(context, context.registry().get(reference))
    graph = raw_graph(loaded.bundle)
    parity = check_parity(loaded.bundle, graph)
    path = Path(file)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, graph.content)
    return {
        "file": str(path),
        "version": loaded.version,
        "digest": loaded.bundle.digest,
        "bytes": len(graph.content),
        "inputs": [asdict(entry) for entry in graph.inputs],
        "outputs": [asdict(output) for output in loaded.bundle.signature.outputs],
        "not_raw": [entry.column for entry in graph.inputs if not entry.raw],
        "rows_compared": parity.rows,
        "largest": parity.largest,
    }
