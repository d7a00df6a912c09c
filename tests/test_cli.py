"""What the command line promises: exit codes, what goes where, and that nothing is lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import remap.__main__
from remap.isolation import IsolationFailed
from tests.commandline import Run, runner
from tests.documented import require_documented
from tests.handmade import save_weights
from tests.paper import entry as layer
from tests.paper import stack
from tests.truth import differences

Case = Callable[[str, str], Path]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.fixture
def here(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder to work in, with checkpoints of every kind."""
    for name, member, target in (
        ("conv_bn", "multi.h5", "multi.h5"),
        ("conv_bn", "single.h5", "single.h5"),
        ("conv_bn", "single.json", "model.json"),
        ("two_io", "multi_weights.h5", "weights.h5"),
        ("two_io", "single.json", "two_io.json"),
        ("gan", "multi.h5", "gan.h5"),
        ("many_layers", "multi.h5", "lambda.h5"),
    ):
        shutil.copy(case("keras-2.2.4", name) / member, tmp_path / target)
    for name in ("there.svg", "there.html"):
        (tmp_path / name).touch()
    (tmp_path / "page.h5").write_text("<!DOCTYPE html><html></html>")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ENDINGS = [
    (0, ["inspect", "multi.h5"]),
    (0, ["inspect", "single.h5"]),
    (0, ["inspect", "gan.h5"]),
    (0, ["extract", "multi.h5", "-o", "out.h5"]),
    (0, ["extract", "weights.h5", "-o", "out.h5", "--plain"]),
    (0, ["extract", "weights.h5", "-o", "out.h5", "--like", "two_io.json"]),
    (0, ["extract", "gan.h5", "-o", "out.h5", "--submodel", "generator"]),
    (0, ["extract", "multi.h5", "-o", "out.h5", "--weights-only"]),
    (0, ["extract", "multi.h5", "-o", "out.keras", "--dry-run"]),
    (0, ["extract", "single.h5", "-o", "out.weights.h5", "--dry-run"]),
    (0, ["check", "single.h5", "--like", "model.json"]),
    (2, ["extract", "weights.h5", "-o", "out.h5", "--plain", "--like", "two_io.json"]),
    (2, ["extract", "multi.h5", "-o", "multi.h5", "--overwrite"]),
    (2, ["extract", "multi.h5", "-o", "out.ckpt"]),
    (2, ["extract", "multi.h5", "-o", "out.ckpt", "--dry-run"]),
    (2, ["extract", "multi.h5", "-o", "multi.h5", "--dry-run"]),
    (2, ["inspect", "multi.h5", "--layer", "nobody"]),
    (3, ["inspect", "page.h5"]),
    (3, ["inspect", "missing.h5"]),
    (3, ["extract", "page.h5", "-o", "out.h5"]),
    (3, ["check", "multi.h5", "--like", "model.json"]),
    (3, ["check", "page.h5", "--like", "model.json"]),
    (4, ["extract", "weights.h5", "-o", "out.h5"]),
    (3, ["extract", "lambda.h5", "-o", "out.keras"]),
    (3, ["extract", "lambda.h5", "-o", "out.keras", "--dry-run"]),
    (4, ["extract", "weights.h5", "-o", "out.keras", "--plain", "--dry-run"]),
    (4, ["extract", "gan.h5", "-o", "out.h5"]),
    (5, ["extract", "single.h5", "-o", "out.h5"]),
    (6, ["extract", "multi.h5", "-o", "single.h5"]),
    (6, ["extract", "multi.h5", "-o", "nowhere/out.h5"]),
    (2, ["extract", "multi.h5", "-o", "."]),  # the output of that name would be the input
    (6, ["extract", "multi.h5", "-o", "absent/", "--dry-run"]),
    (2, ["inspect", "multi.h5", "--svg", "single.png"]),
    (2, ["inspect", "multi.h5", "--html", "single.h5"]),
    (6, ["inspect", "multi.h5", "--svg", "there.svg"]),
    (6, ["inspect", "multi.h5", "--html", "nowhere/out.html"]),
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("code", "args"), ENDINGS, ids=[" ".join(args) for _, args in ENDINGS])
def test_ends_with_the_exit_code_of_its_meaning(run: Run, code: int, args: list[str]) -> None:
    outcome = run(*args)
    assert outcome.code == code
    refused = code and not (args[0] == "check" and outcome.out)
    assert bool(outcome.err) == bool(refused)
    assert bool(outcome.out) != bool(refused)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(("code", "args"), ENDINGS, ids=[" ".join(args) for _, args in ENDINGS])
