"""What the images are built from, and how a pushed one is named by its digest."""

import importlib.util
import json
import os
import re
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest
import yaml

from fairlead import __version__, packaged
from fairlead.packaged import pushed_image
from fairlead.records.release import Arm, Release
from fairlead.spec.serve import Serve
from fairlead.wiring import cluster

IMAGES = Path(__file__).parents[2] / "images"
DIGEST = f"sha256:{'d' * 64}"


@pytest.fixture
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("build_images", IMAGES / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An images.lock of which nothing was pushed."""
    monkeypatch.setattr(packaged, "packaged_folder", lambda name: tmp_path)
    file = tmp_path / "images.lock"
    file.write_text("{}")
    return file


def pushed(lock: Path, name: str, version: str = __version__) -> str:
    reference = f"registry.example/team/fairlead-{name}@{DIGEST}"
    lock.write_text(json.dumps({name: {"version": version, "pushed": reference}}))
    return reference


def test_every_image_has_a_dockerfile_that_takes_a_base_and_ends_unprivileged(build: ModuleType) -> None:
    for name in build.IMAGES:
        text = (IMAGES / f"{name}.Dockerfile").read_text()
        assert re.findall(r"^USER (\S+)$", text, re.M)[-1] == "10001:10001", name
        assert re.search(r"^ARG (BASE|DEPENDENCIES)=", text, re.M), name
        assert ":latest" not in text, name
        assert not re.search(r"^(RUN|CMD|ENTRYPOINT) (?!\[)", text, re.M), f"{name}: a shell"


def test_the_microservices_environment_is_exact() -> None:
    lines = (IMAGES / "seldon-wrapper.requirements.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert len(pins) > 40
    assert pins["seldon-core"] == "1.17.1"
    assert all(re.fullmatch(r"[\w.]+", version) for version in pins.values())


def test_the_lock_knows_every_image_that_there_is(build: ModuleType) -> None:
    known = json.loads((IMAGES / "images.lock").read_text())
    assert set(known) == set(build.IMAGES)
    for name, entry in known.items():
        assert entry["image"].endswith(f"fairlead-{name}:{__version__}")
        assert re.fullmatch(r"sha256:[0-9a-f]{64}", entry["digest"])


def test_an_image_is_named_by_digest_once_it_was_pushed(lock: Path) -> None:
    assert pushed_image("serving") is None
    reference = pushed(lock, "serving")
    assert pushed_image("serving") == reference
    assert pushed_image("runner") is None
    pushed(lock, "serving", version="0.0.9")
    assert pushed_image("serving") is None
    lock.unlink()
    assert pushed_image("serving") is None


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, {"repository": "registry.example/team/fairlead-serving", "digest": DIGEST}),
        ({"image": {"pullPolicy": "Always"}}, {"pullPolicy": "Always", "digest": DIGEST}),
        ({"image": {"repository": "own/serving", "tag": "1"}}, {"repository": "own/serving", "tag": "1"}),
    ],
)
def test_the_chart_gets_the_pushed_image_unless_the_values_name_one(
    lock: Path, tmp_path: Path, own: dict[str, Any], expected: dict[str, str]
) -> None:
    pushed(lock, "serving")
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(own))
    deploy = SimpleNamespace(cluster=SimpleNamespace(values="values.yaml"))
    project = SimpleNamespace(project="flights", store="s3://b/p", serve=Serve(), deploy=deploy)
    context = cast(Any, SimpleNamespace(project=project, base=tmp_path))
    values = cluster.install_values(context, Release("flights", 1, Arm(1, "bundles/x", DIGEST)))
    assert expected.items() <= values["image"].items()


@pytest.mark.parametrize("program", ["buildah", "podman"])
def test_the_digest_is_the_one_that_the_registry_gave(build: ModuleType, tmp_path: Path, program: str) -> None:
    builder = tmp_path / program
    builder.write_text(
        f'#!/bin/sh\n[ "$1 $2 $3" = "push --quiet --digestfile" ] || exit 2\n'
        f'printf %s {DIGEST} > "$4"\necho "$5" > {tmp_path}/pushed\n'
    )
    builder.chmod(0o755)
    tag = "registry.example:5000/team/fairlead-serving:0.1.0"
    assert build.push(os.fspath(builder), tag) == f"registry.example:5000/team/fairlead-serving@{DIGEST}"
    assert (tmp_path / "pushed").read_text().strip() == tag


def test_docker_tells_the_digest_of_this_repository(build: ModuleType, tmp_path: Path) -> None:
    builder = tmp_path / "docker"
    known = [{"RepoDigests": [f"other.example/x@{DIGEST}", f"registry.example/x@{DIGEST}"]}]
    (tmp_path / "known.json").write_text(json.dumps(known))
    builder.write_text(f'#!/bin/sh\n[ "$1" = push ] || cat {tmp_path}/known.json\n')
    builder.chmod(0o755)
    assert build.push(os.fspath(builder), "registry.example/x:0.1.0") == f"registry.example/x@{DIGEST}"
