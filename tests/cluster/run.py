"""Bring a cluster up, give it the images, run the tests on it: ``run.py [--smoke] [pytest options]``.

CLUSTER names the folder of a one-node cluster (default: ../shared/cluster): its `up` brings it up and tells how to
reach it, `image-base` and `image-load` make and hand over images. With KUBECONFIG set, that cluster is used as it is,
and must have the images. Where there is neither, one line says so, and nothing fails.
"""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMOKE = (
    "tests/cluster/test_cluster_serving.py::test_the_pods_answer_by_a_port_of_the_node",
    "tests/cluster/test_cluster_serving.py::test_traffic_moves_by_helm_and_nothing_restarts_or_fails",
    "tests/cluster/test_cluster_training.py::TestTraining::test_pods_train_what_evaluation_seals",
)
WHOLE = ("tests/cluster", "tests/helm/test_helm_cluster.py")
IMAGES = {True: ("serving", "platform"), False: ("serving", "runner", "platform", "seldon-wrapper")}
FREE_BYTES = 25 * 2**30
"""To build the images on a machine that has none of them: the platform's alone is 6 GB, several times over."""


class CannotRun(Exception):
    """This machine cannot bring a cluster up."""


def main() -> int:
    """The exit code of the tests; 0 when there is nothing to run them on."""
    smoke = "--smoke" in sys.argv
    options = [argument for argument in sys.argv[1:] if argument != "--smoke"]
    environment = dict(os.environ)
    if "KUBECONFIG" not in environment:
        folder = Path(os.environ.get("CLUSTER", ROOT.parent / "shared" / "cluster"))
        try:
            environment |= _bring_up(folder)
        except CannotRun as error:
            print(f"tests on a cluster are skipped: {error}")
            return 0
        _load_images(folder, environment, IMAGES[smoke])
    chosen = SMOKE if smoke else WHOLE
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "cluster", *chosen, *options],
        cwd=ROOT, env=environment, check=False,
    )  # fmt: skip
    print(f"tests on the cluster: {time.monotonic() - began:.0f} s")
    return done.returncode


def _bring_up(folder: Path) -> dict[str, str]:
    if not (folder / "up").is_file():
        raise CannotRun(f"KUBECONFIG is not set, and {folder} holds no cluster to bring up (CLUSTER names another)")
    if os.geteuid() != 0:
        raise CannotRun(f"{folder}/up needs root")
    free = shutil.disk_usage(ROOT).free
    if free < FREE_BYTES and not _built(f"localhost/fairlead-platform:{_version()}"):
        raise CannotRun(f"images need {FREE_BYTES >> 30} GiB of disk, {free >> 30} GiB are free")
    began = time.monotonic()
    # The cluster's daemons live on: nothing of this process, locks least of all, may be inherited by them.
    for program in ("up", "image-base"):
        done = subprocess.run([folder / program], close_fds=True, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise CannotRun(f"{folder}/{program} ended with exit code {done.returncode}; what it said stands above")
    found = subprocess.run(["bash", "-c", f'eval "$("{folder}/up" --env)"; env -0'], capture_output=True, check=True)
    pairs = dict(pair.split("=", 1) for pair in found.stdout.decode().split("\0") if "=" in pair)
    print(f"cluster: {time.monotonic() - began:.0f} s", flush=True)
    return {name: pairs[name] for name in ("KUBECONFIG", "PATH")}


def _built(image: str) -> bool:
    try:
        found = subprocess.run(["buildah", "inspect", "--type", "image", image], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return found.returncode == 0


def _load_images(folder: Path, environment: dict[str, str], names: tuple[str, ...]) -> None:
    began = time.monotonic()
    build = {**environment, "BASE": "localhost/python:3.11-slim", "BUILDER": "buildah"}
    subprocess.run([sys.executable, "images/build.py", *names], cwd=ROOT, env=build, check=True)
    version = _version()
    tags = [f"localhost/fairlead-{name}:{version}" for name in names]
    # The same image under another name, for the test of an upgrade: what changes is what Kubernetes sees of it.
    again = f"localhost/fairlead-serving:{version}-again"
    subprocess.run(["buildah", "tag", f"localhost/fairlead-serving:{version}", again], check=True)
    subprocess.run([folder / "image-load", *tags, again], check=True)
    print(f"images: {time.monotonic() - began:.0f} s", flush=True)


def _version() -> str:
    import tomllib

    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


if __name__ == "__main__":
    sys.exit(main())
