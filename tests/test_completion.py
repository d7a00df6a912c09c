"""Completion in real shells: names of models are offered, and no name from a file is ever run."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.commandline import Run, runner

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

COMMANDS = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--private", "--no-config", "-i"],
}
SETUP = {
    "bash": "PS1=; . ./completion\n",
    "zsh": "PS1=; autoload -Uz compinit; compinit -u; . ./completion\n",
    "fish": "function fish_prompt; end; . ./completion\n",
}
# Become the leader of a session of its own on the terminal, which fish insists on, and then the shell.
ON_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
TO_LINE_START = "\x01"

# What each shell would run, expand, split or take for an option, had it been given it unquoted.
HOSTILE = [
    "m\\`touch pwned\\`",
    "m`touch pwned`",
    "m$(touch pwned)",
    "m\\$(touch pwned)",
    "m(touch pwned)",
    "m)touch pwned(",
    '")$(touch pwned)("',
    "')$(touch pwned)('",
    "m';touch pwned;'",
    'm";touch pwned;"',
    "m;touch pwned",
    "m&touch pwned",
    "m|touch pwned",
    "m<(touch pwned)",
    "m>pwned",
    "m touch pwned",
    "m:$(touch pwned)",
    "m:touch pwned",
    "m\\",
    "${m:-$(touch pwned)}",
    "=touch",
    "~root",
    "*",
    "[a-z]*",
    "{a,b}",
    "!touch",
    "#m",
    "%m",
    "-o",
    "--overwrite",
    "mé",
]


def save_models(path: Path, names: list[str]) -> Path:
    """Write a weights file with several models of these names."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name in names])
        file.attrs["keras_version"] = np.bytes_(b"2.2.4")
        for name in names:
            group = file.create_group(name)
            group.attrs["weight_names"] = np.array([b"dense_1/kernel:0", b"dense_1/bias:0"])
            group["dense_1/kernel:0"] = np.ones((3, 4), "<f4")
            group["dense_1/bias:0"] = np.ones(4, "<f4")
    return path


def completed(shell: str, folder: Path, line: str) -> str:
    """Press TAB twice behind a line in an interactive shell, and give all that it showed.

    In the end the line itself is shown as words: each between angle brackets.
    """
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = subprocess.run(
        [sys.executable, "-m", "remap", "--show-completion", shell],
        env=os.environ | {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "completion").write_text(script.stdout)
    typed = f"{SETUP[shell]}{line}\t\t{TO_LINE_START}printf '<%s>' \nexit\n"
    outside, inside = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, *COMMANDS[shell]],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=folder,
        env=os.environ
        | {
            "PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "TERM": "dumb",
        },
    )
    os.close(inside)
    os.write(outside, typed.encode())
    seen = b""
    while select.select([outside], [], [], 60)[0]:
        try:
            piece = os.read(outside, 65536)
        except OSError:  # what Linux says when nobody holds the other end any more
            break
        if not piece:
            break
        seen += piece
    process.kill()
    process.wait()
    os.close(outside)
    return seen.decode(errors="replace")


@pytest.mark.parametrize("shell", COMMANDS)
def test_a_name_is_completed(tmp_path: Path, shell: str) -> None:
    save_models(tmp_path / "two.h5", ["generator", "discriminator/v1.2"])
    shown = completed(shell, tmp_path, "h5remap extract two.h5 --submodel disc")
    assert "<h5remap><extract><two.h5><--submodel><discriminator/v1.2>" in shown


def save_nested(path: Path, names: list[str]) -> Path:
    """Write a full file of a model with one model in it, which has models with these names."""

    def stack(name: str, *layers: dict[str, Any]) -> dict[str, Any]:
        return {"class_name": "Sequential", "config": {"name": name, "layers": list(layers)}}

    save_models(path, ["core"])
    dense = {"class_name": "Dense", "config": {"name": "dense_1", "units": 4}}
    with h5py.File(path, "r+") as file:
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([b"core"])
        file.move("core", "model_weights/core")
        del file.attrs["layer_names"]
        inner = [stack(name, *([dense] if number == 0 else [])) for number, name in enumerate(names)]
        file.attrs["model_config"] = json.dumps(stack("whole", stack("core", *inner)))
    return path


