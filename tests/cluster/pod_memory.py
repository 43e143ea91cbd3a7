"""What pods hold in memory, as their kubelets measure it: ``python tests/cluster/pod_memory.py NAMESPACE``.

Working set is what counts against a limit (resident memory and active page cache); RSS leaves the page cache out.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from fairlead.kube import Cluster, open_cluster
from fairlead.kube.kinds import NODES


@dataclass(frozen=True)
class ContainerMemory:
    """One container's, in bytes."""

    pod: str
    container: str
    working_set: int
    rss: int

    def __str__(self) -> str:
        return f"{self.pod}  {self.container}  {self.working_set / 1e6:.0f} MB working set, {self.rss / 1e6:.0f} MB RSS"


def container_memory(cluster: Cluster) -> Iterator[ContainerMemory]:
    """Every container of the cluster's namespace that has been measured; the kubelet does so every 10 to 20 s."""
    for node in cluster.list(NODES):
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/stats/summary"
        for pod in cluster.request("GET", path, "read what pods use")["pods"]:
            if pod["podRef"]["namespace"] != cluster.namespace:
                continue
            for container in pod.get("containers", []):
                memory = container.get("memory", {})
                if "workingSetBytes" in memory:
                    name = pod["podRef"]["name"]
                    yield ContainerMemory(name, container["name"], memory["workingSetBytes"], memory.get("rssBytes", 0))


if __name__ == "__main__":
    for each in sorted(container_memory(open_cluster(namespace=sys.argv[1])), key=lambda each: each.pod):
        print(each)
