"""The service account of a rollout's Job, with the role that `k8s/rbac.yaml` gives it."""

from pathlib import Path

import yaml

from fairlead.kube import Cluster
from fairlead.kube.kinds import SERVICE_ACCOUNTS, Kind

ACCOUNT = "fairlead-rollout"
MANIFEST = Path(__file__).resolve().parents[2] / "k8s" / "rbac.yaml"
_ROLES = Kind("rbac.authorization.k8s.io", "v1", "roles")
_BINDINGS = Kind("rbac.authorization.k8s.io", "v1", "rolebindings")
_BY_KIND = {"ServiceAccount": SERVICE_ACCOUNTS, "Role": _ROLES, "RoleBinding": _BINDINGS}


def create_account(cluster: Cluster) -> None:
    """Make account, role and binding in the cluster's namespace."""
    for document in yaml.safe_load_all(MANIFEST.read_text()):
        if document and document["metadata"]["name"] == ACCOUNT:
            text = yaml.safe_dump(document).replace("namespace: fairlead", f"namespace: {cluster.namespace}")
            cluster.create(_BY_KIND[document["kind"]], yaml.safe_load(text))
