"""Build the images with buildah, podman or docker: ``python images/build.py [serving runner ...]``.

Prints each size, and writes what was built to images/images.lock: name, version, digest, bytes; with PUSH=1 also the
reference that the registry gave, which charts and pipelines then use (`fairlead.packaged.pushed_image`).

    BASE      what to build from (python:3.11-slim)
    BUILDER   the program to build with (the first of buildah, podman, docker that is there)
    REGISTRY  how the names begin (localhost)
    HELM      the Helm program for the runner and the platform (the one on the PATH)
    PUSH      1: push each image after it is built
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ("serving", "runner", "platform", "seldon-wrapper")
WITH_HELM = ("runner", "platform")


def main() -> None:
    """Build what is named, all by default."""
    names = sys.argv[1:] or list(IMAGES)
    unknown = [name for name in names if name not in IMAGES]
    if unknown:
        sys.exit(f"no image is called {', '.join(unknown)}; there are: {', '.join(IMAGES)}")
    builder = os.environ.get("BUILDER") or next(filter(shutil.which, ("buildah", "podman", "docker")), None)
    if builder is None:
        sys.exit("neither buildah nor podman nor docker is here: install one of them, or name it in BUILDER")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if set(names) & set(WITH_HELM):
        _put_helm()
    lock_file = ROOT / "images" / "images.lock"
    lock = json.loads(lock_file.read_text()) if lock_file.exists() else {}
    for name in names:
        began = time.monotonic()
        arguments = {"VERSION": version}
        if name == "platform":
            arguments["DEPENDENCIES"] = _dependencies(builder)
        tag = f"{_registry()}/fairlead-{name}:{version}"
        _build(builder, name, tag, arguments)
        lock[name] = {"image": tag, "version": version, **_facts(builder, tag)}
        if os.environ.get("PUSH") == "1":
            lock[name]["pushed"] = push(builder, tag)
        print(f"{tag}  {lock[name]['bytes'] / 1e6:.0f} MB  {time.monotonic() - began:.0f} s", flush=True)
    lock_file.write_text(json.dumps(lock, indent=2, sort_keys=True) + "\n")


def _registry() -> str:
    return os.environ.get("REGISTRY", "localhost")


def _put_helm() -> None:
    helm = os.environ.get("HELM") or shutil.which("helm")
    if helm is None:
        sys.exit("helm is not on the PATH: install Helm 3.14 or newer, or name the program in HELM")
    target = ROOT / "images" / "build" / "helm"
    target.parent.mkdir(exist_ok=True)
    shutil.copyfile(helm, target)
    target.chmod(0o755)


def _dependencies(builder: str) -> str:
    """The image below the platform's, built when its list or the constraints changed."""
    digest = hashlib.sha256()
    for part in ("constraints.txt", "images/platform.requirements.txt", "images/platform-dependencies.Dockerfile"):
        digest.update((ROOT / part).read_bytes())
    tag = f"{_registry()}/fairlead-platform-deps:{digest.hexdigest()[:12]}"
    if not _exists(builder, tag):
        _build(builder, "platform-dependencies", tag, {})
    return tag


def _exists(builder: str, tag: str) -> bool:
    command = [builder, "inspect", "--type", "image", tag]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _build(builder: str, name: str, tag: str, arguments: dict[str, str]) -> None:
    verb = "bud" if Path(builder).name == "buildah" else "build"
    command = [builder, verb, "--network", "host", "--quiet", "-t", tag, "-f", f"images/{name}.Dockerfile"]
    if verb == "bud":
        command.append("--layers")
    for key, value in {"BASE": os.environ.get("BASE", "python:3.11-slim"), **arguments}.items():
        command += ["--build-arg", f"{key}={value}"]
    subprocess.run([*command, "."], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def push(builder: str, tag: str) -> str:
    """Push, and give the reference by digest: a registry's digest is another one than that of the local layers."""
    repository = tag.rpartition(":")[0]
    if Path(builder).name == "docker":
        subprocess.run([builder, "push", "--quiet", tag], check=True, stdout=subprocess.DEVNULL)
        found = json.loads(_said(builder, "image", "inspect", tag))[0]["RepoDigests"]
        return next(reference for reference in found if reference.startswith(f"{repository}@"))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digest"
        subprocess.run([builder, "push", "--quiet", "--digestfile", str(file), tag], check=True)
        return f"{repository}@{file.read_text().strip()}"


def _facts(builder: str, tag: str) -> dict[str, str | int]:
    if Path(builder).name == "buildah":
        images = json.loads(_said(builder, "images", "--json", tag))
        found = json.loads(_said(builder, "inspect", "--type", "image", tag))
        size = int(found.get("Docker", {}).get("size") or 0) or _bytes(images[0]["size"])
        return {"digest": found["FromImageDigest"], "bytes": size}
    found = json.loads(_said(builder, "image", "inspect", tag))[0]
    return {"digest": found.get("Digest") or found["Id"], "bytes": int(found["Size"])}


def _bytes(text: str) -> int:
    number, unit = text.split()
    return int(float(number) * {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}[unit.upper()])


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
