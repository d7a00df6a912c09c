"""URLs on the command line: what is shown, and that no secret is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.remote.conftest import ROOT, S3
from tests.remote.servers import Web

pytestmark = pytest.mark.filterwarnings("ignore")


def h5remap(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own: with the servers of a test, this one has threads."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "remap", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, check=False)


def test_each_command_takes_urls(s3: S3, multi: Path, tmp_path: Path) -> None:
    source = s3.put("runs/multi.h5", multi)
    ended = h5remap("extract", source, "-o", "s3://bucket/single.h5", cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "s3://bucket/single.h5" in ended.stdout
    ended = h5remap(
        "check", "s3://bucket/single.h5", "--like", "s3://bucket/single.h5", "--json", cwd=tmp_path
    )
    assert json.loads(ended.stdout)["loads"]
    ended = h5remap("compare", source, "s3://bucket/single.h5", cwd=tmp_path)
    assert ended.returncode == 0
    ended = h5remap("inspect", source, cwd=tmp_path)
    assert f"h5remap extract {source} -o multi_single.h5" in ended.stdout
    ended = h5remap("extract", source, "-o", "s3://bucket/single.h5", cwd=tmp_path)
    assert ended.returncode == 6
    assert f"h5remap extract {source} -o s3://bucket/single.h5 --overwrite" in ended.stderr


def test_no_command_shows_a_secret(web: Web, tmp_path: Path) -> None:
    address = web.url.removeprefix("http://")
    for words in (
        ("inspect",),
        ("inspect", "--json", "--svg", "out.svg", "--html", "out.html"),
        ("extract", "-o", "out.h5", "--json"),
        ("extract", "-o", "out.h5"),
        ("extract", "-o", "out.h5", "--dry-run", "--json"),
        ("check", "--like", f"http://ada:pa55word@{address}/none.json?sig=0123456789"),
        ("compare", f"http://ada:pa55word@{address}/multi.h5?sig=0123456789"),
        ("extract", "-o", f"http://ada:pa55word@{address}/out.h5?sig=0123456789"),
    ):
        ended = h5remap(
            words[0], f"http://ada:pa55word@{address}/multi.h5?sig=0123456789", *words[1:], cwd=tmp_path
        )
        shown = ended.stdout + ended.stderr
        assert "Traceback" not in shown
        assert "***" in shown or ended.returncode == 0
        assert "pa55word" not in shown
        assert "0123456789" not in shown
    for path in (tmp_path / "out.svg", tmp_path / "out.html"):
        assert "pa55word" not in path.read_text()
