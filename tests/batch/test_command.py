"""Many files on the command line: what is shown, where it goes, and the exit code."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from remap.batch.results import Progress, Result, Status
from remap.batch.summary import Summary
from remap.console import batch
from remap.console.batch import BatchRequest, summary_lines
from remap.console.terminal import Terminal
from remap.errors import (
    GIVE_JSON,
    SAY_PLAIN,
    InputRefused,
    NothingToExtract,
    OutputRefused,
    RemapError,
    Remedy,
    Undecided,
)
from tests.batch.test_extract_many import outputs
from tests.commandline import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def test_many_files_go_to_a_directory_and_a_table_says_what_came_out(
    runs: Path, single: Path, run: Run
) -> None:
    shutil.copy(single, runs / "single.h5")
    (runs / "text.h5").write_text("text")
    ended = run("extract", *sorted(runs.iterdir()), "-o", "out")
    assert ended.code == 3
    head, *table = ended.out.splitlines()
    assert head.startswith("5 files in ")
    assert [line.split()[:2] for line in table[:1]] == [["written", "3"]]
    assert [line.split() for line in table[1:3]] == [["already", "single", "1"], ["refused", "1"]]
    assert "1 file: this is not an HDF5 file: it is a text file" in table
    assert f"   in: {runs / 'text.h5'}" in table
    assert sorted(ended.err.splitlines()) == [
        f"already single: {runs / 'single.h5'}",
        f"refused: {runs / 'text.h5'}",
        *(f"written: out/{name}" for name in outputs("out")),
    ]


def test_json_is_a_line_for_each_file(runs: Path, run: Run) -> None:
    ended = run("extract", "-r", runs, "-o", "out", "--format", "keras", "--jobs", "1", "--json")
    lines = [json.loads(line) for line in ended.out.splitlines()]
    assert [(line["format"], line["status"]) for line in lines] == [("h5remap-result", "written")] * 3
    assert (ended.code, ended.err) == (0, "")


def test_quiet_says_nothing_when_all_went_well(runs: Path, run: Run) -> None:
    ended = run("extract", "-r", runs, "-o", "out", "-q")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    (runs / "text.h5").write_text("text")
    ended = run("extract", "-r", runs, "-o", "out", "-q", "--resume", "--exclude", "*01*")
    assert (ended.code, ended.out) == (3, "")
    assert "already done           2" in ended.err


def test_one_file_and_a_directory_is_a_batch_of_one(runs: Path, run: Run) -> None:
    assert run("extract", next(runs.iterdir()), "-o", "out/").out.startswith("1 file in ")
    assert run("extract", next(runs.iterdir()), "-o", "out", "--resume").out.startswith("1 file in ")
    assert len(outputs("out")) == 1


def test_fail_fast_tells_how_to_go_on(runs: Path, run: Run) -> None:
    (runs / "0.h5").write_text("text")
    ended = run("extract", "-r", runs, "-o", "out", "--fail-fast", "--jobs", "1", "--include", "*5")
    assert ended.code == 3
    assert " of 4 files in " in ended.out or "4 files in" in ended.out
    shown = ended.out.rpartition("\n  ")[2].strip()
    assert shown == f"h5remap extract {runs} -o out --recursive --include '*5' --jobs 1 --resume --fail-fast"
    assert run(*shlex.split(shown)[1:-1], "--exclude", "0.h5").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-o", "single.h5"], "the output has the name of a file"),
        (["-o", "out", "--dry-run"], "a dry run shows one file"),
        (["-o", "out", "--format", "zip"], "no such format: zip"),
        (["-o", "out", "--plain", "--like", "runs"], "exclude each other"),
    ],
)
def test_what_cannot_be_asked_of_many_files_is_refused(
    runs: Path, run: Run, words: list[str], message: str
) -> None:
    ended = run("extract", *runs.iterdir(), *words)
    assert ended.code == 2
    assert message in ended.err
    assert sorted(path.name for path in Path().iterdir()) == ["runs"]


def test_a_cluster_without_dask_is_refused(runs: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    ended = run("extract", "-r", runs, "-o", "out", "--cluster", "tcp://127.0.0.1:8786")
    assert (ended.code, Path("out").exists()) == (2, False)
    assert "pip install 'h5remap[cluster]'" in ended.err


INTERRUPTED = """
import signal, sys
from remap.console import batch

result = batch._Shown.result
def interrupt(self, ended):
    result(self, ended)
    signal.raise_signal(signal.{name})
