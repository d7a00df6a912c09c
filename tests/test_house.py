"""Rules of the house that hold across modules."""

from __future__ import annotations

import ast
import importlib
import pickle
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import remap
from remap import InputRefused, NothingToExtract, OutputRefused, RemapError, Undecided, UsageRefused
from remap.errors import GIVE_JSON
from remap.layers import CATALOGUE, is_model_class

PACKAGE = Path(remap.__file__).parent
MODULES = sorted(name for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "remap."))


def imported_by(module: str) -> set[str]:
    """Name everything a module imports, wherever in it the import stands."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    found: set[str] = set()
    for node in ast.walk(ast.parse(Path(spec.origin).read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


# What each part of the package may import of the others. A package counts as one part.
VALUES = {
    "errors",
    "typed_json",
    "checkpoint",
    "layers",
    "architecture",
    "weight_names",
    "conversion_plan",
    "output_tensors",
}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "weight_names": set(),
    "checkpoint": set(),
    "typed_json": {"errors"},
    "layers": {"errors", "typed_json"},
    "architecture": {"errors", "typed_json", "layers"},
    "conversion_plan": {"checkpoint", "architecture"},
    "output_tensors": {"errors", "checkpoint", "layers"},
    "training_state": VALUES,
    "wrappers": VALUES,
    "inner_wrappers": VALUES | {"training_state", "wrappers"},
    "recognize": VALUES | {"inner_wrappers", "wrappers"},
    "assignment": VALUES | {"inner_wrappers", "recognize", "wrappers"},
    "whole_file": VALUES | {"recognize", "assignment", "training_state"},
    "planning": VALUES | {"recognize", "assignment", "training_state", "whole_file"},
    "stock": VALUES | {"recognize", "assignment", "planning"},
    "loaders": {"errors", "assignment"},
    "keras3": VALUES | {"recognize", "assignment", "planning", "training_state"},
    "formats": VALUES | {"keras3"},
    "hdf5": VALUES | {"formats", "keras3", "remote", "urls"},
    "isolation": {"errors"},
    "urls": set(),
    "remote": {"errors", "urls"},
    "comparison": VALUES
    | {"", "recognize", "assignment", "keras3", "hdf5", "isolation", "results", "output_tensors", "urls"},
    "options": {"errors"},
    "batch": {
        "",
        "errors",
        "isolation",
        "options",
        "results",
        "checking",
        "conversion",
        "reference_file",
        "remote",
        "urls",
    },
}
# Their values show themselves in notebooks.
SHOWN = {"remap.checking", "remap.comparison.results", "remap.results"}
PURE = set(MAY_IMPORT) - {"hdf5", "isolation", "comparison", "batch", "remote", "urls"}


def part_of(module: str) -> str:
    """Name the part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else ""


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in MAY_IMPORT])
def test_imports_go_one_way(module: str) -> None:
    part = part_of(module)
    ours = {name for name in imported_by(module) if name == "remap" or name.startswith("remap.")}
    if module in SHOWN:
        ours -= {"remap.console.notebook"}
    assert {part_of(name) for name in ours} <= MAY_IMPORT[part] | {part}


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) in PURE])
def test_pure_parts_know_neither_files_nor_hdf5(module: str) -> None:
    assert not imported_by(module) & {"h5py", "os", "pathlib", "io", "tempfile", "subprocess"}


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) != "hdf5"])
def test_only_the_hdf5_part_imports_h5py(module: str) -> None:
    assert not any(name.partition(".")[0] == "h5py" for name in imported_by(module))


REMOTE = {"fsspec", "s3fs", "gcsfs", "adlfs", "huggingface_hub", "paramiko", "aiohttp"}


@pytest.mark.parametrize("module", [name for name in MODULES if part_of(name) != "remote"])
def test_only_the_remote_part_imports_libraries_for_urls(module: str) -> None:
    assert not {name.partition(".")[0] for name in imported_by(module)} & REMOTE


