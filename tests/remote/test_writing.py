"""Outputs appear behind URLs whole and compared, or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

import remap
from remap.errors import OutputRefused, UsageRefused
from remap.remote import store, writing
from tests.remote.conftest import ROOT, S3, Sftp
from tests.remote.servers import Harm, Proxy, Web

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def expected(multi: Path, tmp_path: Path) -> bytes:
    """Give what the conversion writes on this machine."""
    remap.extract(multi, tmp_path / "expected.h5")
    return (tmp_path / "expected.h5").read_bytes()


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """Give a checkpoint whose output is sent in several parts."""
    path = tmp_path / "large.h5"
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([b"input_1", b"lambda_1", b"model_1", b"dense_1"])
        for name in ("input_1", "lambda_1", "dense_1"):
            file.create_group(name).attrs["weight_names"] = np.array([])
        group = file.create_group("model_1")
        group.attrs["weight_names"] = np.array([b"dense_1/kernel:0", b"dense_1/bias:0"])
        values = np.random.default_rng(1).random((3000, 2000), "float32")
        group["dense_1/kernel:0"], group["dense_1/bias:0"] = values, values[0]
    return path


def test_an_output_in_s3_has_the_bytes_of_one_on_a_disk(s3: S3, multi: Path, expected: bytes) -> None:
    source = s3.put("multi.h5", multi)
    done: list[tuple[int, int]] = []
    report = remap.extract(source, "s3://bucket/out/single.h5", progress=lambda *step: done.append(step))
    assert s3.get("out/single.h5") == expected
    assert s3.names() == ["multi.h5", "out/single.h5"]
    assert (report.source, report.target) == (source, "s3://bucket/out/single.h5")
    assert report.size == len(expected)
    assert done[-1][0] == done[-1][1]
    assert [part for part, _ in done] == sorted(part for part, _ in done)


def test_a_large_output_is_sent_in_parts(
    s3: S3, large: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(writing, "PART", 5 << 20)
    source = s3.put("large.h5", large)
    remap.extract(source, "s3://bucket/single.h5", submodel="model_1")
    remap.extract(large, tmp_path / "single.h5", submodel="model_1")
    assert s3.get("single.h5") == (tmp_path / "single.h5").read_bytes()
    assert s3.client.head_object(Bucket="bucket", Key="single.h5")["ETag"].endswith('-5"')


def test_an_output_on_an_sftp_server_has_them_too(sftp: Sftp, multi: Path, expected: bytes) -> None:
    shutil.copy(multi, sftp.directory / "multi.h5")
    report = remap.extract(f"{sftp.url}/multi.h5", f"{sftp.url}/single.h5")
    assert (sftp.directory / "single.h5").read_bytes() == expected
    assert report.target == f"{sftp.shown}/single.h5"
    assert sftp.names() == ["multi.h5", "single.h5"]


def test_nothing_is_replaced_unless_it_is_asked_for(s3: S3, sftp: Sftp, multi: Path, expected: bytes) -> None:
    s3.client.put_object(Bucket="bucket", Key="single.h5", Body=b"before")
    (sftp.directory / "single.h5").write_bytes(b"before")
    for url in ("s3://bucket/single.h5", f"{sftp.url}/single.h5"):
        with pytest.raises(OutputRefused, match="a file of that name already") as caught:
            remap.extract(multi, url)
        assert [remedy.option for remedy in caught.value.remedies] == ["overwrite"]
    assert (s3.get("single.h5"), (sftp.directory / "single.h5").read_bytes()) == (b"before", b"before")
    for url in ("s3://bucket/single.h5", f"{sftp.url}/single.h5"):
        remap.extract(multi, url, overwrite=True)
    assert (s3.get("single.h5"), (sftp.directory / "single.h5").read_bytes()) == (expected, expected)


@pytest.mark.parametrize("sums", [True, False])
def test_what_appears_meanwhile_is_not_replaced(
    s3: S3, s3_between: Proxy, sftp: Sftp, multi: Path, monkeypatch: pytest.MonkeyPatch, *, sums: bool
) -> None:
    def appear(method: str, path: str) -> None:
        if method == ("POST" if sums else "PUT") and (sums or ".h5remap-" in path):
            s3.client.put_object(Bucket="bucket", Key="single.h5", Body=b"other")

    s3_between.on_request = appear
    if not sums:
        monkeypatch.setattr(writing, "_sent_in_parts", lambda *_, **__: False)
    with pytest.raises(OutputRefused, match="a file of that name already"):
        remap.extract(multi, "s3://bucket/single.h5")
    assert s3.get("single.h5") == b"other"
    assert (s3.names(), s3.uploads()) == (["single.h5"], [])

    compare = writing._compare

    def compare_and_appear(url: str, sent: writing._Sent) -> None:
        compare(url, sent)
        (sftp.directory / "single.h5").write_bytes(b"other")

    monkeypatch.setattr(writing, "_compare", compare_and_appear)
    monkeypatch.setattr(store.Store, "exists", lambda _: False)
    with pytest.raises(OutputRefused):
        remap.extract(multi, f"{sftp.url}/single.h5")
    assert (sftp.directory / "single.h5").read_bytes() == b"other"
    assert sftp.names() == ["single.h5"]


def test_a_store_that_gives_no_sums_is_read_back(
    s3: S3, multi: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums = hashlib.md5
    monkeypatch.setattr("remap.remote.writing.hashlib.md5", lambda data, **_: sums(data + b"x"))
    remap.extract(multi, "s3://bucket/single.h5")
    assert s3.get("single.h5") == expected
    assert (s3.names(), s3.uploads()) == (["single.h5"], [])


@pytest.mark.parametrize("sums", [True, False])
def test_bytes_that_were_changed_on_the_way_do_not_appear(
    s3: S3, s3_between: Proxy, multi: Path, monkeypatch: pytest.MonkeyPatch, *, sums: bool
) -> None:
    if not sums:
        monkeypatch.setattr(writing, "_sent_in_parts", lambda *_, **__: False)
    s3_between.harm, s3_between.method, s3_between.times = "wrong upload", "PUT", 1000
    with pytest.raises(OutputRefused):
        remap.extract(multi, "s3://bucket/single.h5")
    assert s3_between.done
    assert (s3.names(), s3.uploads()) == ([], [])


@pytest.mark.parametrize("harm", ["cut", "500"])
def test_an_upload_is_repeated(s3: S3, s3_between: Proxy, multi: Path, expected: bytes, harm: Harm) -> None:
    s3_between.harm, s3_between.method, s3_between.times = harm, "PUT", 1
    remap.extract(multi, "s3://bucket/single.h5")
    assert s3.get("single.h5") == expected
    assert s3.names() == ["single.h5"]


@pytest.mark.parametrize("method", ["PUT", "POST", "HEAD", "GET"])
def test_a_store_that_fails_leaves_nothing(s3: S3, s3_between: Proxy, multi: Path, method: str) -> None:
    s3_between.harm, s3_between.method, s3_between.times = "500", method, 1000
    if method == "GET":
        s3.put("multi.h5", multi)
        with pytest.raises(remap.InputRefused, match="the server does not answer"):
            remap.extract("s3://bucket/multi.h5", "s3://bucket/single.h5")
        assert s3.names() == ["multi.h5"]
        return
    with pytest.raises(OutputRefused, match="the server does not answer"):
        remap.extract(multi, "s3://bucket/single.h5")
    assert s3.names() == []


def test_a_refused_input_leaves_nothing(s3: S3, sftp: Sftp, tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("text")
    for url in ("s3://bucket/single.h5", f"{sftp.url}/single.h5"):
        with pytest.raises(remap.InputRefused):
            remap.extract(tmp_path / "text.h5", url)
    assert (s3.names(), s3.uploads(), sftp.names()) == ([], [], [])


def test_a_full_disk_for_the_temporary_file_is_told(
    s3: S3, multi: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("remap.hdf5.copying.os.posix_fallocate", full)
    with pytest.raises(OutputRefused, match="temporary file cannot be written: No space left"):
        remap.extract(multi, "s3://bucket/single.h5")
    assert (s3.names(), s3.uploads()) == ([], [])


def test_an_output_is_no_input_and_no_directory(s3: S3, web: Web, multi: Path) -> None:
    source = s3.put("multi.h5", multi)
    with pytest.raises(UsageRefused, match="the output is the input"):
        remap.extract(source, source, overwrite=True)
    with pytest.raises(UsageRefused, match="the output is the reference model"):
        remap.extract(multi, source, like=source, overwrite=True)
    with pytest.raises(UsageRefused, match="cannot be written to URLs of the web"):
        remap.extract(multi, f"{web.url}/single.h5")
    with pytest.raises(OutputRefused, match="the output is a directory"):
        remap.extract(multi, "s3://bucket/out/")
    with pytest.raises(UsageRefused, match="unknown output extension"):
        remap.extract(multi, "s3://bucket/out.txt")
    assert s3.names() == ["multi.h5"]


@pytest.mark.skipif(os.name == "nt", reason="this system kills processes in another way")
def test_a_process_that_is_killed_while_it_sends_leaves_no_output(
    s3: S3, s3_between: Proxy, multi: Path
) -> None:
    code = "import remap, sys; remap.extract(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(multi), "s3://bucket/single.h5"]
    process = subprocess.Popen(command, cwd=ROOT)

    def kill(method: str, _: str) -> None:
        if method == "PUT":
            process.kill()

    s3_between.on_request = kill
    assert process.wait() == -signal.SIGKILL
    assert s3.names() == []
