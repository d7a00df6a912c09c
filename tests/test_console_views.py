"""The views, as a person last saw and liked them, at 80 and 120 columns, with colours and without."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from remap import Inspection, Undecided, check, inspect, plan
from remap.console.advice import advice_lines, failure_lines
from remap.console.check import check_lines
from remap.console.extraction import mapping_lines, report_lines
from remap.console.inspection import Selection, overview_lines
from remap.console.rendering import print_coloured
from remap.console.text import Line
from remap.errors import GIVE_JSON, SAY_PLAIN
from remap.results import InspectedLayer, InspectedWeight, Report, mapping_of
from tests.handmade import save_weights
from tests.snapshot import require_unchanged

Case = Callable[[str, str], Path]

WIDTHS = [80, 120, None]


@pytest.fixture
def inside(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that steps into the folder of a case, so that no path is in a view."""
    return lambda name: monkeypatch.chdir(case("keras-2.2.4", name))


def view(
    found: Inspection, width: int | None, selection: Selection | None = None, **more: bool
) -> list[Line]:
    ascii_only = more.get("ascii_only", False)
    chosen = selection or Selection()
    return [
        *overview_lines(found, chosen, width=width, ascii_only=ascii_only),
        Line(),
        *advice_lines(found, width=width),
    ]


def plain(lines: Iterable[Line]) -> str:
    return "".join(f"{line.plain}\n" for line in lines)


