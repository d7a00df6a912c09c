"""Change real architectures at random and see that every command ends in a result or in one of our errors.

    python -m tests.attack.architectures --runs 2000            # a fixed number
    python -m tests.attack.architectures --runs 500 --seed 7    # others
    python -m tests.attack.architectures --only 7:123           # one run again, by its seed and number

Each run takes a recorded checkpoint, changes the JSON in it in one to four places, and gives it to one command:
`inspect`, `check`, or `extract` or `plan` to one of the three formats, as the file's own architecture and training
configuration or as the reference model. Results are rendered as text and as JSON, too. Anything but a result or a
RemapError is a failure, and so is a run of more than `DEADLINE` seconds.
"""

from __future__ import annotations

import argparse
import copy
import functools
import io
import json
import lzma
import random
import signal
import sys
import tarfile
import tempfile
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import h5py

from remap import RemapError, check, extract, inspect, plan
from remap.console.advice import advice_lines, failure_json, failure_lines
from remap.console.check import check_lines
from remap.console.extraction import mapping_lines, report_lines
from remap.console.inspection import Selection, overview_lines
from remap.console.invocation import Command, Invocation
from remap.console.text import Line
from remap.results import mapping_of, plan_json

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
DEADLINE = 20
FORMATS = ("out.h5", "out.keras", "out.weights.h5")
FILES = ("multi.h5", "single.h5", "multi_weights.h5", "single_weights.h5", "single.json")

