"""Many files with one call: what is converted, where it goes, and that no file stops the others."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import remap
from remap import Progress, Result
from remap.batch import files, work
from remap.batch.places import identity_of
from remap.batch.record import RECORD
from remap.batch.results import FORMATS, FormatName
from remap.batch.work import INTERPRETERS, Task, convert_here
from remap.errors import InputRefused, NothingToExtract, OutputRefused, RemapError, UsageRefused
from remap.options import Options
from tests.truth import differences


def by_name(results: Iterator[Result]) -> dict[str, Result]:
    return {Path(result.source).name: result for result in results}


def outputs(folder: str | Path) -> list[str]:
    """List the files below a folder, but for the record."""
    found = (path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())
    return sorted(name for name in found if name != RECORD)


@pytest.mark.parametrize("form", FORMATS)
def test_outputs_are_what_extract_writes_one_by_one(runs: Path, form: FormatName) -> None:
    results = list(remap.extract_many(sorted(runs.iterdir()), "out", format=form, jobs=2))
    assert [result.status for result in results] == ["written"] * 3
    assert outputs("out") == [f"weights.0{n}-0.{loss}.{form}" for n, loss in ((1, 52), (2, 48), (3, 47))]
    remap.extract(results[0].source, f"alone.{form}")
    for result in results:
        assert Path(result.target).read_bytes() == Path(f"alone.{form}").read_bytes()
        assert result.report is not None
        assert result.report.target == result.target
        assert result.exit_code == 0


def test_settings_hold_for_every_file(case: Callable[[str, str], Path], tmp_path: Path) -> None:
    folder = case("keras-2.2.4", "two_io")
    (result,) = remap.extract_many(
        [folder / "multi_weights.h5"], tmp_path / "out", like=folder / "single.json", weights_only=True
    )
    assert result.report is not None
    assert result.report.settled_by == "reference"
    assert not differences(Path(result.target), folder / "single_weights.h5")


def test_every_file_has_its_own_ending(runs: Path, single: Path, case: Callable[[str, str], Path]) -> None:
    shutil.copy(single, runs / "single.h5")
    shutil.copy(case("keras-2.2.4", "two_io") / "multi_weights.h5", runs / "undecided.h5")
    (runs / "text.h5").write_text("text")
    sources = [*sorted(runs.iterdir()), runs / "missing.h5"]
    found = by_name(remap.extract_many(sources, "out", jobs=2))
    assert {name: (result.status, result.exit_code) for name, result in found.items()} == {
        "weights.01-0.52.hdf5": ("written", 0),
        "weights.02-0.48.hdf5": ("written", 0),
        "weights.03-0.47.hdf5": ("written", 0),
        "single.h5": ("already single", 5),
        "undecided.h5": ("refused", 4),
        "text.h5": ("refused", 3),
        "missing.h5": ("refused", 3),
    }
    assert isinstance(found["single.h5"].error, NothingToExtract)
    assert found["missing.h5"].size == 0
    assert len(outputs("out")) == 3


@pytest.fixture
def calling(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Give a function that has another one called, by its name, for the second of the files."""
    original = INTERPRETERS.run

    def call(name: str, *args: Any, **named: Any) -> None:
        def instead(function: str, task: Any, **given: Any) -> Any:
            if "weights.02" in task.source:
                return original(name, *args, where=given["where"], **named)
            return original(function, task, **given)

        monkeypatch.setattr(INTERPRETERS, "run", instead)

    return call


@pytest.mark.parametrize(
    ("function", "args", "status", "words"),
    [
        ("tests.isolated.die", (11,), "refused", "crashed on this file"),
        ("tests.isolated.take", (2 << 30,), "refused", "more memory than 1 GiB"),
        ("tests.isolated.fail", (), "failed", "a bug in h5remap: ZeroDivisionError: division by zero"),
    ],
)
def test_a_crash_a_limit_and_a_bug_are_of_one_file(
    runs: Path, calling: Callable[..., None], function: str, args: tuple[int, ...], status: str, words: str
) -> None:
    calling(function, *args)
    found = by_name(remap.extract_many(runs.iterdir(), "out"))
    assert [result.status for _, result in sorted(found.items())] == ["written", status, "written"]
    assert words in str(found["weights.02-0.48.hdf5"].error)


