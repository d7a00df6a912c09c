"""Print the test files that belong to what changed since the main branch: `make check` runs these.

A test file belongs to a change when it changed itself, is named after a changed module, or imports one; the
rules that hold for every module are always checked. Tests that need a real Keras are left to `make test-keras`.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ALWAYS = ("tests/test_house.py",)


def changed(base: str) -> set[str]:
    """Give the paths that differ from the commit at which this branch left a base, and the untracked ones."""
    fork = _git("merge-base", base, "HEAD")[0]
    return {*_git("diff", "--name-only", fork), *_git("ls-files", "--others", "--exclude-standard")}


def imported(path: Path) -> set[str]:
    """Name the modules that a file imports, `from package import module` included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def affected(paths: set[str]) -> list[str]:
    """Give the test files that belong to changed paths."""
    modules = {path.removesuffix("/__init__.py").removesuffix(".py").replace("/", ".") for path in paths}
    named = {f"test_{module.rpartition('.')[2]}" for module in modules}
    found = set(ALWAYS)
    for file in (ROOT / "tests").rglob("test_*.py"):
        name = file.relative_to(ROOT).as_posix()
        if "real_keras" not in name and (name in paths or file.stem in named or imported(file) & modules):
            found.add(name)
    return sorted(found)


def _git(*arguments: str) -> list[str]:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


if __name__ == "__main__":
    print(*affected(changed(*(sys.argv[1:] or ["main"]))))