batch._Shown.result = interrupt
sys.argv = ["h5remap", "extract", "-r", "runs", "-o", "out"]
from remap.__main__ import main
main()
"""


@pytest.mark.skipif(os.name == "nt", reason="this system has no such signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_the_batch_and_says_what_is_done(runs: Path, multi: Path, name: str, code: int) -> None:
    for number in range(20):
        shutil.copy(multi, runs / f"epoch{number}.h5")
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(name=name)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == code
    assert "Traceback" not in ended.stderr
    if name == "SIGINT":
        assert ended.stdout.startswith("Interrupted: 1 of 23 files in ")
        assert ended.stdout.endswith("  h5remap extract runs -o out --recursive --resume\n")
    assert 1 <= len(outputs("out")) < 23
    assert not list(Path("out").glob(".h5remap-*"))


@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo-terminals")
def test_a_terminal_shows_a_bar_of_files_and_bytes(runs: Path) -> None:
    pty = pytest.importorskip("pty")
    (runs / "text.h5").write_text("text")
    shown: list[bytes] = []

    def read(terminal: int) -> bytes:
        shown.append(os.read(terminal, 1 << 16))
        return shown[-1]

    status = pty.spawn([sys.executable, "-m", "remap", "extract", "-r", "runs", "-o", "out"], read)
    text = b"".join(shown).decode()
    assert os.waitstatus_to_exitcode(status) == 3
    assert "converting" in text
    assert "of 4 files" in text
    assert "refused: runs/text.h5" in text


def result_of(error: RemapError | None, name: str, status: Status) -> Result:
    return Result(source=name, target=f"out/{name}", size=1, status=status, error=error)


def summed(*results: Result) -> Summary:
    summary = Summary()
    for result in results:
        summary.add(result)
    return summary


OPEN = Undecided("open", where="a.h5", remedies=(SAY_PLAIN, GIVE_JSON, Remedy(option="by_order")))


def shown(summary: Summary, **options: Any) -> list[str]:
    request = BatchRequest(sources=["a.h5", "b c.h5"], output="out", options=options)
    lines = summary_lines(summary, request, total=2, seconds=1.0, interrupted=False, width=None)
    return [line.plain for line in lines]


def test_files_with_one_reason_are_one_group_with_its_commands() -> None:
    summary = summed(*(result_of(OPEN, name, "refused") for name in ("a.h5", "b c.h5")))
    assert shown(summary, overwrite=True, submodel=None, like=None)[2:] == [
        "",
        "2 files: open",
        "   in: a.h5, b c.h5",
        "       h5remap extract a.h5 'b c.h5' -o out --overwrite --plain",
        "         if nothing was frozen in training and the model has no nested model",
        "       h5remap extract a.h5 'b c.h5' -o out --overwrite --like model.json",
        "         with model.json written by:",
        "         open('model.json', 'w').write(model.to_json())",
    ]


def test_a_large_group_is_converted_by_the_whole_command_again() -> None:
    summary = summed(*(result_of(OPEN, f"{number}.h5", "refused") for number in range(30)))
    lines = shown(summary)
    assert lines[3] == "30 files: open"
    assert lines[4].endswith("9.h5 and 20 more")
    assert lines[5] == "       h5remap extract a.h5 'b c.h5' -o out --resume --plain"


def test_a_remedy_of_another_format_is_the_option_for_it() -> None:
    error = InputRefused("no shape", remedies=(Remedy(option="target", value=".weights.h5"),))
    lines = shown(summed(result_of(error, "a.h5", "refused")), format="keras")
    assert "       h5remap extract a.h5 -o out --format weights.h5" in lines


def test_files_found_in_directories_keep_their_places() -> None:
    lines = shown(summed(result_of(OPEN, "x/a.h5", "refused")), recursive=True)
    assert "       h5remap extract a.h5 'b c.h5' -o out --recursive --resume --plain" in lines


def test_the_place_is_not_part_of_a_reason() -> None:
    errors = (InputRefused("damaged", where=name) for name in ("a.h5", "b.h5"))
    groups = summed(*(result_of(error, error.where, "refused") for error in errors)).groups
    assert [(group.count, group.sources) for group in groups] == [(2, ["a.h5", "b.h5"])]


def test_reasons_are_listed_from_the_most_frequent_and_no_more_than_fit() -> None:
    errors = [InputRefused(f"reason {number}") for number in range(60)]
    summary = summed(
        *(result_of(error, str(number), "refused") for number, error in enumerate([*errors, errors[7]]))
    )
    assert summary.groups[0].error is errors[7]
    assert (len(summary.groups), summary.ungrouped) == (50, 10)
    assert shown(summary)[-1] == "10 more files for other reasons: --json tells all of them"


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([NothingToExtract("single"), None], 5),
        ([NothingToExtract("single"), Undecided("open")], 4),
        ([Undecided("open"), InputRefused("damaged")], 3),
        ([OutputRefused("full"), InputRefused("damaged")], 6),
        ([RemapError("bug"), OutputRefused("full")], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_file(errors: list[RemapError | None], code: int) -> None:
    results = [result_of(error, "a.h5", "refused" if error else "written") for error in errors]
    assert summed(*results).exit_code == code
    assert summed(*reversed(results)).exit_code == code


def test_names_of_files_cannot_speak_to_the_terminal() -> None:
    summary = summed(result_of(InputRefused("damaged"), "\x1b[2Ja.h5", "refused"))
    assert "\x1b" not in "".join(shown(summary))
    assert "\x1b" not in batch.BatchRequest(sources=["\x1b"], output="o", options={}).command()


def test_the_bar_shows_refusals_above_it(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal(stderr=True)
    terminal.live = True
    with batch._Shown(terminal, quiet=False, as_json=False) as bar:
        bar.result(result_of(OPEN, "early.h5", "refused"))
        for done in (0, 1):
            bar.progress(Progress(files_done=done, files=1, bytes_done=done, bytes=1))
        bar.result(result_of(OPEN, "late.h5", "refused"))
        bar.result(result_of(None, "good.h5", "written"))
    assert bar.total == 1
    text = capsys.readouterr().err
    assert "refused: late.h5" in text
    assert "early" not in text
    assert "good" not in text
