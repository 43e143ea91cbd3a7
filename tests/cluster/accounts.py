"""Service accounts with the roles that `k8s/rbac.yaml` gives them."""

from pathlib import Path

import yaml

from fairlead.kube import Cluster
from fairlead.kube.kinds import SERVICE_ACCOUNTS, Kind

MANIFEST = Path(__file__).resolve().parents[2] / "k8s" / "rbac.yaml"
_ROLES = Kind("rbac.authorization.k8s.io", "v1", "roles")
_BINDINGS = Kind("rbac.authorization.k8s.io", "v1", "rolebindings")
_BY_KIND = {"ServiceAccount": SERVICE_ACCOUNTS, "Role": _ROLES, "RoleBinding": _BINDINGS}


def create_account(cluster: Cluster, account: str) -> None:
    """Make the account, its roles and bindings in the cluster's namespace."""
    documents = [document for document in yaml.safe_load_all(MANIFEST.read_text()) if document]
    bindings = [d for d in documents if d["kind"] == "RoleBinding" and d["subjects"][0]["name"] == account]
    roles = {binding["roleRef"]["name"] for binding in bindings}
    made = [d for d in documents if d["kind"] == "Role" and d["metadata"]["name"] in roles]
    made += [d for d in documents if d["kind"] == "ServiceAccount" and d["metadata"]["name"] == account]
    for document in (*made, *bindings):
        document["metadata"]["namespace"] = cluster.namespace
        for subject in document.get("subjects", []):
            subject["namespace"] = cluster.namespace
        cluster.create(_BY_KIND[document["kind"]], document)
