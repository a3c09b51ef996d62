"""An S3 server on this machine's loopback."""

from collections.abc import Iterator

import fsspec
import pytest


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of a real server, reached by s3fs over HTTP, which asks for it in the environment."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        there = fsspec.filesystem("s3", skip_instance_cache=True)  # what the server holds outlives it, in this process
        if not there.exists("bucket"):
            there.mkdir("bucket")
        yield "s3://bucket"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()
