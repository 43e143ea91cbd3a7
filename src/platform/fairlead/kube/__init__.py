"""Talking to Kubernetes: the only home of the `kubernetes` library.

`client` reaches one API server as one identity and says in Fairlead's words what it refuses; `kinds` names what is
looked at; `waiting` reads from pods and events why something does not run; `permissions` is the table of what each
part of Fairlead needs to be allowed. Never here: what is created, and what it means.
"""

from fairlead.kube.client import Cluster, open_cluster

__all__ = ["Cluster", "open_cluster"]
