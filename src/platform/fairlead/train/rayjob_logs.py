"""What a RayJob's driver prints, as it prints it: Ray's job API, reached by way of the API server."""

import base64
import re
from collections.abc import Mapping
from typing import Any

from fairlead.errors import FairleadError
from fairlead.kube.client import Cluster
from fairlead.kube.kinds import SECRETS
from fairlead.logs import get_logger

_log = get_logger(__name__)

_PORT = 8265
_TOKEN = "auth_token"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def plain(text: str) -> str:
    """Without the colours that Ray gives to the lines of workers."""
    return _COLOUR.sub("", text)


class DriverLog:
    """New lines since the last look. Logs that cannot be had are said once, and stop nothing: progress comes by the
    store."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._tokens: dict[str, str] = {}
        self._read: dict[str, int] = {}
        self._given_up: set[str] = set()

    def new_lines(self, rayjob: Mapping[str, Any]) -> list[str]:
        """Whole lines that were not returned before; [] while there is no cluster that answers."""
        status = rayjob.get("status") or {}
        ray_cluster, job_id = str(status.get("rayClusterName") or ""), str(status.get("jobId") or "")
        service = str(((status.get("rayClusterStatus") or {}).get("head") or {}).get("serviceName") or "")
        if not (ray_cluster and job_id and service and status.get("jobStatus")) or ray_cluster in self._given_up:
            return []
        try:
            token = self._token(ray_cluster)
            headers = {"X-Ray-Authorization": f"Bearer {token}"}
            answer = self._cluster.through_service(service, _PORT, f"api/jobs/{job_id}/logs", headers)
            text = str(answer.get("logs") or "")
        except (FairleadError, ValueError, AttributeError) as error:
            if isinstance(error, FairleadError) and "may not" in error.what:
                self._given_up.add(ray_cluster)
                _log.warning("the job's log cannot be followed: %s", error.what)
            return []  # the cluster is on its way up or down
        start = self._read.get(job_id, 0)
        end = text.rfind("\n") + 1
        self._read[job_id] = max(start, end)
        return plain(text[start:end]).splitlines()

    def _token(self, ray_cluster: str) -> str:
        if ray_cluster not in self._tokens:
            secret = self._cluster.get(SECRETS, ray_cluster) or {}
            self._tokens[ray_cluster] = base64.b64decode((secret.get("data") or {}).get(_TOKEN, "")).decode()
        return self._tokens[ray_cluster]
