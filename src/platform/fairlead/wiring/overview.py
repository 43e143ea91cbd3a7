"""What a person can see at any time: versions, who was champion when and why, where a version comes from."""

from typing import TYPE_CHECKING, Any

from fairlead.deploy.rollout.why import decision_headline
from fairlead.errors import RolloutError, ServerUnreachable, VersionNotFound
from fairlead.records.registry import Version
from fairlead.records.release import Release
from fairlead.records.rollout import TERMINAL, RolloutRecord
from fairlead.registry.lineage import backward
from fairlead.wiring.context import Context
from fairlead.wiring.models import arm_of, champion, load_version
from fairlead.wiring.release import actor
from fairlead.wiring.rollouts import all_rollouts
from fairlead.wiring.serving import await_applied, client, on_cluster, wanted_release

if TYPE_CHECKING:
    from rich.tree import Tree

_HEADLINE = ("auc", "accuracy", "rmse", "log_loss")


def headline(version: Version) -> str:
    """The metrics that a line of a list has room for."""
    metrics = version.facts.get("metrics")
    if not isinstance(metrics, dict):
        return ""
    return ", ".join(f"{name} {float(metrics[name]):.4f}" for name in _HEADLINE if name in metrics)


def version_rows(context: Context) -> list[dict[str, Any]]:
    """One row for each version, oldest first."""
    registry = context.registry()
    aliases = registry.aliases()
    return [
        {
            "number": version.number,
            "aliases": sorted(name for name, number in aliases.items() if number == version.number),
            "digest": version.digest,
            "at": version.registered_at,
            "run": version.run,
            "headline": headline(version),
            "facts": dict(version.facts),
        }
        for version in registry.versions()
    ]


def version_details(context: Context, reference: str) -> dict[str, Any]:
    """One version with its lineage. Raises VersionNotFound, BundleDamaged."""
    registry = context.registry()
    version = registry.get(reference)
    loaded = load_version(context, version)
    lineage = dict(loaded.bundle.manifest.lineage)
    aliases = sorted(name for name, number in registry.aliases().items() if number == version.number)
    metrics = version.facts.get("metrics")
    return {
        "number": version.number,
        "aliases": aliases,
        "digest": version.digest,
        "bundle_uri": version.bundle_uri,
        "bundle_folder": str(loaded.bundle.folder),
        "registered_at": version.registered_at,
        "by": version.actor,
        "why": version.why,
        "run": version.run,
        "metrics": dict(metrics) if isinstance(metrics, dict) else {},
        "test_rows": version.facts.get("test_rows"),
        "data_fingerprint": lineage.get("data_fingerprint"),
        "sources": lineage.get("sources", []),
        "code_version": lineage.get("code_version"),
        "config_sha256": lineage.get("config_sha256"),
        "seed": lineage.get("seed"),
        "environment": lineage.get("environment", {}),
        "steps": [
            f"{s.step} in run {s.run} at {s.started_at[:19]}: {s.facts.get('summary', '')}"
            for s in _steps(context, version)
        ],
    }


def _steps(context: Context, version: Version) -> list[Any]:
    return list(backward(context.store, version).steps)


def version_tree(context: Context) -> "Tree":
    """Versions, how each came to traffic, and the reigns of the champions, for the terminal."""
    from rich.tree import Tree

    registry = context.registry()
    rollouts = all_rollouts(context)
    current = champion(context)
    tree = Tree(f"[bold]{context.project.project}[/bold]")
    for version in registry.versions():
        is_champion = current is not None and current.number == version.number
        mark = "[bold green]champion[/bold green]" if is_champion else ""
        branch = tree.add(f"[bold]version {version.number}[/bold] {mark}  {headline(version)}  {version.digest[:15]}")
        branch.add(f"{version.registered_at[:19]} registered: {version.why}")
        for record in rollouts:
            if record.candidate.version == version.number:
                _add_rollout(branch, record)
        for entry in registry.history():
            change = entry.change
            if entry.action == "alias" and change.get("alias") == "champion" and change.get("after") == version.number:
                rollout = entry.evidence.get("rollout")
                why = f"by rollout {rollout}" if rollout else entry.why
                branch.add(f"[green]{entry.at[:19]} champion: {why}[/green]")
    return tree


def _add_rollout(branch: "Tree", record: RolloutRecord) -> None:
    colour = {"promoted": "green", "aborted": "red"}.get(record.phase.value, "yellow")
    node = branch.add(f"[{colour}]rollout {record.id}: {record.phase.value}[/{colour}]")
    for decision in record.decisions:
        node.add(f"{decision.at[11:19]} {decision_headline(decision)}")


def previous_champion(context: Context) -> Version:
    """The champion before the present one. Raises VersionNotFound."""
    registry = context.registry()
    current = registry.aliases().get("champion")
    for entry in reversed(registry.history()):
        change = entry.change
        before = change.get("before")
        if entry.action == "alias" and change.get("alias") == "champion" and change.get("after") == current and before:
            return registry.get(str(before))
    raise VersionNotFound("there was no champion before", fix="fairlead model promote N --why ...")


def make_champion(context: Context, version: Version, why: str) -> Version:
    """By hand: verify the bundle, set the alias, tell the servers and wait until they follow.

    Refused while a rollout is open. Raises BundleDamaged, RolloutError, ServeError."""
    for record in all_rollouts(context):
        if record.phase not in TERMINAL:
            raise RolloutError(
                f"rollout {record.id} is open ({record.phase.value})", fix=f"fairlead rollout abort {record.id}"
            )
    load_version(context, version)
    registry = context.registry()
    registry.set_alias("champion", version.number, actor=actor(), why=why, evidence={"by": "hand"})
    release = wanted_release(context)
    if release is not None:
        changed = Release(context.project.project, release.generation + 1, arm_of(version), note=f"by hand: {why}")
        if on_cluster(context):
            from fairlead.wiring.cluster import set_release

            set_release(context, changed, f"by hand: {why}")
            return version
        try:
            with client(context) as servers:
                servers.put_release(changed)
                await_applied(servers, changed)
        except ServerUnreachable:
            from fairlead.records.codec import to_json

            # Nothing serves now: the next start reads the release from the store.
            context.store.write(f"releases/{context.project.project}.json", to_json(changed))
    return version
