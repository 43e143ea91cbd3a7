"""What Fairlead asks of a cluster, verb by verb, and what for: the source of doctor's findings."""

from dataclasses import dataclass

from fairlead.kube.kinds import (
    EVENTS,
    NAMESPACES,
    NODES,
    PODS,
    QUOTAS,
    RAYJOBS,
    RAYSERVICES,
    SECRETS,
    SERVICES,
    STORAGE_CLASSES,
    Kind,
)


@dataclass(frozen=True, slots=True)
class Permission:
    """Verbs on a kind (or on a subresource `below` it). Without an optional one, a part of Fairlead says less."""

    kind: Kind
    verbs: tuple[str, ...]
    what_for: str
    below: str = ""
    optional: bool = False

    @property
    def resource(self) -> str:
        """As ``kubectl create role --resource`` takes it."""
        return f"{self.kind.words}/{self.below}" if self.below else self.kind.words


TRAINING = (
    Permission(RAYJOBS, ("get", "create", "patch", "delete"), "create, adopt, follow and end training jobs"),
    Permission(PODS, ("list",), "say why a job waits"),
    Permission(EVENTS, ("list",), "say why a job waits"),
    Permission(PODS, ("create",), "have pods checked before a job is created; doctor's own pod", optional=True),
    Permission(SECRETS, ("get",), "read the token of a job's Ray cluster, to follow its log", optional=True),
    Permission(SERVICES, ("get",), "follow a job's log", below="proxy", optional=True),
)
SERVING = (
    Permission(RAYSERVICES, ("get", "list", "create", "patch", "delete"), "install and upgrade served models"),
    Permission(SECRETS, ("get", "list", "create", "patch", "delete"), "Helm's own revisions, the server's token"),
    Permission(SERVICES, ("get", "list", "create", "patch", "delete"), "the served model's address"),
    Permission(PODS, ("list",), "say why servers do not start", optional=True),
    Permission(EVENTS, ("list",), "say why servers do not start", optional=True),
)
LOOKING = (
    Permission(PODS, ("get", "delete"), "doctor's own pod", optional=True),
    Permission(PODS, ("get",), "read logs", below="log", optional=True),
    Permission(QUOTAS, ("list",), "compare quota and request", optional=True),
    Permission(NAMESPACES, ("get",), "the namespace's Pod Security level", optional=True),
    Permission(NODES, ("list",), "GPU nodes, and whether a pod fits any node", optional=True),
    Permission(STORAGE_CLASSES, ("list",), "the default StorageClass", optional=True),
)
