"""Batches from and to URLs: on this machine, by the command line, and on a cluster."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import remap
from remap.batch import record, work
from remap.batch.record import RECORD
from remap.batch.work import INTERPRETERS
from remap.errors import InputRefused, OutputRefused, UsageRefused
from remap.options import Options
from tests.remote.conftest import S3, Sftp
from tests.remote.servers import Web
from tests.remote.test_command_line import h5remap

pytestmark = pytest.mark.filterwarnings("ignore")
NAMES = ("weights.01.hdf5", "weights.02.hdf5", "deep/weights.03.hdf5")
OUTPUTS = [f"single/{name.replace('.hdf5', '.h5')}" for name in NAMES]


@pytest.fixture(autouse=True)
def _no_interpreter_stays() -> Iterator[None]:
    yield
    INTERPRETERS.close()


@pytest.fixture
def runs(s3: S3, multi: Path) -> str:
    """Give a directory of S3 with three checkpoints, and one file that is none."""
    for name in NAMES:
        s3.put(f"runs/{name}", multi)
    s3.client.put_object(Bucket="bucket", Key="runs/notes.txt", Body=b"text")
    return "s3://bucket/runs"


@pytest.fixture
def expected(multi: Path, tmp_path: Path) -> bytes:
    """Give what the conversion writes on this machine."""
    remap.extract(multi, tmp_path / "expected.h5")
    return (tmp_path / "expected.h5").read_bytes()


def made(s3: S3) -> list[str]:
    """List what is below the directory of the outputs, without the record."""
    return [name for name in s3.names() if name.startswith("single/") and not name.endswith(RECORD)]


def statuses(results: Any) -> Counter[str]:
    """Count the files of each status."""
    return Counter(result.status for result in results)


def test_a_directory_is_converted_and_mirrored(s3: S3, runs: str, expected: bytes) -> None:
    s3.put("single/old/weights.09.hdf5", Path(__file__))  # below the outputs, when these are below the inputs
    found = {
        result.source: (result.status, result.target, result.size)
        for result in remap.extract_many([f"{runs}/"], "s3://bucket/single/", recursive=True)
    }
    size = len(s3.get("runs/weights.01.hdf5"))
    assert found == {
        f"{runs}/{name}": ("written", f"s3://bucket/{output}", size)
        for name, output in zip(NAMES, OUTPUTS, strict=True)
    }
    assert all(s3.get(name) == expected for name in OUTPUTS)
    again = remap.extract_many([runs], "s3://bucket/runs/out", recursive=True, exclude=["deep/*"])
    assert statuses(again) == {"written": 2}
    assert statuses(remap.extract_many([runs], "s3://bucket/runs/out", recursive=True, resume=True)) == {
        "already done": 2,
        "written": 1,
    }


def test_a_batch_goes_on_where_it_ended(
    s3: S3, runs: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = "s3://bucket/single"
    monkeypatch.setattr(record, "_LEAST", 0)  # the record is written for each output
    first = remap.extract_many([runs], target, recursive=True, jobs=1)
    assert next(first).status == "written"
    first.close()
    done = len(made(s3))
    assert 1 <= len(s3.get(f"single/{RECORD}").splitlines()) <= done
    before = {name: s3.client.head_object(Bucket="bucket", Key=name)["LastModified"] for name in made(s3)}
    assert statuses(remap.extract_many([runs], target, recursive=True, resume=True)) == Counter(
        {"already done": done, "written": 3 - done}
    )
    for name, time in before.items():
        assert s3.client.head_object(Bucket="bucket", Key=name)["LastModified"] == time
    # An output that is not recorded is compared; one that is changed is refused; an input that changed is converted.
    s3.client.delete_object(Bucket="bucket", Key=f"single/{RECORD}")
    s3.client.put_object(Bucket="bucket", Key=OUTPUTS[0], Body=b"other")
    found = list(remap.extract_many([runs], target, recursive=True, resume=True))
    assert statuses(found) == {"refused": 1, "already done": 2}
    assert statuses(remap.extract_many([runs], target, recursive=True, resume=True, overwrite=True)) == {
        "written": 1,
        "already done": 2,
    }
    assert all(s3.get(name) == expected for name in OUTPUTS)


def test_settings_and_reference_model_are_part_of_the_record(s3: S3, runs: str, multi: Path) -> None:
    like = s3.put("like.h5", multi)
    remap.extract(multi, "s3://bucket/like.h5", overwrite=True)
    for _ in range(2):
        found = list(remap.extract_many([f"{runs}/{NAMES[0]}"], "s3://bucket/single", like=like, resume=True))
    assert statuses(found) == {"already done": 1}
    line = json.loads(s3.get(f"single/{RECORD}").splitlines()[0])
    assert line["source"] == f"{runs}/{NAMES[0]}"
    assert line["target"] == "weights.01.h5"
    assert line["input"]["version"].startswith("ETag")
    with pytest.raises(InputRefused, match="there is no such file"):
        remap.extract_many([runs], "s3://bucket/single", recursive=True, like="s3://bucket/none.json")


def test_an_sftp_server_gets_directories(sftp: Sftp, multi: Path, expected: bytes) -> None:
    (sftp.directory / "runs" / "deep").mkdir(parents=True)
    for name in NAMES:
        shutil.copy(multi, sftp.directory / "runs" / name)
    results = list(remap.extract_many([f"{sftp.url}/runs"], f"{sftp.url}/a/single", recursive=True))
    assert statuses(results) == {"written": 3}
    assert {result.source for result in results} == {f"{sftp.shown}/runs/{name}" for name in NAMES}
    assert all((sftp.directory / "a" / name).read_bytes() == expected for name in OUTPUTS)
    recorded = (sftp.directory / "a" / "single" / RECORD).read_text()
    assert "p%40ss" not in recorded
    assert "***" in recorded
    again = remap.extract_many([f"{sftp.url}/runs"], f"{sftp.url}/a/single", recursive=True, resume=True)
    assert statuses(again) == {"already done": 3}


def test_one_bad_url_does_not_stop_the_others(s3: S3, runs: str, web: Web) -> None:
    s3.client.put_object(Bucket="bucket", Key="runs/text.h5", Body=b"text")
    sources = [f"{runs}/text.h5", f"{runs}/none.h5", f"{web.url}/multi.h5?sig=0123", f"{runs}/{NAMES[1]}"]
    found = {
        result.source.rpartition("/")[2]: result
        for result in remap.extract_many(sources, "s3://bucket/single")
    }
    assert {name: result.status for name, result in found.items()} == {
        "text.h5": "refused",
        "none.h5": "refused",
        "multi.h5?***": "written",
        "weights.02.hdf5": "written",
    }
    assert str(found["none.h5"].error).startswith("there is no such file")


def test_what_cannot_be_a_batch_is_refused_before_anything_is_written(s3: S3, runs: str, web: Web) -> None:
    s3.put("runs/weights.02.h5", Path(__file__))
    before = s3.names()
    for sources, target, recursive, words in (
        ([runs], "s3://bucket/single", False, "an input is a directory"),
        ([f"{runs}/"], "s3://bucket/single", False, "an input is a directory"),
        ([runs], "s3://bucket/single", True, "two inputs would get one output"),
        ([f"{runs}/weights.02.h5"], runs, False, "an output is one of the inputs"),
        ([f"{web.url}/"], "s3://bucket/single", True, "directories of the web cannot be listed"),
    ):
        with pytest.raises(UsageRefused, match=words):
            remap.extract_many(sources, target, recursive=recursive)
    with pytest.raises(UsageRefused, match="URLs of the web"):
        remap.extract_many([f"{runs}/{NAMES[0]}"], f"{web.url}/single")
    assert s3.names() == before


def test_a_task_that_is_repeated_keeps_what_is_there(s3: S3, runs: str) -> None:
    target = "s3://bucket/single/weights.01.h5"
    task = work.Task(source=f"{runs}/{NAMES[0]}", target=target, options=Options(), repeatable=True)
    first, second = work.convert_here(task), work.convert_here(task)
    assert (first.found, second.found) == (False, True)
    assert (first.source, first.target) == (second.source, second.target)
    s3.client.put_object(Bucket="bucket", Key="single/weights.01.h5", Body=b"other")
    with pytest.raises(OutputRefused, match="is not what this input and these settings give"):
        work.convert_here(task)


def test_on_the_command_line(s3: S3, runs: str, expected: bytes, tmp_path: Path) -> None:
    s3.client.put_object(Bucket="bucket", Key="runs/text.h5", Body=b"text")
    ended = h5remap("extract", "-r", runs, "-o", "s3://bucket/single/", cwd=tmp_path)
    assert ended.returncode == 3
    assert sorted(ended.stderr.splitlines()) == [
        f"refused: {runs}/text.h5",
        *(f"written: s3://bucket/{name}" for name in sorted(OUTPUTS)),
    ]
    assert f"   in: {runs}/text.h5" in ended.stdout.splitlines()
    assert all(s3.get(name) == expected for name in OUTPUTS)
    ended = h5remap(
        "extract", f"{runs}/{NAMES[0]}", f"{runs}/{NAMES[1]}", "-o", "local", "--json", cwd=tmp_path
    )
    assert {json.loads(line)["status"] for line in ended.stdout.splitlines()} == {"written"}
    assert (tmp_path / "local" / "weights.01.h5").read_bytes() == expected


FILES = int(os.environ.get("H5REMAP_CLUSTER_FILES", "8"))


@pytest.mark.skipif(os.name == "nt", reason="this system kills processes in another way")
def test_a_worker_of_a_cluster_that_is_killed_costs_a_retry_and_nothing_else(
    s3: S3, multi: Path, expected: bytes
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    sources = [s3.put(f"runs/epoch{number:03}.h5", multi) for number in range(FILES)]
    found = Counter[tuple[str, str]]()
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        results = remap.extract_many(sources, "s3://bucket/single", executor=client.get_executor())
        for number, result in enumerate(results):
            found[result.source, result.status] += 1
            if number == FILES // 2:
                os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
    assert found == {(source, "written"): 1 for source in sources}
    outputs = [f"single/epoch{number:03}.h5" for number in range(FILES)]
    assert [name for name in made(s3) if not name.rpartition("/")[2].startswith(".h5remap-")] == outputs
    assert all(s3.get(name) == expected for name in outputs)
    assert statuses(remap.extract_many(sources, "s3://bucket/single", resume=True)) == {"already done": FILES}