def coloured(lines: Iterable[Line], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, value in (("TERM", "xterm"), ("COLORTERM", ""), ("NO_COLOR", ""), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    stream = io.StringIO()
    print_coloured(lines, stream)
    return stream.getvalue()


SEEN = [
    ("conv_bn", "multi.h5"),
    ("nested", "multi.h5"),
    ("nested", "single.h5"),
    ("recurrent", "multi.h5"),
    ("gan", "multi.h5"),
    ("gan_multi", "multi_weights.h5"),
    ("sequential", "single_weights.h5"),
    ("custom_both", "multi.h5"),
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "member"), SEEN)
def test_inspect(inside: Callable[[str], None], name: str, member: str, width: int | None) -> None:
    inside(name)
    lines = view(inspect(member), width)
    require_unchanged(f"inspect-{name}-{member}-{width}.txt", plain(lines))
    if width is not None:
        assert all(line.width <= width for line in lines if "h5remap extract" not in line.plain)


def test_inspect_in_colour(inside: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    inside("nested")
    text = coloured(view(inspect("multi.h5"), 80), monkeypatch)
    assert "\x1b[1;32m" in text
    require_unchanged("inspect-nested-colour.txt", text)


def test_inspect_in_ascii(inside: Callable[[str], None]) -> None:
    inside("nested")
    text = plain(view(inspect("multi.h5"), 80, ascii_only=True))
    assert text.isascii()
    require_unchanged("inspect-nested-ascii.txt", text)


def test_inspect_with_stats(inside: Callable[[str], None]) -> None:
    inside("conv_bn")
    require_unchanged("inspect-conv_bn-stats.txt", plain(view(inspect("multi.h5", stats=True), 80)))


def test_inspect_narrowed(inside: Callable[[str], None]) -> None:
    inside("nested")
    found = inspect("multi.h5")
    for name, selection in (
        ("depth-1", Selection(depth=1)),
        ("depth-2", Selection(depth=2)),
        ("pattern", Selection(pattern="*/backbone/c?")),
        ("everything", Selection(every=True)),
    ):
        require_unchanged(f"inspect-nested-{name}.txt", plain(view(found, 80, selection)))


def weights(name: str, *shapes: tuple[int, ...]) -> tuple[InspectedWeight, ...]:
    return tuple(
        InspectedWeight(
            name=f"{name}/{leaf}:0", path=f"/m/{name}/{leaf}:0", shape=shape, dtype=dtype, parameters=4
        )
        for leaf, shape, dtype in zip(("kernel", "bias"), shapes, ("<f4", "<f2"), strict=False)
    )


def made_up(**changes: object) -> Inspection:
    """Make an inspection of a file with long runs of layers, and an open question."""
    rounds = [
        InspectedLayer(
            name=f"{kind}_{number}",
            class_name=class_name,
            weights=weights(f"{kind}_{number}", *shapes),
            parameters=1_000_000 * len(shapes),
            tensors=len(shapes),
        )
        for number in range(1, 31)
        for kind, class_name, shapes in (
            ("conv2d", "Conv2D", ((3, 3, 512, 512), (512,))),
            ("activation", "Activation", ()),
        )
    ]
    model = InspectedLayer(
        name="a_model", role="model", layers=tuple(rounds), grouped=True, parameters=60_000_000, tensors=60
    )
    fields: dict[str, object] = {
        "source": "runs.h5",
        "size": 240_000_000,
        "kind": "multi-gpu",
        "content": "weights",
        "class_name": None,
        "name": "",
        "keras_version": None,
        "backend": None,
        "template": "a_model",
        "replicas": None,
        "settled_by": None,
        "question": "the order may be this one or that one, and nothing in the file tells which it is",
        "hint": "",
        "remedies": (GIVE_JSON, SAY_PLAIN),
        "notes": ("something is on trust",),
        "optimizer": None,
        "optimizer_tensors": 0,
        "parameters": 60_000_000,
        "tensors": 60,
        "layers": (model,),
    }
    return Inspection(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("width", WIDTHS)
def test_inspect_of_long_runs_with_an_open_question(width: int | None) -> None:
    text = plain(view(made_up(), width))
    assert text.count("conv2d_") == 1
    require_unchanged(f"inspect-open-{width}.txt", text)


def test_inspect_without_plain_where_that_would_not_help() -> None:
    assert "--plain" not in plain(view(made_up(remedies=(GIVE_JSON,)), 80))


def test_inspect_of_an_empty_file() -> None:
    text = plain(view(made_up(kind="empty", layers=(), tensors=0, notes=()), 80))
    require_unchanged("inspect-empty.txt", text)


REPORT = Report(
    source="multi.h5",
    target="single.h5",
    template="resnet50",
    replicas=4,
    settled_by="architecture",
    kind="full model",
    layers=177,
    weighted_layers=107,
    tensors=320,
    parameters=25_636_712,
    optimizer_tensors=429,
    size=307_000_000,
    frozen=(),
    flags="saved",
    notes=("positions and shapes left a choice; the names of the weights settled it",),
    left_behind=(
        "6 layers around the model, without weights: lambda_1, lambda_2, lambda_3, lambda_4, fc1000",
    ),
)


@pytest.mark.parametrize("width", WIDTHS)
def test_extract(width: int | None) -> None:
    require_unchanged(f"extract-{width}.txt", plain(report_lines(REPORT, width=width)))


@pytest.mark.parametrize("ascii_only", [False, True])
def test_dry_run(case: Case, ascii_only: bool) -> None:
    moves = mapping_of(plan(case("keras-2.2.4", "nested") / "multi.h5"))
    text = plain(mapping_lines(moves, ascii_only=ascii_only))
    assert text.isascii() == ascii_only
    require_unchanged(f"dry-run-nested-{'ascii' if ascii_only else 'unicode'}.txt", text)


CHECKS = [
    ("nested", "single.h5", "single.h5"),
    ("nested", "single.h5", "single.json"),
    ("nested", "multi_weights.h5", "single.json"),
    ("custom_both", "single_weights.h5", "single.json"),
    ("nested_partly_frozen", "fresh_weights.h5", "single.h5"),
]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("name", "file", "like"), CHECKS)
def test_check(inside: Callable[[str], None], name: str, file: str, like: str, width: int | None) -> None:
    inside(name)
    lines = list(check_lines(check(file, like), width=width, ascii_only=False))
    require_unchanged(f"check-{name}-{file}-{like}-{width}.txt", plain(lines))
    if width is not None:
        assert all(line.width <= width for line in lines if "h5remap extract" not in line.plain)


def test_check_of_another_model(inside: Callable[[str], None], case: Case) -> None:
    inside("dense_plain")
    stranger = case("keras-2.2.4", "conv_bn") / "single.h5"
    lines = list(check_lines(check(stranger, "single.h5"), width=80, ascii_only=True))
    require_unchanged("check-stranger.txt", plain(lines))


def test_a_refusal_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Undecided("it fits in two ways", where="model_1", hint="say --plain, or give --like FILE")
    lines = failure_lines(error, ["extract", "a b.h5", "-o", "c.h5"])
    require_unchanged("refusal-colour.txt", coloured(lines, monkeypatch))


def test_a_refusal_proposes_no_option_twice() -> None:
    error = Undecided("it fits in two ways", hint="say --plain; otherwise --like FILE")
    lines = plain(failure_lines(error, ["extract", "a.h5", "-o", "c.h5", "--like", "x.json"]))
    assert lines.count("h5remap extract") == 1
    assert "   in:" not in lines


def test_a_narrow_terminal_goes_on_below(inside: Callable[[str], None]) -> None:
    inside("nested")
    lines = view(inspect("multi.h5"), 40)
    require_unchanged("inspect-nested-40.txt", plain(lines))


def test_check_with_layers_too_many_and_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("few", "many"):
        names = ("a", "b") if name == "few" else ("a", "c", "d")
        save_weights(Path(f"{name}.h5"), {layer: {f"{layer}/kernel:0": np.ones(2, "<f4")} for layer in names})
    for file, like in (("few.h5", "many.h5"), ("many.h5", "few.h5")):
        lines = check_lines(check(file, like), width=80, ascii_only=False)
        require_unchanged(f"check-{file}-{like}.txt", plain(lines))