Tree = Any
Change = Callable[[Tree, random.Random], Tree]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended; `failure` is the traceback of one that ended as none may."""

    label: str
    failure: str = ""


# Changes. Each takes a whole tree of JSON, which it may alter, and gives the changed tree.

# Written into the text after `json.dumps`, which would not write them: what JSON can say and Python's values cannot.
_RAW = {
    "@huge@": "9" * 5000,
    "@digits@": "1" + "0" * 60,
    "@float@": "1e999",
    "@surrogate@": '"\\ud800"',
    "@twice@": '{"class_name": "Dense", "class_name": 3, "name": "a", "name": "b"}',
    "@deep@": "[" * 150 + "]" * 150,
    "@deeper@": "[" * 400 + "]" * 400,
}
_VALUES: tuple[Tree, ...] = (
    *(None, True, False, 0, 1, 2, -1, 7, 2**31, 2**63, -(2**70), 0.0, -0.5, 1.5, 1e308, 5e-324),
    *(float("nan"), float("inf"), -float("inf")),
    *("", "a", "a/b", "..", "relu", "linear", "function", "float32", "float16", "infer", "mean", "1", "None"),
    *("\x00", "\x1b[2J", "\u202e", "e\u0301" * 40, "\U0001f600", "x" * 3000, "/", "kernel:0"),
    *([], {}, [[]], [None], [1], [1, 2, 3], [-1, 0], ["a", 0, 0], [["a", 0, 0, {}]], [[["a", 0, 0]]], [{}]),
    {"class_name": "Dense", "config": {"units": 3, "name": "dense"}},
    {"class_name": "__tuple__", "items": [1, None, 3]},
    {"class_name": "__tuple__", "items": 3},
    {"class_name": "TensorShape", "items": None},
    {"type": "ndarray", "value": [1.0, 2.0]},
    {"type": "ndarray", "value": {}},
    {"class_name": "Policy", "config": {"name": 3}},
    {"class_name": 3, "config": []},
    {"class_name": "Sequential", "config": []},
    {"class_name": "Sequential", "config": {"layers": []}},
    {"class_name": "Model", "config": {"name": "m", "layers": [], "input_layers": [], "output_layers": []}},
    {"class_name": "function", "config": "f"},
    {"a": {"b": {"c": []}}},
    *_RAW,
)
_CLASSES = tuple(
    """
    Activation ActivityRegularization Add AdditiveAttention AlphaDropout Attention Average AveragePooling2D
    BatchNormalization Bidirectional Concatenate Conv1D Conv2D Conv2DTranspose Conv3D ConvLSTM2D Cropping2D CuDNNGRU
    CuDNNLSTM Dense DepthwiseConv2D Dot Dropout ELU Embedding EinsumDense Flatten Functional GRU GRUCell
    GaussianDropout GaussianNoise GlobalAveragePooling1D GlobalMaxPooling2D InputLayer LSTM LSTMCell Lambda
    LayerNormalization LeakyReLU LocallyConnected1D Masking MaxPooling2D Maximum Merge Model Multiply Normalization
    PReLU Permute RNN ReLU RepeatVector Reshape SeparableConv1D SeparableConv2D Sequential SimpleRNN SimpleRNNCell
    Softmax SpatialDropout1D StackedRNNCells SyncBatchNormalization TFOpLambda ThresholdedReLU TimeDistributed
    UpSampling2D Template ZeroPadding2D My>Custom Adam RMSprop SGD Constant VarianceScaling L1L2 MaxNorm
    BinaryCrossentropy
    """.split()
)
_KEYS = tuple(
    """
    activation activity_regularizer axis backward_layer batch_input_shape bias_initializer build_input_shape cell cells
    class_name config data_format dtype filters inbound_nodes input_layers items kernel_constraint kernel_size
    keras_history layer layers loss loss_weights mask_zero merge_mode metrics name num_constants optimizer_config
    output_layers padding pool_size ragged recurrent_activation registered_name reset_after return_sequences shared_axes
    sparse stddev trainable type units use_bias value lr learning_rate decay epsilon momentum interpolation seed function
    function_type arguments output_shape output_shape_type mask_value scale center renorm virtual_batch_size
    """.split()
)


def _places(tree: Tree) -> list[tuple[Any, Any]]:
    """List every container with a key or index in it."""
    found: list[tuple[Any, Any]] = []
    pending = [tree]
    while pending:
        one = pending.pop()
        if isinstance(one, dict | list):
            keys = list(one) if isinstance(one, dict) else range(len(one))
            found += [(one, key) for key in keys]
            pending += [one[key] for key in keys]
    return found


def _place(tree: Tree, chance: random.Random) -> tuple[Any, Any]:
    return chance.choice(_places(tree))


def _containers(tree: Tree, kind: type) -> list[Any]:
    return [holder[key] for holder, key in _places(tree) if isinstance(holder[key], kind)] + (
        [tree] if isinstance(tree, kind) else []
    )


def _odd_value(tree: Tree, chance: random.Random) -> Tree:
    holder, key = _place(tree, chance)
    holder[key] = copy.deepcopy(chance.choice(_VALUES))
    return tree


def _remove(tree: Tree, chance: random.Random) -> Tree:
    holder, key = _place(tree, chance)
    del holder[key]
    return tree


def _add_key(tree: Tree, chance: random.Random) -> Tree:
    holder = chance.choice(_containers(tree, dict) or [{}])
    holder[chance.choice(_KEYS)] = copy.deepcopy(chance.choice(_VALUES))
    return tree


def _rename_key(tree: Tree, chance: random.Random) -> Tree:
    holder = chance.choice(_containers(tree, dict) or [{}])
    if holder:
        holder[chance.choice(_KEYS)] = holder.pop(chance.choice(list(holder)))
    return tree


def _other_container(tree: Tree, chance: random.Random) -> Tree:
    """Turn a list into an object, an object into a list, or a value into a list of it."""
    holder, key = _place(tree, chance)
    value = holder[key]
    if isinstance(value, dict):
        holder[key] = list(value.values()) if chance.random() < 0.5 else list(value)
    elif isinstance(value, list) and chance.random() < 0.7:
        holder[key] = {str(index): item for index, item in enumerate(value)}
    else:
        holder[key] = [value]
    return tree


def _unwrap(tree: Tree, chance: random.Random) -> Tree:
    holder, key = _place(tree, chance)
    value = holder[key]
    inside = list(value.values()) if isinstance(value, dict) else value
    if isinstance(inside, list) and inside:
        holder[key] = chance.choice(inside)
    return tree


def _graft(tree: Tree, chance: random.Random) -> Tree:
    """Put a copy of one part in the place of another."""
    target, into = _place(tree, chance)
    source, key = _place(tree, chance)
    target[into] = copy.deepcopy(source[key])
    return tree


def _lists(tree: Tree, chance: random.Random) -> Tree:
    """Cut, repeat, turn around or shuffle a list."""
    lists = [one for one in _containers(tree, list) if one]
    if lists:
        one = chance.choice(lists)
        way = chance.randrange(4)
        if way == 0:
            del one[chance.randrange(len(one)) :]
        elif way == 1:
            one.append(copy.deepcopy(chance.choice(one)))
        elif way == 2:
            one.reverse()
        else:
            chance.shuffle(one)
    return tree


def _class(tree: Tree, chance: random.Random) -> Tree:
    described = [one for one in _containers(tree, dict) if "class_name" in one]
    if described:
        chance.choice(described)["class_name"] = chance.choice(_CLASSES)
    return tree


def _argument(tree: Tree, chance: random.Random) -> Tree:
    """Change an argument of a layer, which is where most knowledge about classes is used."""
    described = [one["config"] for one in _containers(tree, dict) if isinstance(one.get("config"), dict)]
    configs = [one for one in described if one]
    if configs:
        config = chance.choice(configs)
        config[chance.choice(list(config))] = copy.deepcopy(chance.choice(_VALUES))
    return tree


def _reference(tree: Tree, chance: random.Random) -> Tree:
    """Let a node or an end refer to something else."""
    nodes = [
        one
        for one in _containers(tree, list)
        if len(one) >= 3 and isinstance(one[0], str) and isinstance(one[1], int)
    ]
    if nodes:
        node, other = chance.choice(nodes), chance.choice(nodes)
        way = chance.randrange(4)
        if way == 0:
            node[0] = other[0]
        elif way == 1:
            node[chance.choice([1, 2])] = chance.choice([-1, 0, 1, 2, 5, 2**40, -(2**65)])
        elif way == 2:
            node[0] = chance.choice(["nowhere", "", "\x00", "input_1"])
        else:
            node[3:] = [copy.deepcopy(chance.choice(_VALUES))]
    return tree


def _name(tree: Tree, chance: random.Random) -> Tree:
    """Give one name to two things, or an odd name to one, in one place or everywhere."""
    names = sorted({one["name"] for one in _containers(tree, dict) if isinstance(one.get("name"), str)})
    if names:
        old = chance.choice(names)
        new = chance.choice([*names, "", "a/b", ".", "\x00", "\u202e", "x" * 2000, "dense" + "_1" * 300])
        places = [(holder, key) for holder, key in _places(tree) if holder[key] == old]
        for holder, key in places if chance.random() < 0.5 else [chance.choice(places)]:
            holder[key] = new
    return tree


def _nest(tree: Tree, chance: random.Random) -> Tree:
    """Put a layer into a wrapper, or a model into a model."""
    described = [one for one in _containers(tree, dict) if "class_name" in one and "config" in one]
    if described:
        one = chance.choice(described)
        inner = copy.deepcopy(one)
        if chance.random() < 0.6:
            one["class_name"] = chance.choice(["TimeDistributed", "Bidirectional", "Wrapper", "RNN"])
            one["config"] = {"name": "wrapped", "layer": inner, "cell": inner}
        else:
            one["class_name"] = "Sequential"
            one["config"] = {"name": "wrapped", "layers": [inner]} if chance.random() < 0.5 else [inner]
    return tree


_CHANGES: tuple[Change, ...] = (
    *(
        _odd_value,
        _odd_value,
        _remove,
        _remove,
        _add_key,
        _rename_key,
        _other_container,
        _unwrap,
        _graft,
        _lists,
    ),
    *(_class, _class, _argument, _argument, _argument, _reference, _reference, _name, _nest),
)


def changed(text: str, chance: random.Random) -> str:
    """Change the JSON of an architecture or a training configuration in one to four places."""
    tree = json.loads(text)
    for _ in range(chance.choice([1, 1, 1, 2, 2, 4])):
        if isinstance(tree, dict | list) and tree:
            tree = chance.choice(_CHANGES)(tree, chance)
    result = json.dumps(tree)
    for token, raw in _RAW.items():
        result = result.replace(json.dumps(token), raw)
    return result


# One run.


@functools.lru_cache(maxsize=1)
def unpacked(archive: Path) -> dict[str, bytes]:
    """Read the files of a recorded case that take part."""
    with lzma.open(archive) as packed, tarfile.open(fileobj=packed) as members:
        return {
            member.name: content.read()
            for member in members
            if member.name in FILES and (content := members.extractfile(member)) is not None
        }


def attempt(archives: list[Path], seed: int, number: int, directory: Path) -> Outcome:
    """Change one recorded case and give it to one command."""
    chance = random.Random(f"{seed}:{number}")
    # So many runs in a row take the same case, which then is unpacked once.
    files = unpacked(random.Random(f"{seed}:{number // 20}").choice(archives))
    for name in FORMATS:
        (directory / name).unlink(missing_ok=True)
    arguments: dict[str, Any] = {}
    full = [name for name in ("multi.h5", "single.h5") if name in files]
    if full and (chance.random() < 0.6 or "single.json" not in files):
        source = _write(directory / "source.h5", _with_config(files[chance.choice(full)], chance))
        given = {name: content for name, content in files.items() if name.endswith(("json", "weights.h5"))}
        if given and chance.random() < 0.15:
            name = chance.choice(sorted(given))
            arguments["like"] = _write(directory / f"like_{name}", given[name])
    elif "single.json" in files:
        sources = [name for name in FILES[:4] if name in files]
        source = _write(directory / "source.h5", files[chance.choice(sources)])
        arguments["like"] = _reference_file(files, chance, directory)
    else:
        return Outcome("nothing to change")
    commands: list[Callable[[], Iterator[Line]]] = [
        functools.partial(_inspect, source, arguments),
        functools.partial(_check, source, arguments),
        functools.partial(_plan, source, arguments, chance),
        *(functools.partial(_extract, source, directory / name, arguments, chance) for name in FORMATS * 2),
    ]
    command = chance.choice(commands)
    label = command.func.__name__.strip("_")  # type: ignore[attr-defined]
    try:
        with _deadline(), warnings.catch_warnings():
            warnings.simplefilter("error")
            ending = "done"
            try:
                lines = list(command())
            except RemapError as error:
                ending = type(error).__name__
                invocation = _invocation(label, source)
                lines = list(failure_lines(error, invocation, width=80))
                json.dumps(failure_json(error, invocation), allow_nan=False).encode()
            for line in lines:
                line.plain.encode()
                assert line.plain.isprintable(), f"this would do things to a terminal: {line.plain!r}"
    except Exception:
        return Outcome("FAILED", f"{seed}:{number} {label}\n{traceback.format_exc()}")
    return Outcome(f"{label}: {ending}")


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _with_config(content: bytes, chance: random.Random) -> bytes:
    """Change the architecture of a full file, or its training configuration."""
    image = io.BytesIO(content)
    with h5py.File(image, "r+") as file:
        names = [name for name in ("model_config", "training_config") if name in file.attrs]
        for name in chance.choice([names, names[:1], names[:1], names[-1:]]):
            text = file.attrs[name]
            text = text.decode() if isinstance(text, bytes) else text
            del file.attrs[name]
            file.attrs[name] = changed(text, chance).encode()
    return image.getvalue()


def _reference_file(files: dict[str, bytes], chance: random.Random, directory: Path) -> Path:
    """Write a changed reference model in one of its forms."""
    text = changed(files["single.json"].decode(), chance)
    form = chance.choice(["json", "json", "keras", "h5"])
    if form == "h5" and "single.h5" in files:
        return _write(directory / "like.h5", _with_config(files["single.h5"], chance))
    if form == "keras":
        with zipfile.ZipFile(directory / "like.keras", "w") as archive:
            archive.writestr("config.json", text.encode())
        return directory / "like.keras"
    return _write(directory / "like.json", text.encode())


def _inspect(source: Path, _: dict[str, Any]) -> Iterator[Line]:
    found = inspect(source)
    json.dumps(found.to_json(), allow_nan=False).encode()
    yield from overview_lines(found, Selection(), width=80, ascii_only=False)
    yield from advice_lines(found, width=80)


def _check(source: Path, arguments: dict[str, Any]) -> Iterator[Line]:
    result = check(source, arguments.get("like", source))
    json.dumps(result.to_json(), allow_nan=False).encode()
    yield from check_lines(result, width=80, ascii_only=False)


def _options(chance: random.Random) -> dict[str, Any]:
    options: dict[str, Any] = {"weights_only": chance.random() < 0.2}
    if chance.random() < 0.1:
        options["submodel"] = chance.choice(
            ["model_1", "sequential_1", "model", "core", "core/backbone", "nowhere"]
        )
    return options


def _plan(source: Path, arguments: dict[str, Any], chance: random.Random) -> Iterator[Line]:
    planned = plan(source, **arguments, **_options(chance))
    json.dumps(plan_json(planned, source=str(source)), allow_nan=False).encode()
    yield from mapping_lines(mapping_of(planned), ascii_only=False)


def _extract(source: Path, target: Path, arguments: dict[str, Any], chance: random.Random) -> Iterator[Line]:
    report = extract(source, target, **arguments, **_options(chance))
    json.dumps(report.to_json(), allow_nan=False).encode()
    yield from report_lines(report, _invocation("extract", source), width=80)


def _invocation(command: str, source: Path) -> Invocation:
    known: Command = "extract" if command not in ("inspect", "check") else command  # type: ignore[assignment]
    return Invocation(command=known, source=str(source), options=(("target", "out.h5"),))


@contextmanager
def _deadline() -> Iterator[None]:
    def late(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {DEADLINE} seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(DEADLINE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# Many runs.


def campaign(*, runs: int, seed: int, start: int = 0, cases: str = "*/*") -> tuple[Counter[str], list[str]]:
    """Do runs; give how many ended how, and the tracebacks of those that ended as none may."""
    archives = sorted(FIXTURES.glob(f"{cases}.tar.xz"))
    counts: Counter[str] = Counter()
    failures: list[str] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:  # noqa: S108
        for number in range(start, start + runs):
            outcome = attempt(archives, seed, number, Path(name))
            counts[outcome.label] += 1
            if outcome.failure:
                failures.append(outcome.failure)
    return counts, failures


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=int, default=0, help="the number of the first run")
    parser.add_argument("--cases", default="*/*", help="which fixtures, as a file pattern")
    parser.add_argument("--only", help="repeat one run, named SEED:NUMBER")
    given = parser.parse_args()
    if given.only:
        given.seed, given.start = map(int, given.only.split(":"))
        given.runs = 1
    counts, failures = campaign(runs=given.runs, seed=given.seed, start=given.start, cases=given.cases)
    for failure in failures:
        sys.stdout.write(f"{failure}\n")
    sys.stdout.write(f"{given.runs:,} changed architectures, seed {given.seed}\n")
    for label, count in counts.most_common():
        sys.stdout.write(f"{count:>9,}  {label}\n")
    sys.stdout.write(f"{len(failures):>9,}  ended as none may\n")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
