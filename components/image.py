"""The image that every step runs in on a cluster. The local runner uses the Python at hand instead.

The reference has to contain "python": Kubeflow's local runner warns about others. ``FAIRLEAD_IMAGE`` names another one
while a pipeline is compiled; pin it by digest.
"""

import os

from fairlead import __version__

DEFAULT_IMAGE = f"fairlead-python:{__version__}"
IMAGE = os.environ.get("FAIRLEAD_IMAGE", DEFAULT_IMAGE)
