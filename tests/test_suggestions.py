"""Every command that a message suggests is run: it succeeds, or it says something new."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import remap
from remap.isolation import Isolation
from tests.commandline import Outcome, Run, runner
from tests.conftest import all_cases

Case = Callable[[str, str], Path]

ERAS = ("keras-2.2.4", "tf.keras-2.3.4")
SAMPLE = [(era, name) for era, name in all_cases() if era in ERAS]
FILES = ("multi.h5", "multi_weights.h5", "single.h5", "single_weights.h5")
_DEEPEST = 6


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Give a function that runs the command line without a child process, which would take most of the time."""

    def call(_: Isolation, function: str, *args: Any, where: str, **named: Any) -> Any:
        del where
        return getattr(remap, function.removeprefix("remap."))(*args, **named)

    monkeypatch.setattr(Isolation, "run", call)
    monkeypatch.setattr(Isolation, "start", lambda *_: None)
    return runner(monkeypatch, capsys)


def commands_in(outcome: Outcome) -> Iterator[list[str]]:
    """Find the commands that a person sees; each stands on a line of its own."""
    for line in (outcome.out + outcome.err).splitlines():
        found = re.match(r"\s*(?:try: |or: )?h5remap (.*)", line)
        if found and not line.endswith("shows all names"):
            yield shlex.split(found[1])


def message(outcome: Outcome) -> str:
    """Give what went wrong, without the suggestions."""
    return outcome.err.split("\n  try: ")[0].split("\n   or: ")[0] or outcome.out


def follow(run: Run, words: list[str], seen: tuple[str, ...]) -> Iterator[list[str]]:
    """Run a suggested command and what it suggests itself; give the commands that lead nowhere."""
    like = words[words.index("--like") + 1] if "--like" in words else None
    if like is not None and not Path(like).exists():
        return  # the case did not record what the Python in the message writes
    target = Path(words[words.index("-o") + 1]) if "-o" in words else None
    if target is not None and "--overwrite" not in words:
        target.unlink(missing_ok=True)
    outcome = run(*words)
    if not outcome.code:
        return
    said = message(outcome)
    if said in seen or len(seen) >= _DEEPEST:
        yield [*words, "->", said]
        return
    for further in commands_in(outcome):
        yield from follow(run, further, (*seen, said))


@pytest.mark.parametrize(("era", "name"), SAMPLE)
def test_a_suggested_command_succeeds_or_says_something_new(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, era: str, name: str
) -> None:
    origin = case(era, name)
    for member in FILES:
        if (origin / member).exists():
            shutil.copy(origin / member, tmp_path / member)
    # The Python that messages ask for first writes these two.
    for member, written in (("single.json", "model.json"), ("single_weights.h5", "like.h5")):
        if (origin / member).exists():
            shutil.copy(origin / member, tmp_path / written)
    monkeypatch.chdir(tmp_path)
    dead_ends = []
    for member in FILES:
        if not Path(member).exists():
            continue
        for words in (
            ["inspect", member],
            ["extract", member, "-o", "out.h5"],
            ["extract", member, "-o", "out.keras"],
            ["check", member, "--like", "model.json"],
        ):
            outcome = run(*words)
            for suggested in commands_in(outcome):
                dead_ends += list(follow(run, suggested, (message(outcome),)))
    assert not dead_ends, "\n".join(map(str, dead_ends))


@pytest.mark.parametrize("member", ["multi.h5", "multi_weights.h5"])
def test_the_commands_of_json_are_those_of_the_message(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run, member: str
) -> None:
    shutil.copy(case("keras-2.2.4", "gan") / member, tmp_path / "it's a file.h5")
    monkeypatch.chdir(tmp_path)
    words = ("extract", "it's a file.h5", "-o", "-out.h5")
    document = json.loads(run(*words, "--json").out)
    told = [shlex.split(remedy["command"])[1:] for remedy in document["remedies"]]
    assert told == list(commands_in(run(*words)))
    assert told
    assert "--submodel" in told[0]
    assert all("no model with weights" not in message(run(*command)) for command in told)
