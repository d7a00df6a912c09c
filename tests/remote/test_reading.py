"""Files are read from URLs as from a disk, whatever their servers leave out and whatever happens on the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5p, h5s, h5t

import remap
from remap.errors import InputRefused, UsageRefused
from remap.hdf5.reader import open_checkpoint, tensor_chunks
from remap.hdf5.source import RemoteSource, Source
from remap.remote import reading, store
from tests.remote.conftest import S3, Sftp
from tests.remote.servers import Harm, Proxy, Web, proxied

pytestmark = pytest.mark.filterwarnings("ignore")
Case = Callable[[str, str], Path]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small files be read in parts, as large ones are."""
    monkeypatch.setattr(reading, "WHOLE", 0)
    monkeypatch.setattr(reading, "_LARGE", 1 << 12)


def alike(here: Path, url: str) -> None:
    """Require that a URL is inspected as the file is, values included."""
    local, far = remap.inspect(here, stats=True), remap.inspect(url, stats=True)
    assert far.to_json() | {"source": ""} == local.to_json() | {"source": ""}


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("versions", [True, False])
@pytest.mark.parametrize("sizes", [True, False])
@pytest.mark.parametrize("head", [True, False])
@pytest.mark.usefixtures("small_limits")
def test_a_server_of_the_web_may_leave_out_what_it_likes(
    web: Web, multi: Path, *, parts: bool, versions: bool, sizes: bool, head: bool
) -> None:
    web.parts, web.versions, web.sizes, web.head = parts, versions, sizes, head
    alike(multi, f"{web.url}/multi.h5")


@pytest.mark.usefixtures("small_limits")
def test_s3_and_sftp_give_what_a_disk_gives(s3: S3, sftp: Sftp, multi: Path) -> None:
    alike(multi, s3.put("runs/multi.h5", multi))
    shutil.copy(multi, sftp.directory / "multi.h5")
    alike(multi, f"{sftp.url}/multi.h5")
    assert remap.inspect(f"{sftp.url}/multi.h5").source == f"{sftp.shown}/multi.h5"


@pytest.mark.usefixtures("small_limits")
def test_archives_and_reference_models_are_read_from_urls(web: Web, case: Case, tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "conv_bn")
    remap.extract(folder / "multi.h5", tmp_path / "single.keras")
    remap.extract(folder / "multi.h5", tmp_path / "single.h5")
    for path in (tmp_path / "single.keras", tmp_path / "single.h5", folder / "multi_weights.h5"):
        web.files[f"/{path.name}"] = path
    alike(tmp_path / "single.keras", f"{web.url}/single.keras")
    assert remap.compare(f"{web.url}/single.keras", f"{web.url}/single.h5").exit_code == 0
    for like in ("single.keras", "single.h5"):
        remap.extract(
            f"{web.url}/multi_weights.h5", tmp_path / "out.h5", like=f"{web.url}/{like}", overwrite=True
        )
        there = remap.check(tmp_path / "out.h5", f"{web.url}/{like}")
        assert (there.loads, there.like) == (True, f"{web.url}/{like}")


# Leaves an object of h5py as garbage before each request, and collects it in the thread that gets the bytes if the collector
# may run there.
_GARBAGE = """
import gc, sys, h5py, remap
from fsspec.implementations.http import HTTPFile
from remap.remote import reading

reading.WHOLE = 0
read, fetch = reading.RemoteFile._read, HTTPFile.async_fetch_range

def littered(self, begin, end):
    ring = [h5py.h5s.create_simple((1,))]
    ring.append(ring)
    return read(self, begin, end)

async def collected(self, begin, end):
    if gc.isenabled():
        gc.collect()
    return await fetch(self, begin, end)

reading.RemoteFile._read, HTTPFile.async_fetch_range = littered, collected
remap.inspect(sys.argv[1])
assert gc.isenabled()
"""


def test_garbage_that_h5py_left_does_not_block_the_reading_thread(web: Web) -> None:
    subprocess.run([sys.executable, "-c", _GARBAGE, f"{web.url}/multi.h5"], check=True, timeout=60)


def test_a_small_file_takes_one_request(web: Web) -> None:
    remap.inspect(f"{web.url}/multi.h5")
    assert [(method, asked != "") for method, _, asked in web.asked] == [
        ("HEAD", False),
        ("GET", True),
        ("GET", True),  # again, for the connection is not encrypted
        ("HEAD", False),
    ]