def test_an_endless_loop_is_of_one_file(runs: Path, calling: Callable[..., None]) -> None:
    calling("tests.isolated.loop", deadline=1)
    found = by_name(remap.extract_many(runs.iterdir(), "out"))
    assert [result.status for _, result in sorted(found.items())] == ["written", "refused", "written"]


def test_a_tree_is_mirrored_and_links_to_directories_are_not_followed(runs: Path, multi: Path) -> None:
    (runs / "a" / "b").mkdir(parents=True)
    shutil.copy(multi, runs / "a" / "b" / "x.h5")
    shutil.copy(multi, runs / "a" / "notes.txt")
    (runs / "a" / "loop").symlink_to(runs, target_is_directory=True)
    (runs / "link.h5").symlink_to(runs / "a" / "b" / "x.h5")
    assert {result.status for result in remap.extract_many([runs], "out", recursive=True)} == {"written"}
    assert outputs("out") == [
        "a/b/x.h5",
        "link.h5",
        *(f"weights.0{n}.h5" for n in ("1-0.52", "2-0.48", "3-0.47")),
    ]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_link_to_nothing_is_refused_and_a_pipe_is_no_file(runs: Path) -> None:
    (runs / "gone.h5").symlink_to("nothing")
    os.mkfifo(runs / "pipe.h5")
    found = by_name(remap.extract_many([runs], "out", recursive=True))
    assert found.pop("gone.h5").status == "refused"
    assert [result.status for result in found.values()] == ["written"] * 3


