"""A batch that is run again: nothing is done twice, nothing is trusted for its name."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import h5py
import pytest

import remap
from remap.batch import record, work
from remap.batch.record import RECORD
from remap.errors import OutputRefused
from tests.batch.test_extract_many import outputs


class Idle(Executor):
    """Takes no work."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("there is nothing to do")


def statuses(runs: Path, **named: Any) -> dict[str, int]:
    return Counter(result.status for result in remap.extract_many([runs], "out", recursive=True, **named))


@pytest.fixture
def done(runs: Path) -> Path:
    """Give the folder of inputs of a batch that is done."""
    assert statuses(runs) == {"written": 3}
    return runs


def test_what_is_recorded_is_not_done_again(done: Path) -> None:
    before = {name: (Path("out", name).stat().st_mtime_ns) for name in outputs("out")}
    assert statuses(done, resume=True, executor=Idle()) == {"already done": 3}
    assert before == {name: (Path("out", name).stat().st_mtime_ns) for name in outputs("out")}


def test_without_resume_outputs_that_are_there_are_refused(done: Path) -> None:
    assert statuses(done) == {"refused": 3}


def test_from_another_directory_the_record_holds_too(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Path("out").absolute()
    monkeypatch.chdir("/")
    results = remap.extract_many([done], target, recursive=True, resume=True, executor=Idle())
    assert [result.status for result in results] == ["already done"] * 3


def test_an_output_that_is_gone_is_written_again(done: Path) -> None:
    Path("out/weights.01-0.52.h5").unlink()
    assert statuses(done, resume=True) == {"written": 1, "already done": 2}


def test_an_output_that_changed_is_refused_and_stays(done: Path) -> None:
    changed = Path("out/weights.01-0.52.h5")
    status = changed.stat()
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a tool that copies files does
    assert statuses(done, resume=True) == {"refused": 1, "already done": 2}
    assert changed.read_bytes() == content
    (error,) = [r.error for r in remap.extract_many([done], "out", recursive=True, resume=True) if r.error]
    assert isinstance(error, OutputRefused)
    assert [remedy.option for remedy in error.remedies] == ["overwrite"]


def test_an_input_that_changed_is_not_passed_over(done: Path) -> None:
    changed = done / "weights.01-0.52.hdf5"
    os.utime(changed)
    assert statuses(done, resume=True) == {"already done": 3}  # compared, for its content did not change
    status = changed.stat()
    with h5py.File(changed, "r+") as file:
        names: list[str] = []
        file["model_weights"].visit(names.append)
        for name in names:
            if isinstance(file["model_weights"][name], h5py.Dataset):
                file["model_weights"][name][...] += 1
    assert changed.stat().st_size == status.st_size
    os.utime(changed, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert statuses(done, resume=True) == {"already done": 2, "refused": 1}


def test_another_input_of_the_same_name_is_refused_and_replaced_when_told(done: Path, case: Any) -> None:
    shutil.copy(case("keras-2.2.4", "nested") / "multi.h5", done / "weights.01-0.52.hdf5")
    assert statuses(done, resume=True) == {"refused": 1, "already done": 2}
    assert statuses(done, resume=True, overwrite=True) == {"written": 1, "already done": 2}
    assert statuses(done, resume=True, executor=Idle()) == {"already done": 3}


def test_other_settings_are_another_batch(done: Path) -> None:
    assert statuses(done, resume=True, weights_only=True) == {"refused": 3}


def test_the_reference_model_counts_by_its_content(runs: Path, case: Any) -> None:
    like = Path("model.json")
    shutil.copy(case("keras-2.2.4", "conv_bn") / "single.json", like)
    assert statuses(runs, like=like) == {"written": 3}
    os.utime(like)
    assert statuses(runs, like=like, resume=True, executor=Idle()) == {"already done": 3}
    like.write_text(like.read_text() + " ")
    assert statuses(runs, like=like, resume=True) == {"already done": 3}  # compared
    like.write_text(like.read_text() + " ")
    with pytest.raises(AssertionError, match="nothing to do"):
        statuses(runs, like=like, resume=True, executor=Idle())


def test_another_release_does_not_trust_the_record(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "__version__", "0.0.1")
    with pytest.raises(AssertionError, match="nothing to do"):
        statuses(done, resume=True, executor=Idle())


def test_outputs_without_a_record_are_compared_with_what_would_be_written(done: Path) -> None:
    Path("out", RECORD).unlink()
    Path("out/weights.02-0.48.h5").write_text("precious")
    assert statuses(done, resume=True) == {"already done": 2, "refused": 1}
    assert Path("out/weights.02-0.48.h5").read_text() == "precious"
    Path("out/weights.02-0.48.h5").unlink()
    assert statuses(done, resume=True) == {"already done": 2, "written": 1}


def test_a_line_that_was_cut_is_not_read_and_does_not_spoil_the_next(done: Path) -> None:
    path = Path("out", RECORD)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    assert statuses(done, resume=True) == {"already done": 3}
    assert statuses(done, resume=True, executor=Idle()) == {"already done": 3}
    assert [len(line) for line in path.read_bytes().splitlines()] == [
        *map(len, (line.rstrip() for line in lines[:2])), 40, len(lines[2]) - 1
    ]  # fmt: skip


def test_lines_of_the_record_are_json(done: Path) -> None:
    line = json.loads(Path("out", RECORD).read_text().splitlines()[0])
    assert (line["format"], line["version"]) == ("h5remap-record", 1)
    assert line["target"] in outputs("out")
    assert line["input"]["size"] == Path(line["source"]).stat().st_size
    assert line["source"].startswith(str(done))


def test_a_record_that_cannot_be_written_is_refused(runs: Path) -> None:
    Path("out", RECORD).mkdir(parents=True)
    with pytest.raises(OutputRefused, match="the record of the batch cannot be written"):
        list(remap.extract_many([runs], "out", recursive=True))
    with pytest.raises(OutputRefused, match="the record of the batch cannot be read"):
        remap.extract_many([runs], "out", recursive=True, resume=True)


def test_a_record_on_a_full_disk_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    results = remap.extract_many([runs], "out", recursive=True)
    first = next(results)
    assert first.status == "written"
    monkeypatch.setattr("remap.batch.record.os.write", write)
    with pytest.raises(OutputRefused, match="No space left on device"):
        list(results)


def test_a_file_that_is_gone_is_not_recorded(runs: Path) -> None:
    with record.Record(str(runs), "settings") as made:
        made.add("in", "out", work.Outcome())
    assert (runs / RECORD).read_text() == ""


KILLED = """
import sys, remap
for number, result in enumerate(remap.extract_many(["runs"], "out", recursive=True)):
    assert result.status == "written", result
    print(result.source, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills processes in another way")
def test_a_batch_that_was_killed_continues_where_it_ended(runs: Path, multi: Path) -> None:
    for number in range(37):
        shutil.copy(multi, runs / f"epoch{number}.h5")
    process = subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(10):
        assert process.stdout.readline()
    process.kill()
    process.stdout.close()
    process.wait()
    remap.extract(multi, "alone.h5")
    whole = Path("alone.h5").read_bytes()
    before = {name: Path("out", name).stat().st_mtime_ns for name in outputs("out")}
    assert all(Path("out", name).read_bytes() == whole for name in before)
    assert 10 <= len(before) < 40

    found = statuses(runs, resume=True)
    assert sum(found.values()) == 40
    assert set(found) == {"already done", "written"}
    assert found["already done"] >= len(before)
    assert len(outputs("out")) == 40
    assert all(Path("out", name).read_bytes() == whole for name in outputs("out"))
    assert before == {name: Path("out", name).stat().st_mtime_ns for name in before}
