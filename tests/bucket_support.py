"""A real S3 server of this machine: moto's, in a process of its own."""

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_support import free_port

BUCKET = "results-of-tests"


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """Start a server with one bucket; yield what its users have in the environment."""
    pytest.importorskip("obstore", reason="no obstore: pip install 'hushsweep[s3]'")
    pytest.importorskip("moto", reason="no S3 server: pip install 'moto[s3,server]'")
    port = free_port("127.0.0.1")
    address = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }
    log = folder / "s3.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=output,
            stderr=output,
            env={**os.environ, "MOTO_CALL_RESET_API": "false"},
        )
    try:
        _make_bucket(address, server, log)
        yield environment
    finally:
        server.kill()
        server.wait()


def _make_bucket(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    import boto3
    from botocore.exceptions import EndpointConnectionError

    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=address, **keys)
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            return
        except EndpointConnectionError:
            assert server.poll() is None, log.read_text()
            assert time.monotonic() < deadline, "the S3 server does not come up"
            time.sleep(0.1)


def new_address() -> str:
    """An address in the bucket where nothing is yet."""
    return f"s3://{BUCKET}/team/{uuid.uuid4().hex}"
