"""Real stores for the tests, each started once, and nothing of fsspec that outlives a test."""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from remap.remote import store
from tests.remote.servers import Proxy, Web, proxied, serving

Case = Callable[[str, str], Path]
ROOT = Path(__file__).parent.parent.parent
BUCKET = "bucket"


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Wait for nothing, take no credentials of this machine, and end the thread of fsspec."""
    monkeypatch.setattr(store, "PAUSE", 0.001)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in list(os.environ):
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    yield
    _end_fsspec()


def _end_fsspec() -> None:
    """End the thread in which fsspec waits for servers, and what it holds open: other tests fork."""
    asyn = sys.modules.get("fsspec.asyn")
    if asyn is None:
        return
    for kind in sys.modules["fsspec.registry"].registry.values():
        kind.clear_instance_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries close their sockets when they are collected
        gc.collect()
        loop, thread = asyn.loop[0], asyn.iothread[0]
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
            asyn.reset_after_fork()
        gc.collect()


@pytest.fixture
def multi(case: Case) -> Path:
    """Give a multi-GPU checkpoint that needs no reference model."""
    return case("keras-2.2.4", "conv_bn") / "multi.h5"


@pytest.fixture
def web(multi: Path) -> Iterator[Web]:
    """Give a server of the web with a checkpoint."""
    pytest.importorskip("aiohttp", reason="the extra 'remote' is not installed")
    with serving(Web(files={"/multi.h5": multi})) as web:
        yield web


@pytest.fixture
def between(web: Web) -> Iterator[Proxy]:
    """Give a server in between."""
    with proxied(web.url) as proxy:
        yield proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class S3:
    """A bucket on an S3 server, and a client that shares nothing with the code under test."""

    endpoint: str
    client: Any

    def put(self, name: str, path: Path) -> str:
        """Upload a file and give its URL."""
        self.client.put_object(Bucket=BUCKET, Key=name, Body=path.read_bytes())
        return f"s3://{BUCKET}/{name}"

    def get(self, name: str) -> bytes:
        """Give the content of an object."""
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
        return content

    def names(self) -> list[str]:
        """List the objects."""
        return sorted(
            entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        )

    def uploads(self) -> list[str]:
        """List the uploads that are neither completed nor given up."""
        found = self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
        return [entry["Key"] for entry in found]


@pytest.fixture(scope="session")
def _moto() -> Iterator[str]:
    """Start an S3 server once."""
    pytest.importorskip("moto", reason="the extra 'servers' is not installed")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as server:
        assert server.stderr is not None
        for line in server.stderr:  # it says when it answers
            if b"Running on" in line:
                break
        else:
            pytest.fail("the S3 server did not start")
        reader = threading.Thread(target=server.stderr.read, daemon=True)  # it tells of every request
        reader.start()
        yield f"http://127.0.0.1:{port}"
        server.kill()
        reader.join()


@pytest.fixture
def s3(_moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """Give an empty bucket, which the environment leads to as it does for any user of S3."""
    boto3 = pytest.importorskip("boto3", reason="the extra 'servers' is not installed")
    pytest.importorskip("s3fs", reason="the extra 'remote' is not installed")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-of-the-test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-test")
    monkeypatch.setenv("AWS_ENDPOINT_URL", _moto)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    client = boto3.client("s3", endpoint_url=_moto)
    client.create_bucket(Bucket=BUCKET)
    yield S3(endpoint=_moto, client=client)
    for entry in client.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
        client.delete_object(Bucket=BUCKET, Key=entry["Key"])
    for entry in client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ()):
        client.abort_multipart_upload(Bucket=BUCKET, Key=entry["Key"], UploadId=entry["UploadId"])
    client.close()


@pytest.fixture
def s3_between(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Give a server between the S3 server and the code under test."""
    with proxied(s3.endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@dataclass(frozen=True, slots=True, kw_only=True)
class Sftp:
    """An SFTP server: the directory that it serves, its URL with user and password, and its key."""

    directory: Path
    url: str
    shown: str
    known_host: str

    def names(self) -> list[str]:
        """List the files."""
        return sorted(path.name for path in self.directory.iterdir())


@pytest.fixture
def sftp(tmp_path: Path) -> Iterator[Sftp]:
    """Start an SFTP server whose key is known."""
    pytest.importorskip("asyncssh", reason="the extra 'servers' is not installed")
    pytest.importorskip("paramiko", reason="the extra 'remote' is not installed")
    from tests.remote.sftp import PASSWORD, USER

    directory = tmp_path / "served"
    directory.mkdir()
    command = [sys.executable, "-m", "tests.remote.sftp", str(directory)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        port, key = server.stdout.readline().split(maxsplit=1)
        known = f"[127.0.0.1]:{port} {key}"
        (tmp_path / ".ssh").mkdir()
        (tmp_path / ".ssh" / "known_hosts").write_text(known)
        yield Sftp(
            directory=directory,
            url=f"sftp://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{port}",
            shown=f"sftp://{USER}:***@127.0.0.1:{port}",
            known_host=known,
        )
        server.communicate()  # it ends with its input
