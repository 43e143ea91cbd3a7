"""Versions and their bundles."""

from dataclasses import dataclass

from fairlead.bundle.bundle import Bundle, fetch_bundle
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