def test_json_is_one_documented_document_whatever_the_ending(run: Run, code: int, args: list[str]) -> None:
    outcome = run(*args, "--json")
    document = json.loads(outcome.out)
    require_documented(document)
    if "--layer" in args:  # a selection is for the view: JSON is always whole
        assert (outcome.code, document["kind"]) == (0, "multi-gpu")
        return
    assert outcome.code == code
    if document["format"] == "h5remap-error":
        assert document["exit_code"] == code


@pytest.mark.usefixtures("here")
def test_a_refusal_says_what_where_and_what_to_run(run: Run) -> None:
    outcome = run("extract", "gan.h5", "-o", "out.h5")
    assert outcome.err.splitlines() == [
        "Error: the file holds 2 models with weights: generator, discriminator",
        "   in: /model_weights in gan.h5",
        "  try: h5remap extract gan.h5 -o out.h5 --submodel generator",
        "   or: h5remap extract gan.h5 -o out.h5 --submodel discriminator",
    ]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("args", "place"),
    [
        (["inspect", "page.h5"], "page.h5"),
        (["extract", "weights.h5", "-o", "out.h5", "--like", "model.json"], "model.json"),
        (["extract", "weights.h5", "-o", "out.h5"], "model_1 in weights.h5"),
        (["extract", "multi.h5", "-o", "out.h5.txt"], "out.h5.txt"),
        (["extract", "multi.h5", "-o", "single.h5"], "single.h5"),
        (["inspect", "-"], "-"),
        (["check", "-", "--like", "model.json"], "-"),
    ],
)
def test_a_refusal_names_the_file_that_it_means(run: Run, args: list[str], place: str) -> None:
    assert f"   in: {place}\n" in run(*args).err


@pytest.mark.usefixtures("here")
def test_a_refusal_of_a_name_shows_the_names_there_are(run: Run) -> None:
    told = run("extract", "gan.h5", "-o", "o.h5", "--submodel", "nobody").err
    assert "h5remap extract gan.h5 -o o.h5 --submodel generator\n" in told
    assert "h5remap extract gan.h5 -o o.h5 --submodel discriminator\n" in told


@pytest.mark.usefixtures("here")
def test_the_commands_in_a_refusal_work(run: Run) -> None:
    outcome = run("extract", "weights.h5", "-o", "out.h5", "--json")
    remedies = json.loads(outcome.out)["remedies"]
    assert [remedy["command"] for remedy in remedies] == [
        "h5remap extract weights.h5 -o out.h5 --like model.json",
        "h5remap extract weights.h5 -o out.h5 --plain",
    ]
    assert run(*remedies[1]["command"].split()[1:]).code == 0


@pytest.mark.parametrize("args", [[], ["--nonsense"], ["extract", "multi.h5"], ["check"], ["inspct"]])
def test_a_wrong_command_line_is_usage(run: Run, args: list[str]) -> None:
    assert run(*args).code == 2


