"""No code from a file runs, though a multi-GPU file is full of it: every slice is a Lambda of byte code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.attack.corpus import unpack

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import sys
from remap import extract, inspect, plan
source, target = sys.argv[1:]

def everything():
    inspect(source)
    plan(source)
    extract(source, target, overwrite=True)

everything()  # all that is ever imported is imported now
seen = []
sys.addaudithook(lambda event, _: seen.append(event))
everything()
print(*sorted(set(seen)))
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""
RUNNING = tuple(
    "exec compile import marshal pickle socket ctypes subprocess os.exec os.system os.posix_spawn os.fork "
    "code. cpython.run urllib ftplib".split()
)


def test_no_code_from_the_file_runs(tmp_path: Path) -> None:
    content = unpack("multi.h5")
    assert b'"Lambda"' in content
    (tmp_path / "in.h5").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "in.h5", tmp_path / "out.h5"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    events, modules = (set(line.split()) for line in done.stdout.splitlines())
    assert "open" in events
    assert not [event for event in events if event.startswith(RUNNING)]
    assert not modules & {"keras", "tf_keras", "tensorflow", "jax", "torch"}
