"""The kinds of objects that Fairlead looks at, and where the API server keeps them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """One resource of the API. `group` is "" for the core."""

    group: str
    version: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str, name: str = "", below: str = "") -> str:
        """The URL path of the collection, of one object, or of a subresource of it."""
        parts = ["api", self.version] if not self.group else ["apis", self.group, self.version]
        if self.namespaced:
            parts += ["namespaces", namespace]
        return "/" + "/".join(part for part in (*parts, self.plural, name, below) if part)

    @property
    def words(self) -> str:
        """As ``kubectl`` takes it: ``rayjobs.ray.io``."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


PODS = Kind("", "v1", "pods")
EVENTS = Kind("", "v1", "events")
SECRETS = Kind("", "v1", "secrets")
SERVICES = Kind("", "v1", "services")
QUOTAS = Kind("", "v1", "resourcequotas")
SERVICE_ACCOUNTS = Kind("", "v1", "serviceaccounts")
NAMESPACES = Kind("", "v1", "namespaces", namespaced=False)
NODES = Kind("", "v1", "nodes", namespaced=False)
STORAGE_CLASSES = Kind("storage.k8s.io", "v1", "storageclasses", namespaced=False)
CRDS = Kind("apiextensions.k8s.io", "v1", "customresourcedefinitions", namespaced=False)
RAYJOBS = Kind("ray.io", "v1", "rayjobs")
RAYCLUSTERS = Kind("ray.io", "v1", "rayclusters")
RAYSERVICES = Kind("ray.io", "v1", "rayservices")