def test_a_bug_keeps_its_traceback(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("remap.inspection.inspection_of", broken)
    monkeypatch.setattr(sys, "argv", ["h5remap", "inspect", str(here / "multi.h5")])
    with pytest.raises(IsolationFailed, match="ZeroDivisionError"):
        remap.__main__.main()
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("here")
def test_an_interrupt_is_no_bug(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("remap.hdf5.reader.read_source", interrupted)
    outcome = run("inspect", "multi.h5")
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err == "Interrupted: an output file is complete or absent, never partial.\n"


def test_a_reader_that_has_seen_enough_is_no_bug(here: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "remap", "inspect", here / "multi.h5"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_not_taken_for_files(here: Path, closed: str) -> None:
    line = f'exec "$0" -m remap extract multi.h5 -o out.h5 {closed}'
    done = subprocess.run(["sh", "-c", line, sys.executable], capture_output=True, check=False, cwd=here)
    assert (done.returncode, done.stderr) == (0, b"")
    assert differences(here / "out.h5", here / "single.h5") == []


def test_python_dash_m_is_the_same_command(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "remap", "inspect", here / "page.h5"], capture_output=True, check=False
    )
    assert done.returncode == 3
    assert b"HTML" in done.stderr


def test_version_is_the_packages(run: Run) -> None:
    assert run("--version").out == f"h5remap {remap.__version__}\n"


@pytest.mark.parametrize("argument", ["--help", "--version", "extract --help"])
def test_help_and_version_load_nothing_heavy(argument: str) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['h5remap', *{argument.split()}]\n"
        "from remap.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print([name for name in ('h5py', 'numpy', 'rich', 'json') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_piped_view_loads_no_rich(here: Path) -> None:
    program = (
        "import sys\n"
        f"sys.argv = ['h5remap', 'inspect', {str(here / 'multi.h5')!r}]\n"
        "from remap.__main__ import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('rich' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


def test_help_names_every_command_and_option(run: Run) -> None:
    assert all(name in run("-h").out for name in ("inspect", "extract", "check"))
    words = run("extract", "--help").out
    options = "--output -o --like --plain --submodel --weights-only --dry-run --overwrite --json --quiet -q"
    assert all(option in words for option in options.split())


def test_extract_says_nothing_when_asked_to_be_quiet(here: Path, run: Run) -> None:
    outcome = run("extract", "multi.h5", "-o", "out.h5", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    assert (here / "out.h5").exists()


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_dry_run_writes_nothing_and_tells_every_weight(here: Path, run: Run, json_too: list[str]) -> None:
    before = sorted(here.iterdir())
    outcome = run("extract", "multi.h5", "-o", "out.h5", "--dry-run", *json_too)
    assert sorted(here.iterdir()) == before
    assert outcome.out.count("/model_weights/model_1/") == 16


@pytest.mark.usefixtures("here")
def test_a_dry_run_tells_what_the_format_of_the_output_holds(run: Run) -> None:
    words = ("extract", "weights.h5", "--like", "two_io.json", "--dry-run")
    for output, kind in (("o.h5", "weights"), ("o.keras", "full model"), ("o.weights.h5", "weights")):
        document = json.loads(run(*words, "-o", output, "--json").out)
        assert (document["kind"], document["target"]) == (kind, None)


def test_an_output_is_replaced_only_when_told(here: Path, run: Run) -> None:
    before = (here / "single.h5").read_bytes()
    assert run("extract", "multi.h5", "-o", "single.h5").code == 6
    assert (here / "single.h5").read_bytes() == before
    assert run("extract", "multi.h5", "-o", "single.h5", "--overwrite").code == 0


@pytest.mark.parametrize("extension", ["svg", "html"])
def test_a_picture_never_replaces_a_file(here: Path, run: Run, extension: str) -> None:
    assert run("inspect", "multi.h5", f"--{extension}", f"there.{extension}").code == 6
    assert (here / f"there.{extension}").read_bytes() == b""


@pytest.mark.parametrize("option", ["--svg", "--html"])
def test_a_picture_has_the_extension_of_its_format(here: Path, run: Run, option: str) -> None:
    before = sorted(here.iterdir())
    names = {"--svg": "view.svg", "--html": "view.html"} | {option: "view.png"}
    outcome = run("inspect", "multi.h5", *(word for pair in names.items() for word in pair))
    assert (outcome.code, outcome.out) == (2, "")
    assert "   in: view.png\n" in outcome.err
    assert sorted(here.iterdir()) == before


def test_a_picture_shows_its_last_line_whole(here: Path, run: Run) -> None:
    run("inspect", "multi.h5", "--svg", "view.svg")
    picture = (here / "view.svg").read_text(encoding="utf-8")
    used = {
        name for name, text in re.findall(r"url\(#(h5remap-line-\d+)\)\">([^<]*)<", picture) if text.strip()
    }
    assert len(used) > 20
    assert used <= set(re.findall(r'<clipPath id="(.*?)"', picture))


def test_a_web_page_has_a_title(here: Path, run: Run) -> None:
    (here / "multi.h5").rename(here / "a{b}<c>.h5")
    assert run("inspect", "a{b}<c>.h5", "--html", "view.html").code == 0
    assert "<title>h5remap inspect a{b}&lt;c&gt;.h5</title>" in (here / "view.html").read_text(
        encoding="utf-8"
    )


def test_no_picture_is_written_where_the_other_cannot_be(here: Path, run: Run) -> None:
    outcome = run("inspect", "multi.h5", "--svg", "new.svg", "--html", "there.html")
    assert (outcome.code, outcome.out) == (6, "")
    assert not (here / "new.svg").exists()


def test_pictures_hold_the_view(here: Path, run: Run) -> None:
    outcome = run("inspect", "multi.h5", "--svg", "view.svg", "--html", "view.html")
    assert outcome.code == 0
    for name in ("view.svg", "view.html"):
        text = re.sub(r"<[^>]+>", "", (here / name).read_text(encoding="utf-8")).replace("&#160;", " ")
        assert all(word in text for word in ("block2_conv", "◀ the real model", "Multi-GPU checkpoint"))
    assert "h5remap inspect multi.h5" in (here / "view.svg").read_text(encoding="utf-8").replace(
        "&#160;", " "
    )


def test_stats_count_what_is_not_finite(here: Path, run: Run) -> None:
    with h5py.File(here / "multi.h5", "r+") as file:
        kernel = file["model_weights/model_1/block1_conv/kernel:0"]
        kernel[0, 0, 0, :2] = float("nan")
        kernel[1, 1, 1, 0] = float("inf")
    line = next(line for line in run("inspect", "multi.h5", "--stats").out.splitlines() if "NaN" in line)
    assert "kernel (3, 3, 3, 8) float32  min -0.25" in line
    assert line.endswith("2 NaN  1 Inf")
    document = json.loads(run("inspect", "multi.h5", "--stats", "--json").out)
    require_documented(document)
    model = next(layer for layer in document["layers"] if layer["role"] == "model")
    stats = model["layers"][1]["weights"][0]["stats"]
    assert (stats["nans"], stats["infinities"]) == (2, 1)


@pytest.mark.usefixtures("here")
def test_depth_and_pattern_narrow_the_view(run: Run) -> None:
    assert "block1_conv" not in run("inspect", "multi.h5", "--depth", "1").out
    narrowed = run("inspect", "multi.h5", "--layer", "block1_*").out
    assert "block1_conv" in narrowed
    assert "block2_conv" not in narrowed
    assert run("inspect", "multi.h5", "--layer", "model_1/block2_*").out.count("block2") == 3


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "args",
    [
        ["inspect", "multi.h5"],
        ["check", "single.h5", "--like", "model.json"],
        ["extract", "multi.h5", "-o", "single.h5", "--overwrite"],
    ],
)
def test_no_file_is_refused_for_its_permissions_before_it_is_opened(
    run: Run, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    """An output need not be readable to be replaced, and what an input lacks is no fault of the command line."""
    monkeypatch.setattr(os, "access", lambda *_args, **_named: False)
    assert run(*args).code == 0


def test_no_name_reaches_the_terminal_raw(tmp_path: Path, run: Run) -> None:
    path = save_weights(tmp_path / "evil\x1b[31m\n.h5")
    for args in (["inspect", path], ["extract", path, "-o", "o.h5"], ["inspect", "gone\x1b]0;.h5"]):
        outcome = run(*args)
        assert "\x1b" not in outcome.out + outcome.err
        assert "\\x1b" in outcome.out + outcome.err


def test_a_place_that_is_the_file_is_named_once(run: Run) -> None:
    assert "   in: gone\\n.h5\n" in run("inspect", "gone\n.h5").err


def test_an_ascii_terminal_gets_ascii(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "remap", "inspect", here / "multi.h5"],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        check=True,
    )
    assert b"`-- predictions" in done.stdout
    assert b"<- the real model" in done.stdout
    assert b"lambda_1 ... lambda_4  x 4" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_the_models_of_the_file(run: Run, shell: str) -> None:
    words = "h5remap extract gan.h5 -o out.h5 --submodel "
    outcome = run(
        _H5REMAP_COMPLETE=f"complete_{shell}",
        COMP_WORDS=words,
        COMP_CWORD="6",
        _TYPER_COMPLETE_ARGS=words,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "generator" in outcome.out
    assert "discriminator" in outcome.out


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("words", ["h5remap extract page.h5 --submodel ", "h5remap extract --submodel "])
def test_completion_is_silent_where_nothing_is_known(run: Run, words: str) -> None:
    outcome = run(_H5REMAP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD=str(words.count(" ")))
    assert (outcome.out.strip(), outcome.err) == ("", "")


@pytest.mark.parametrize(
    ("shell", "place"),
    [
        ("bash", ".bash_completions/h5remap.sh"),
        ("zsh", ".zfunc/_h5remap"),
        ("fish", ".config/fish/completions/h5remap.fish"),
    ],
)
def test_completion_installs(tmp_path: Path, run: Run, shell: str, place: str) -> None:
    outcome = run(
        "--install-completion", shell, HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert outcome.code == 0
    assert "_H5REMAP_COMPLETE" in (tmp_path / place).read_text()


@pytest.mark.usefixtures("here")
def test_check_exits_by_its_verdict(run: Run) -> None:
    kernel = np.ones((3, 3), "<f4")

    def named(*names: str) -> dict[str, dict[str, NDArray[np.generic]]]:
        return {name: {f"{name}/kernel:0": kernel} for name in names}

    save_weights(Path("model.h5"), named("a", "b"))
    save_weights(Path("crossed.h5"), named("b", "a"))
    save_weights(Path("renamed.h5"), named("x"))
    layers = (layer("odd", "Odd"), layer("x", "Dense", units=3, use_bias=False))
    Path("custom.json").write_text(json.dumps(stack(*layers)))
    assert run("check", "model.h5", "--like", "model.h5").code == 0
    crossed = run("check", "crossed.h5", "--like", "model.h5")
    assert crossed.code == 3
    assert "crossed  a" in crossed.out
    assert run("check", "crossed.h5", "--like", "model.h5", "--by-order").code == 0
    untold = run("check", "renamed.h5", "--like", "custom.json")
    assert untold.code == 4
    assert "Odd" in untold.out