def sparse(path: Path, *, tensors: int, size: int) -> Path:
    """Write a weights file whose tensors take no room on the disk."""
    options = h5p.create(h5p.DATASET_CREATE)
    options.set_alloc_time(h5d.ALLOC_TIME_EARLY)
    options.set_fill_time(h5d.FILL_TIME_NEVER)
    names = [f"conv_{number}" for number in range(tensors)]
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in names])
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([f"{name}/kernel:0".encode()])
            space = h5s.create_simple((size // tensors // 4,))
            h5d.create(group.create_group(name).id, b"kernel:0", h5t.IEEE_F32LE, space, options)
    return path


def test_of_a_file_of_four_gibibytes_less_than_two_mebibytes_are_read(web: Web, tmp_path: Path) -> None:
    web.files["/large.h5"] = sparse(tmp_path / "large.h5", tensors=128, size=4 << 30)
    assert remap.inspect(f"{web.url}/large.h5").size > 4 << 30
    assert web.sent < 2 << 20


@pytest.mark.usefixtures("small_limits")
def test_tensors_are_read_in_steps_and_twice_without_encryption(web: Web, multi: Path) -> None:
    with open_checkpoint(f"{web.url}/multi.h5") as far, open_checkpoint(multi) as here:
        assert isinstance(far.source, RemoteSource)
        for layer in here.checkpoint.layers:
            for weight in layer.weights:
                assert b"".join(map(bytes, tensor_chunks(far, weight))) == b"".join(
                    map(bytes, tensor_chunks(here, weight))
                )


def test_more_than_a_step_is_read_at_once_if_it_is_asked_for(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WHOLE", 0)
    monkeypatch.setattr(reading, "STEP", 1 << 17)
    content = os.urandom(1 << 20)
    (tmp_path / "bytes").write_bytes(content)
    web.files["/bytes"] = tmp_path / "bytes"
    source = Source.open(f"{web.url}/bytes")
    whole = bytearray(len(content))
    source.read_into(memoryview(whole), 0)
    assert bytes(whole) == content
    ahead = bytearray(1 << 16)
    for start in range(0, len(content), len(ahead)):  # read on, with more ahead each time
        source.read_into(memoryview(ahead), start)
        assert bytes(ahead) == content[start : start + len(ahead)]
    for start in range(0, len(content) - 100, 70_001):
        source.read_into(memoryview(ahead)[:100], start)
        assert bytes(ahead[:100]) == content[start : start + 100]
    with pytest.raises(InputRefused, match="ends before"):
        list(source.chunks(len(content) - 1, 2))


# What goes wrong


@pytest.mark.parametrize("harm", ["cut", "500", "stall"])
@pytest.mark.usefixtures("small_limits")
def test_requests_are_repeated(
    between: Proxy, multi: Path, monkeypatch: pytest.MonkeyPatch, harm: Harm
) -> None:
    monkeypatch.setattr(store, "READ", 0.3)
    between.harm, between.times, between.spared = harm, store.ATTEMPTS - 1, 2
    alike(multi, f"{between.url}/multi.h5")
    assert between.done == store.ATTEMPTS - 1


@pytest.mark.parametrize("harm", ["cut", "500", "stall"])
@pytest.mark.usefixtures("small_limits")
def test_requests_are_not_repeated_for_ever(
    between: Proxy, monkeypatch: pytest.MonkeyPatch, harm: Harm
) -> None:
    monkeypatch.setattr(store, "READ", 0.2)
    between.harm, between.times = harm, 1000
    with pytest.raises(InputRefused, match="the server does not answer as it should"):
        remap.inspect(f"{between.url}/multi.h5")
    assert between.done <= 2 * store.ATTEMPTS


@pytest.mark.parametrize("harm", ["cut", "500"])
@pytest.mark.usefixtures("small_limits")
def test_requests_to_s3_are_repeated(s3: S3, s3_between: Proxy, multi: Path, harm: Harm) -> None:
    url = s3.put("multi.h5", multi)
    s3_between.harm, s3_between.times, s3_between.spared = harm, 2, 1
    alike(multi, url)
    assert s3_between.done == 2


@pytest.mark.parametrize("spared", [0, 1, 5, 20])
@pytest.mark.usefixtures("small_limits")
def test_bytes_that_were_changed_on_the_way_are_not_written(
    between: Proxy, tmp_path: Path, spared: int
) -> None:
    between.harm, between.times, between.spared = "wrong", 1, spared
    with pytest.raises(InputRefused):
        remap.extract(f"{between.url}/multi.h5", tmp_path / "out.h5")
    assert between.done == 1
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.usefixtures("small_limits")
def test_a_whole_copy_is_compared_too(web: Web, between: Proxy, tmp_path: Path, *, parts: bool) -> None:
    web.parts, web.versions = parts, False
    between.harm, between.times, between.spared = "wrong", 1, 0 if parts else 1
    with pytest.raises(InputRefused, match="other bytes when they are read again"):
        remap.extract(f"{between.url}/multi.h5", tmp_path / "out.h5")


@pytest.mark.usefixtures("small_limits")
def test_a_file_that_changes_while_it_is_read_is_refused(web: Web, multi: Path, tmp_path: Path) -> None:
    changing = tmp_path / "changing.h5"
    shutil.copy(multi, changing)
    web.files["/changing.h5"] = changing

    def change(gets: int) -> None:
        if gets == 10:
            os.utime(changing, ns=(1, 1))

    web.on_get = change
    with pytest.raises(InputRefused, match="was changed while it was read"):
        remap.extract(f"{web.url}/changing.h5", tmp_path / "out.h5")
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.usefixtures("small_limits")
def test_an_object_of_s3_that_changes_is_refused_at_the_next_read(
    s3: S3, s3_between: Proxy, multi: Path
) -> None:
    url = s3.put("multi.h5", multi)
    gets = 0

    def change(method: str, _: str) -> None:
        nonlocal gets
        gets += method == "GET"
        if method == "GET" and gets == 3:
            s3.client.put_object(Bucket="bucket", Key="multi.h5", Body=multi.read_bytes() + b"x")

    s3_between.on_request = change
    with pytest.raises(InputRefused, match="was changed while it was read"):
        remap.inspect(url)


def test_what_is_not_there_or_not_allowed_is_told(web: Web, s3: S3, sftp: Sftp, multi: Path) -> None:
    for url in (f"{web.url}/none.h5", "s3://bucket/none.h5", f"{sftp.url}/none.h5"):
        with pytest.raises(InputRefused, match="there is no such file"):
            remap.inspect(url)
    with pytest.raises(InputRefused, match=r"access is denied: .*403"):
        remap.inspect(f"{web.url}/denied.h5")
    with pytest.raises(InputRefused, match="access is denied: AuthenticationException"):
        remap.inspect(sftp.url.replace("p%40ss", "wrong") + "/multi.h5")
    s3.put("runs/multi.h5", multi)
    with pytest.raises(InputRefused, match="it is a directory"):
        remap.inspect("s3://bucket/runs")
    with pytest.raises(InputRefused, match="the server does not answer"):
        remap.inspect("http://127.0.0.1:9/multi.h5")


def test_no_credentials_are_no_traceback(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(InputRefused, match="access is denied: NoCredentialsError"):
        remap.inspect("s3://bucket/multi.h5")
    assert s3.names() == []


def test_only_ssh_servers_that_are_known_are_spoken_to(sftp: Sftp, tmp_path: Path) -> None:
    known = tmp_path / ".ssh" / "known_hosts"
    for content in ("", sftp.known_host.replace("127.0.0.1", "127.0.0.2")):
        known.write_text(content)
        with pytest.raises(InputRefused, match=r"is not in ~/\.ssh/known_hosts"):
            remap.inspect(f"{sftp.url}/multi.h5")


def test_secrets_of_a_url_are_nowhere_in_a_message(web: Web) -> None:
    address = web.url.removeprefix("http://")
    for name in ("none.h5", "denied.h5", "multi.h5"):
        url = f"http://ada:pa55word@{address}/{name}?signature=0123456789abcdef"
        try:
            said = json.dumps(remap.inspect(url).to_json())
        except InputRefused as error:
            said = repr(error.args) + str(error)
        assert "ada:***@" in said
        assert "pa55word" not in said
        assert "0123456789abcdef" not in said


def test_an_encrypted_address_may_not_lead_to_an_open_one(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.redirects["/moved.h5"] = f"{web.url}/multi.h5"
    assert remap.inspect(f"{web.url}/moved.h5").kind == "multi-gpu"
    monkeypatch.setattr(store, "scheme_of", lambda _: "https")
    with pytest.raises(InputRefused, match="leads to an address without encryption"):
        remap.inspect(f"{web.url}/moved.h5")


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, url in (("gcsfs", "gs://bucket/multi.h5"), ("fsspec", "s3://bucket/multi.h5")):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UsageRefused, match=r"pip install 'h5remap\[remote\]'"):
            remap.inspect(url)


def test_a_proxy_that_does_no_harm_changes_nothing(web: Web, multi: Path) -> None:
    with proxied(web.url) as proxy:
        alike(multi, f"{proxy.url}/multi.h5")