def test_outputs_below_the_inputs_are_not_inputs_of_the_next_batch(runs: Path) -> None:
    target = runs / "single"
    assert len(list(remap.extract_many([runs], target, recursive=True))) == 3
    assert [result.status for result in remap.extract_many([runs], target, recursive=True, resume=True)] == [
        "already done"
    ] * 3


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ([], [], ["a.h5", "deep/a.h5", "deep/b.hdf5"]),
        (["a.*"], [], ["a.h5", "a.txt", "deep/a.h5"]),
        (["deep/*"], [], ["deep/a.h5", "deep/b.hdf5"]),
        ([], ["deep/*"], ["a.h5"]),
        (["*.h5", "*.hdf5"], ["a*"], ["deep/b.hdf5"]),
    ],
)
def test_patterns_choose_files_by_name_or_by_path(
    tmp_path: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    for name in ("a.h5", "a.txt", "deep/a.h5", "deep/b.hdf5"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    results = remap.extract_many(
        [tmp_path / "in"], tmp_path / "out", recursive=True, include=include, exclude=exclude
    )
    assert (
        sorted(Path(result.source).relative_to(tmp_path / "in").as_posix() for result in results) == expected
    )


def test_patterns_choose_among_named_files_whatever_their_extension(tmp_path: Path) -> None:
    names = ["epoch1", "epoch2"]
    chosen = remap.extract_many([tmp_path / name for name in names], tmp_path / "out", exclude=["*1"])
    assert [Path(result.target).name for result in chosen] == ["epoch2.h5"]


@pytest.mark.parametrize(
    ("name", "form", "expected"),
    [
        ("weights.0001-0.52.hdf5", "keras", "weights.0001-0.52.keras"),
        ("a.weights.h5", "h5", "a.h5"),
        ("A.H5", "weights.h5", "A.weights.h5"),
        ("epoch.12", "h5", "epoch.12.h5"),
    ],
)
def test_names_stay_and_the_extension_follows_the_format(name: str, form: FormatName, expected: str) -> None:
    assert files.output_name(name, form) == expected


def refused(*args: Any, **named: Any) -> RemapError:
    """Give the error of a call that must write nothing."""
    with pytest.raises(RemapError) as caught:
        remap.extract_many(*args, **named)
    assert not Path("out").is_dir()
    return caught.value


def test_two_inputs_with_one_output_are_refused_before_anything_is_written(runs: Path, multi: Path) -> None:
    shutil.copy(multi, runs / "weights.01-0.52.h5")
    error = refused(sorted(runs.iterdir()), "out")
    assert isinstance(error, UsageRefused)
    assert "weights.01-0.52.h5 and " in error.what
    assert error.where == "out/weights.01-0.52.h5"


@pytest.mark.parametrize(("ignored", "number"), [(True, None), (False, 2)])
def test_names_that_differ_in_case_are_one_name_where_the_file_system_takes_them_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignored: bool, number: int | None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(files, "_ignores_case", lambda _: ignored)
    sources = [tmp_path / "x" / "STRASSE.h5", tmp_path / "y" / "straße.h5"]
    if number is None:
        assert "two inputs would get one output" in refused(sources, "out").what
    else:
        assert len(list(remap.extract_many(sources, "out"))) == number


def test_whether_case_is_ignored_is_told_by_a_name_that_exists(tmp_path: Path) -> None:
    other = tmp_path.with_name(tmp_path.name.swapcase())
    assert files._ignores_case(str(tmp_path / "new" / "12")) is other.exists()
    other.symlink_to(tmp_path, target_is_directory=True)
    assert files._ignores_case(str(tmp_path / "new" / "12"))


def test_an_output_that_is_an_input_is_refused(runs: Path, multi: Path) -> None:
    shutil.copy(multi, runs / "again.h5")
    with pytest.raises(UsageRefused, match=r"an output is one of the inputs: .*again\.h5"):
        remap.extract_many(sorted(runs.iterdir()), runs, overwrite=True)
    assert not (runs / RECORD).exists()
    os.link(runs / "again.h5", runs / "weights.01-0.52.h5")  # another name of an input
    with pytest.raises(UsageRefused, match="an output is one of the inputs"):
        remap.extract_many([runs / "again.h5", runs / "weights.01-0.52.hdf5"], runs)


def test_a_directory_is_refused_unless_directories_are_to_be_searched(runs: Path) -> None:
    error = refused([runs], "out")
    assert (type(error), error.where) == (UsageRefused, str(runs))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the user may read every directory")
def test_a_directory_that_cannot_be_read_is_refused(runs: Path) -> None:
    (runs / "closed").mkdir(mode=0)
    assert isinstance(refused([runs], "out", recursive=True), InputRefused)


def test_a_directory_that_vanishes_is_refused(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def scandir(path: str) -> Any:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", scandir)
    assert "a directory cannot be read: Permission denied" in refused([runs], "out", recursive=True).what


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ({"format": "hdf5"}, "no such format: hdf5"),
        ({"jobs": 0}, "0 files at a time"),
        ({"plain": True, "like": "model.json"}, "exclude each other"),
        ({"like": "missing.json"}, "the reference model cannot be read: No such file"),
    ],
)
def test_arguments_that_cannot_be_are_refused(runs: Path, named: dict[str, Any], words: str) -> None:
    assert words in refused(runs.iterdir(), "out", **named).what


def test_a_target_that_is_a_file_is_refused(runs: Path) -> None:
    Path("out").touch()
    with pytest.raises(UsageRefused, match="the output is a file"):
        remap.extract_many(runs.iterdir(), "out")


def test_a_target_that_cannot_be_made_is_refused(runs: Path) -> None:
    Path("file").touch()
    with pytest.raises(OutputRefused, match="the directory cannot be made"):
        remap.extract_many(runs.iterdir(), "file/out")


def test_a_place_in_the_target_that_cannot_be_made_is_refused_for_its_file(runs: Path, multi: Path) -> None:
    (runs / "deep").mkdir()
    shutil.copy(multi, runs / "deep" / "x.h5")
    Path("out").mkdir()
    Path("out/deep").touch()
    found = by_name(remap.extract_many([runs], "out", recursive=True))
    assert found.pop("x.h5").exit_code == OutputRefused.exit_code
    assert {result.status for result in found.values()} == {"written"}


def test_one_name_is_one_source(runs: Path) -> None:
    assert [r.status for r in remap.extract_many(str(runs / "weights.01-0.52.hdf5"), "out")] == ["written"]


def test_no_source_is_no_result(tmp_path: Path) -> None:
    assert list(remap.extract_many([], tmp_path / "out")) == []


def test_names_may_come_from_a_generator_that_is_longer_than_what_is_at_work(tmp_path: Path) -> None:
    """Names are kept on disk, and only a few files are handed out at a time."""
    highest = 0

    class Counting(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            nonlocal highest
            future: Future[Any] = Future()
            waiting.append(future)
            highest = max(highest, len(waiting))
            if len(waiting) == 5:
                while waiting:
                    waiting.pop().set_exception(OSError("lost"))
            return future

    waiting: list[Future[Any]] = []
    names = (tmp_path / f"{number}.h5" for number in range(20_000))
    results = remap.extract_many(names, tmp_path / "out", executor=Counting(), jobs=5)
    assert sum(1 for result in results if result.status == "failed") == 20_000
    assert highest == 5


def test_existing_outputs_stay_unless_they_are_to_be_replaced(runs: Path) -> None:
    Path("out").mkdir()
    there = Path("out/weights.02-0.48.h5")
    there.write_text("precious")
    found = by_name(remap.extract_many(runs.iterdir(), "out"))
    error = found["weights.02-0.48.hdf5"].error
    assert isinstance(error, OutputRefused)
    assert there.read_text() == "precious"
    found = by_name(remap.extract_many(runs.iterdir(), "out", overwrite=True))
    assert {result.status for result in found.values()} == {"written"}
    assert there.read_text(errors="replace") != "precious"


def test_fail_fast_begins_nothing_after_a_refusal(runs: Path) -> None:
    (runs / "0.h5").write_text("text")
    results = list(remap.extract_many(sorted(runs.iterdir()), "out", fail_fast=True, jobs=1))
    assert results[0].status == "refused"
    assert len(outputs("out")) == len(results) - 1 < 3


def test_a_single_model_is_no_failure_for_fail_fast(runs: Path, single: Path) -> None:
    shutil.copy(single, runs / "0.h5")
    assert len(list(remap.extract_many(sorted(runs.iterdir()), "out", fail_fast=True, jobs=1))) == 4


def test_progress_counts_files_and_bytes(runs: Path) -> None:
    steps: list[Progress] = []
    size = sum(path.stat().st_size for path in runs.iterdir())
    list(remap.extract_many(runs.iterdir(), "out", progress=steps.append))
    assert [step.files_done for step in steps] == [0, 1, 2, 3]
    assert {(step.files, step.bytes) for step in steps} == {(3, size)}
    assert steps[-1].bytes_done == size


def test_to_leave_a_batch_early_ends_its_processes_and_leaves_whole_outputs(runs: Path) -> None:
    results = remap.extract_many(runs.iterdir(), "out", jobs=1)
    first = next(results)
    results.close()
    assert not INTERPRETERS._busy
    assert not INTERPRETERS._idle
    assert Path(first.target).name in outputs("out")
    remap.extract(first.source, "alone.h5")
    for name in outputs("out"):
        assert Path("out", name).read_bytes() == Path("alone.h5").read_bytes()


EXECUTORS: dict[str, Callable[[], Executor]] = {
    "threads": lambda: ThreadPoolExecutor(2),
    "processes": lambda: ProcessPoolExecutor(1, mp_context=get_context("spawn")),
}


@pytest.mark.parametrize("kind", EXECUTORS)
def test_any_executor_will_do(runs: Path, kind: str) -> None:
    (runs / "0.h5").write_text("text")
    with EXECUTORS[kind]() as executor:
        results = list(remap.extract_many(sorted(runs.iterdir()), "out", executor=executor))
        assert sorted(result.status for result in results) == ["refused", *["written"] * 3]
        assert executor.submit(int).result() == 0  # it is the caller's, and still at work
    INTERPRETERS.close()


def test_relative_names_are_those_of_the_caller(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers may have been started in another directory."""
    (runs / "0.h5").write_text("text")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with ThreadPoolExecutor(1) as executor:
        for folder in (elsewhere, tmp_path):
            monkeypatch.chdir(folder)
            name = os.path.relpath(runs, folder)
            results = list(remap.extract_many([name], "out", recursive=True, executor=executor))
            assert {result.status for result in results} == {"refused", "written"}
            for result in results:
                assert Path(result.source).is_absolute() is False
                assert Path(result.target).exists() is (result.status == "written")
                if result.report is not None:
                    assert (result.report.source, result.report.target) == (result.source, result.target)
                else:
                    assert result.error is not None
                    assert result.error.where == result.source
    INTERPRETERS.close()
    assert outputs(elsewhere / "out") == outputs(tmp_path / "out")


def test_a_file_that_its_executor_lost_is_a_failure(runs: Path) -> None:
    class Losing(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_exception(RuntimeError("the worker is gone"))
            return future

    results = list(remap.extract_many(runs.iterdir(), "out", executor=Losing()))
    assert {(result.status, result.exit_code) for result in results} == {("failed", 1)}
    assert "RuntimeError: the worker is gone" in str(results[0].error)


def test_a_task_that_is_carried_out_twice_is_written_once(runs: Path) -> None:
    """A cluster carries a task out again where a worker was lost after its work."""

    class Twice(ThreadPoolExecutor):
        def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
            return super().submit(lambda: [function(*args, **named), function(*args, **named)][1])

    with Twice(1) as executor:
        results = list(remap.extract_many(runs.iterdir(), "out", executor=executor))
    INTERPRETERS.close()
    assert {result.status for result in results} == {"written"}


def test_results_are_json(runs: Path) -> None:
    (runs / "0.h5").write_text("text")
    bad, good, *_ = sorted(
        (r.to_json() for r in remap.extract_many([runs], "out", recursive=True)), key=lambda r: r["source"]
    )
    assert (good["format"], good["version"], good["status"], good["error"]) == (
        "h5remap-result",
        1,
        "written",
        None,
    )
    assert good["report"]["target"] == good["target"]
    assert (bad["status"], bad["report"], bad["size"]) == ("refused", None, 4)
    assert (bad["error"]["kind"], bad["error"]["exit_code"]) == ("input-refused", 3)


def test_a_batch_that_is_never_begun_leaves_nothing_open(tmp_path: Path) -> None:
    results = remap.extract_many([], tmp_path / "out")
    results.close()
    del results
    gc.collect()  # what is left open is a warning, and warnings are errors here
    assert not (tmp_path / "out" / RECORD).exists()


def test_an_unyielded_output_is_recorded_when_the_batch_is_left(runs: Path) -> None:
    results = remap.extract_many(runs.iterdir(), "out", executor=_AtOnce())
    next(results)
    results.close()
    assert len(outputs("out")) == 3
    assert len(Path("out", RECORD).read_text().splitlines()) == 3


class _AtOnce(Executor):
    def submit(self, function: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **named))
        return future


def test_the_executors_that_are_left_early_are_asked_to_cancel(runs: Path) -> None:
    class Never(Executor):
        def submit(self, *_: Any, **__: Any) -> Future[Any]:
            futures.append(Future())
            if len(futures) == 2:
                futures[0].set_exception(OSError("lost"))
            return futures[-1]

    futures: list[Future[Any]] = []
    results = remap.extract_many(runs.iterdir(), "out", executor=Never())
    next(results)
    results.close()
    assert [future.cancelled() for future in futures] == [False, True, True]
    assert work.processors() >= 1


def test_the_work_of_a_child_is_done_alike_in_this_process(runs: Path, multi: Path, tmp_path: Path) -> None:
    target = str(tmp_path / "deep" / "out.h5")
    task = Task(source=str(multi), target=target, options=Options(), repeatable=False)
    outcome = convert_here(task)
    assert (outcome.found, outcome.error) == (False, None)
    assert outcome.source == identity_of(str(multi))
    assert outcome.target == identity_of(target)
    with pytest.raises(OutputRefused, match="of that name already"):
        convert_here(task)
    again = convert_here(replace(task, repeatable=True))
    assert again == replace(outcome, found=True)
    Path(target).write_text("precious")
    with pytest.raises(OutputRefused, match="not what this input and these settings give"):
        convert_here(replace(task, repeatable=True))
    (runs / "file").touch()
    with pytest.raises(OutputRefused, match="the directory cannot be made"):
        convert_here(replace(task, target=str(runs / "file" / "out.h5")))
    assert identity_of(str(runs / "missing")) is None
