"""What Kubeflow's launcher does around a step, for tests: run in the pod (or here) with the step's command behind it.

    python -m fairlead.testing.ir_launcher OUTPUT ROOT COMMAND ...

The executor input stands in the environment. Runs COMMAND with it in place of ``{{$}}``, copies the files of output
artifacts to their URIs in S3, and writes what the step gave (the executor's output file) to OUTPUT, an S3 URI. ROOT
stands before the paths that Kubeflow mounts (``/s3/...``, ``/tmp/kfp``): "" in a pod.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fairlead.store import Store, open_store

INPUT_VARIABLE = "FAIRLEAD_TEST_EXECUTOR_INPUT"
PLACEHOLDER = "{{$}}"


def main(arguments: Sequence[str]) -> int:
    """The exit code of the step."""
    output, root, *command = arguments
    executor_input = json.loads(os.environ.pop(INPUT_VARIABLE))
    local = below(executor_input, root)
    for port in local["outputs"].get("parameters", {}).values():
        Path(port["outputFile"]).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(local)
    code = subprocess.run([text if word == PLACEHOLDER else word for word in command]).returncode
    if code == 0:
        store, key = _place(output)
        store.write(key, _collect(executor_input, local))
    return code


def below(executor_input: dict[str, Any], root: str) -> dict[str, Any]:
    """The same input with files below `root`; artifacts in S3 get the path that they have in a pod, below `root`."""
    value: dict[str, Any] = json.loads(json.dumps(executor_input))
    if not root:
        return value
    outputs = value["outputs"]
    outputs["outputFile"] = root + outputs["outputFile"]
    for port in outputs.get("parameters", {}).values():
        port["outputFile"] = root + port["outputFile"]
    for artifacts in outputs.get("artifacts", {}).values():
        for artifact in artifacts["artifacts"]:
            artifact["uri"] = root + artifact["uri"].replace("s3://", "/s3/")
    return value


def _collect(executor_input: dict[str, Any], local: dict[str, Any]) -> bytes:
    file = Path(local["outputs"]["outputFile"])
    given = json.loads(file.read_text()) if file.is_file() else {}
    for name, artifacts in executor_input["outputs"].get("artifacts", {}).items():
        uri = artifacts["artifacts"][0]["uri"]
        path = Path(local["outputs"]["artifacts"][name]["artifacts"][0]["uri"].replace("s3://", "/s3/"))
        if path.is_file():
            store, key = _place(uri)
            store.upload(path, key)
        for artifact in given.get("artifacts", {}).get(name, {}).get("artifacts", ()):
            artifact["uri"] = uri
    return json.dumps(given).encode()


def _place(uri: str) -> tuple[Store, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    first, _, rest = key.partition("/")
    return open_store(f"s3://{bucket}/{first}", Path.cwd()), rest


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