def test_files_of_this_machine_are_read_without_what_urls_need(tmp_path: Path) -> None:
    code = """if True:
        import sys, remap
        calls = remap.inspect, lambda path: remap.extract(path, path + ".out.h5"), lambda path: remap.check(path, path)
        for call in calls:
            try:
                call(sys.argv[1])
            except remap.RemapError:
                pass
        list(remap.extract_many([sys.argv[1]], sys.argv[1] + ".out"))
        print([name for name in sys.modules if name.partition(".")[0] in {} or name.startswith("remap.remote")])
    """.replace("{}", repr(REMOTE))
    (tmp_path / "text.h5").write_text("text")
    command = [sys.executable, "-c", code, str(tmp_path / "text.h5")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_nothing_below_the_command_line_imports_it() -> None:
    above = {"cli", "console", "__main__"}
    for module in MODULES:
        if part_of(module) not in above:
            ours = {name for name in imported_by(module) if name.startswith("remap.")}
            allowed = {"remap.console.notebook"} if module in SHOWN else set()
            assert not {part_of(name) for name in ours - allowed} & above, module


@pytest.mark.parametrize("module", [name for name in MODULES if name != "remap.typed_json"])
def test_only_typed_accessors_look_into_json_of_a_file(module: str) -> None:
    """What accessors give as JSON has the type `object`, so mypy refuses to look into it without a cast."""
    origin = Path(str(importlib.util.find_spec(module).origin))  # type: ignore[union-attr]
    used = {
        ast.unparse(node)
        for node in ast.walk(ast.parse(origin.read_text()))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert not used & {"json.loads", "json.load"}
    if part_of(module) in PURE:
        assert not [name for name in used if name.endswith(("._raw", "._fields"))]
        assert "cast" not in used


@pytest.mark.parametrize("module", MODULES)
def test_every_module_says_what_it_offers(module: str) -> None:
    if module == "remap.__main__":
        return
    loaded = importlib.import_module(module)
    if module.count(".") == 1 or not hasattr(loaded, "__path__"):
        assert getattr(loaded, "__doc__", "")
    if not hasattr(loaded, "__path__"):
        assert all(hasattr(loaded, name) for name in loaded.__all__)


def built_in_names(module: str) -> list[str]:
    """List the string literals of a module that consist of names of built-in layer classes, outside docstrings."""
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    tree = ast.parse(Path(spec.origin).read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, documented)
    }
    literals = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    texts = [text for text in literals if isinstance(text, str) and text.split() and text not in docstrings]
    return [text for text in texts if all(word in CATALOGUE or is_model_class(word) for word in text.split())]


# Operations of TensorFlow and of Keras 3, some of which are called like a layer class.
NAMES_OPERATIONS = {"remap.keras3.operations"}


@pytest.mark.parametrize(
    "module",
    [name for name in MODULES if not name.startswith("remap.layers") and name not in NAMES_OPERATIONS],
)
def test_only_the_catalogue_names_layer_classes(module: str) -> None:
    """What is known of a class is declared there once; elsewhere no class is compared or listed by its name."""
    assert built_in_names(module) == []


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import remap, sys; print([m for m in ('h5py', 'numpy', 'typer', 'rich') if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = remap.nonsense


def test_every_offered_name_is_there() -> None:
    assert all(getattr(remap, name) is not None for name in remap.__all__)


@pytest.mark.parametrize(
    ("kind", "code"),
    [(UsageRefused, 2), (InputRefused, 3), (Undecided, 4), (NothingToExtract, 5), (OutputRefused, 6)],
)
def test_errors_survive_pickling_with_all_they_say(kind: type[RemapError], code: int) -> None:
    error = kind("what", where="/where", hint="do this", remedies=(GIVE_JSON,))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), again.what, again.where, again.hint) == (kind, "what", "/where", "do this")
    assert again.remedies == (GIVE_JSON,)
    assert again.exit_code == code
    assert str(again) == (
        "what; at /where; do this; try: like='model.json', after open('model.json', 'w').write(model.to_json()) in "
        "the code that builds the model"
    )


def test_an_error_without_place_and_hint_says_just_what() -> None:
    assert str(InputRefused("what")) == "what"