@pytest.mark.parametrize("shell", COMMANDS)
def test_the_path_of_a_nested_model_is_completed_and_no_hostile_one(tmp_path: Path, shell: str) -> None:
    save_nested(tmp_path / "deep.h5", ["backbone", *HOSTILE])
    shown = completed(shell, tmp_path, "h5remap extract deep.h5 --submodel core/b")
    assert sorted(path.name for path in tmp_path.iterdir() if "pwned" in path.name) == []
    assert "<h5remap><extract><deep.h5><--submodel><core/backbone>" in shown
    assert "touch" not in shown


@pytest.mark.parametrize("shell", COMMANDS)
def test_networks_are_completed_beside_files(tmp_path: Path, shell: str) -> None:
    for name in ("model.json", "résumé.json", "res $(touch pwned).json"):
        (tmp_path / name).touch()
    for typed, found in (("inception_r", "inception_resnet_v2"), ("model", "model.json")):
        shown = completed(shell, tmp_path, f"h5remap extract weights.h5 --like {typed}")
        assert f"<h5remap><extract><weights.h5><--like><{found}>" in shown


@pytest.mark.parametrize("typed", ["", "res", "vgg19", "q", "models/"])
def test_the_model_to_load_is_a_network_or_a_file_that_no_shell_quotes(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    for name in ("resnet_mine.json", "res $(touch pwned).json"):
        (tmp_path / name).touch()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    words = f"h5remap check weights.h5 --like {typed}"
    outcome = run(_H5REMAP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    shown = set(outcome.out.split())
    named = {"resnet50", "vgg19", "resnet_mine.json", "models/"}
    given = {"": named, "res": {"resnet50", "resnet_mine.json"}, "vgg19": {"vgg19"}}
    assert shown & (named | {"pwned", "pwned).json"}) == given.get(typed, set())
    assert bool(shown) == (typed in given)


@pytest.mark.parametrize("shell", COMMANDS)
def test_no_hostile_name_is_offered_or_run(tmp_path: Path, shell: str) -> None:
    save_models(tmp_path / "evil.h5", [*HOSTILE, "model_2"])
    shown = completed(shell, tmp_path, "h5remap extract evil.h5 --submodel ")
    assert sorted(path.name for path in tmp_path.iterdir() if "pwned" in path.name) == []
    assert "<h5remap><extract><evil.h5><--submodel><model_2>" in shown
    assert "touch" not in shown


@pytest.mark.parametrize("shell", COMMANDS)
@pytest.mark.parametrize("name", HOSTILE[:2])
def test_a_hostile_name_that_begins_as_typed_is_not_run(tmp_path: Path, shell: str, name: str) -> None:
    save_models(tmp_path / "evil.h5", [name, "other"])
    typed = name[0] if name[0].isalnum() else ""
    completed(shell, tmp_path, f"h5remap extract evil.h5 --submodel {typed}")
    assert sorted(path.name for path in tmp_path.iterdir() if "pwned" in path.name) == []


@pytest.mark.parametrize("shell", COMMANDS)
def test_a_file_that_is_no_checkpoint_shows_no_error(tmp_path: Path, shell: str) -> None:
    (tmp_path / "page.h5").write_text("<!DOCTYPE html>")
    shown = completed(shell, tmp_path, "h5remap extract page.h5 --submodel ")
    assert "Error" not in shown
    assert "Traceback" not in shown


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


@pytest.mark.parametrize("shell", COMMANDS)
def test_only_names_that_no_shell_quotes_are_offered(
    tmp_path: Path, run: Run, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_models(tmp_path / "evil.h5", [*HOSTILE, "model_2"])
    words = "h5remap extract evil.h5 --submodel "
    outcome = run(
        _H5REMAP_COMPLETE=f"complete_{shell}",
        COMP_WORDS=words,
        COMP_CWORD="4",
        _TYPER_COMPLETE_ARGS=words,
        _TYPER_COMPLETE_FISH_ACTION="get-args",
    )
    assert "model_2" in outcome.out
    assert not any(name in outcome.out for name in HOSTILE if name not in ("*", "-o"))


def test_the_file_is_read_in_a_child(tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no child can be started nothing is offered, and nothing is said."""
    monkeypatch.chdir(tmp_path)
    save_models(tmp_path / "two.h5", ["generator", "discriminator"])

    def full() -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", full)
    words = "h5remap extract two.h5 --submodel "
    outcome = run(_H5REMAP_COMPLETE="complete_bash", COMP_WORDS=words, COMP_CWORD="4")
    assert (outcome.out.strip(), outcome.err) == ("", "")
