"""The views, as they were when a person last read them, at 60, 80 and 200 columns, with colours and without.

Every file of tests/snapshots shows what belongs together side by side, so that one reading compares it.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from remap import Inspection, RemapError, Undecided, check, extract, inspect, plan
from remap.console.advice import advice_lines, failure_lines
from remap.console.check import check_lines
from remap.console.extraction import mapping_lines, report_lines
from remap.console.inspection import Selection, overview_lines
from remap.console.invocation import Invocation
from remap.console.rendering import print_coloured
from remap.console.text import Line, cell_width
from remap.errors import GIVE_JSON, SAY_PLAIN, Remedy
from remap.results import InspectedLayer, InspectedWeight, mapping_of, report_of
from tests.handmade import save_weights
from tests.snapshot import require_unchanged

Case = Callable[[str, str], Path]
Show = Callable[[int | None], Iterable[Line]]

WIDTHS = [60, 80, 200]


@pytest.fixture
def inside(case: Case, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a function that steps into the folder of a case, so that no path is in a view."""
    return lambda name: monkeypatch.chdir(case("keras-2.2.4", name))


@pytest.fixture
def files(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a folder with links to members of cases, named as a view shall name them."""
    for name, member in (
        ("conv_bn", "multi.h5"),
        ("conv_bn", "single.h5"),
        ("nested", "multi.h5"),
        ("nested", "single.h5"),
        ("nested", "single.json"),
        ("nested", "multi_weights.h5"),
        ("nested_partly_frozen", "fresh_weights.h5"),
        ("nested_partly_frozen", "single.h5"),
        ("recurrent", "multi.h5"),
        ("gan", "multi.h5"),
        ("inside_sequential", "multi.h5"),
        ("gan_multi", "multi_weights.h5"),
        ("two_io", "multi_weights.h5"),
        ("two_io", "single.json"),
        ("sequential", "single_weights.h5"),
        ("custom_both", "multi.h5"),
        ("custom_both", "single_weights.h5"),
        ("custom_both", "single.json"),
        ("many_layers", "multi.h5"),
        ("own_lambda", "multi.h5"),
    ):
        (tmp_path / f"{name}_{member}").symlink_to(case("keras-2.2.4", name) / member)
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def gallery(shown: dict[str, Show], width: int) -> str:
    """Put views below each other, each with a heading, and hold them to the width.

    Commands, code and names of files may be longer: they have to be copied whole.
    """
    texts = []
    for title, show in shown.items():
        lines = list(show(width))
        for line in lines:
            text = line.plain
            assert cell_width(text) <= width or re.search(r"h5remap |\w\('", text), text
        texts.append(f"=== {title}\n\n{plain(lines)}")
    return "\n".join(texts)


def inspection(path: str) -> Show:
    return lambda width: view(inspect(path), width)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("width", WIDTHS)
def test_inspections(width: int) -> None:
    shown = {
        "a multi-GPU checkpoint": inspection("conv_bn_multi.h5"),
        "a nested model": inspection("nested_multi.h5"),
        "recurrent layers": inspection("recurrent_multi.h5"),
        "custom layers": inspection("custom_both_multi.h5"),
        "code of Lambda layers": inspection("own_lambda_multi.h5"),
        "weights of a multi-GPU checkpoint, undecided": inspection("two_io_multi_weights.h5"),
        "multi-GPU wrappers inside a model": inspection("inside_sequential_multi.h5"),
        "several models": inspection("gan_multi.h5"),
        "several models, weights only": inspection("gan_multi_multi_weights.h5"),
        "a single model": inspection("conv_bn_single.h5"),
        "a single model that Keras 3 cannot open as .h5": inspection("nested_single.h5"),
        "weights of a single model": inspection("sequential_single_weights.h5"),
        "long runs of layers": lambda width: view(made_up(), width),
        "no weights": lambda width: view(made_up(kind="empty", layers=(), tensors=0, notes=()), width),
    }
    require_unchanged(f"inspect-{width}.txt", gallery(shown, width))


def extraction(source: str, target: str, **options: str | bool) -> Show:
    """Give what `extract` prints, or what it would without writing."""

    def show(width: int | None) -> Iterator[Line]:
        report = extract(source, target, **options)  # type: ignore[arg-type]
        yield from report_lines(report, invocation(source, target, **options), width=width)

    return show


def invocation(source: str, target: str, **options: str | bool) -> Invocation:
    given = tuple(options.items())
    return Invocation(command="extract", source=source, options=(("target", target), *given))  # type: ignore[arg-type]


def dry_run(source: str) -> Show:
    report = report_of(plan(source), source=source, target=None, size=0)
    return lambda width: report_lines(report, invocation(source, "out.h5"), width=width)


def checking(file: str, like: str) -> Show:
    return lambda width: check_lines(check(file, like), width=width, ascii_only=False)


def refusal(call: Callable[[], object], asked: Invocation) -> Show:
    def show(width: int | None) -> Iterator[Line]:
        with pytest.raises(RemapError) as caught:
            call()
        yield from failure_lines(caught.value, asked, width=width)

    return show


def refused_extraction(source: str, target: str, **options: str | bool) -> Show:
    asked = invocation(source, target, **options)
    return refusal(lambda: extract(source, target, **options), asked)  # type: ignore[arg-type]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("width", WIDTHS)
def test_reports_and_refusals(width: int) -> None:
    Path("page.h5").write_text("<!DOCTYPE html><html></html>")
    Path("model.onnx").write_bytes(b"\x08\x07\x12\x07pytorch")
    Path("model.yaml").write_text("class_name: Model\n")
    Path("there.h5").touch()
    weights = "two_io_multi_weights.h5"
    like = "two_io_single.json"
    shown = {
        "a full model": extraction("conv_bn_multi.h5", "full.h5"),
        "a full model that Keras 3 cannot open as .h5": extraction("nested_multi.h5", "nested.h5"),
        "a full model with custom layers": extraction("custom_both_multi.h5", "custom.h5"),
        "a full model with code of Lambda layers": extraction("own_lambda_multi.h5", "lambda.h5"),
        "a .keras file": extraction("nested_multi.h5", "nested.keras"),
        "a .weights.h5 file": extraction("nested_multi.h5", "nested.weights.h5"),
        "weights, with a reference model": extraction(weights, "like.h5", like=like),
        "weights, with plain": extraction(weights, "plain.h5", plain=True),
        "one of several models": extraction("gan_multi.h5", "generator.h5", submodel="generator"),
        "a dry run": dry_run("nested_multi.h5"),
        "check: loads": checking("nested_single.h5", "nested_single.json"),
        "check: a multi-GPU checkpoint": checking("nested_multi_weights.h5", "nested_single.json"),
        "check: custom layers": checking("custom_both_single_weights.h5", "custom_both_single.json"),
        "check: other values": checking(
            "nested_partly_frozen_fresh_weights.h5", "nested_partly_frozen_single.h5"
        ),
        "check: another model": checking("conv_bn_single.h5", "nested_single.h5"),
        "refused: no such file": refused_extraction("gone.h5", "out.h5"),
        "refused: a URL": refused_extraction("ftp:/host/model.h5", "out.h5"),
        "refused: a web page": refused_extraction("page.h5", "out.h5"),
        "refused: ONNX": refused_extraction("model.onnx", "out.h5"),
        "refused: no such reference model": refused_extraction(weights, "out.h5", like="model.json"),
        "refused: a reference model in YAML": refused_extraction(weights, "out.h5", like="model.yaml"),
        "refused: another reference model": refused_extraction(weights, "out.h5", like="nested_single.json"),
        "refused: undecided": refused_extraction(weights, "-out.h5", overwrite=True),
        "refused: several models": refused_extraction("gan_multi.h5", "out.h5"),
        "refused: no such model": refused_extraction("gan_multi.h5", "out.h5", submodel="nobody"),
        "refused: a single model": refused_extraction("conv_bn_single.h5", "out.h5"),
        "refused: the output exists": refused_extraction("conv_bn_multi.h5", "there.h5"),
        "refused: no directory": refused_extraction("conv_bn_multi.h5", "nowhere/out.h5"),
        "refused: the name of the output": refused_extraction("conv_bn_multi.h5", "out.ckpt"),
        "refused: two options": refused_extraction(weights, "out.h5", plain=True, like=like),
        "Keras 3 needs custom objects": extraction("own_lambda_multi.h5", "lambda.keras"),
        "refused: a layer for .keras": refused_extraction("many_layers_multi.h5", "out.keras"),
    }
    require_unchanged(f"messages-{width}.txt", gallery(shown, width))


def test_an_inspection_without_a_width_breaks_no_line(inside: Callable[[str], None]) -> None:
    inside("nested")
    require_unchanged("inspect-in-a-pipe.txt", plain(view(inspect("multi.h5"), None)))


def test_inspect_in_colour(inside: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    inside("nested")
    text = coloured(view(inspect("multi.h5"), 80), monkeypatch)
    assert "\x1b[1;32m" in text
    require_unchanged("inspect-in-colour.txt", text)


def test_inspect_in_ascii(inside: Callable[[str], None]) -> None:
    inside("nested")
    text = plain(view(inspect("multi.h5"), 80, ascii_only=True))
    assert text.isascii()
    require_unchanged("inspect-in-ascii.txt", text)


@pytest.mark.usefixtures("files")
def test_selections_of_an_inspection() -> None:
    found = inspect("nested_multi.h5")
    selections = {
        "--depth 1": Selection(depth=1),
        "--depth 2": Selection(depth=2),
        "--layer '*/backbone/c?'": Selection(pattern="*/backbone/c?"),
        "--all": Selection(every=True),
    }
    shown: dict[str, Show] = {
        title: lambda width, selection=selection: view(found, width, selection)  # type: ignore[misc]
        for title, selection in selections.items()
    }
    shown["--stats"] = lambda width: view(inspect("conv_bn_multi.h5", stats=True), width)
    require_unchanged("inspect-selections.txt", gallery(shown, 80))


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
        "keras3_obstacle": "",
        "custom_objects": (),
        "notes": ("something was assumed",),
        "optimizer": None,
        "optimizer_tensors": 0,
        "parameters": 60_000_000,
        "tensors": 60,
        "layers": (model,),
    }
    return Inspection(**(fields | changes))  # type: ignore[arg-type]


def test_runs_of_layers_are_shown_once() -> None:
    assert plain(view(made_up(), 80)).count("conv2d_") == 1


def test_inspect_offers_only_what_would_help() -> None:
    text = plain(view(made_up(remedies=(GIVE_JSON,), hint="do this"), 80))
    assert "--plain" not in text
    assert "\ndo this\n" in text


@pytest.mark.parametrize("ascii_only", [False, True])
def test_dry_run(case: Case, ascii_only: bool) -> None:
    moves = mapping_of(plan(case("keras-2.2.4", "nested") / "multi.h5"))
    text = plain(mapping_lines(moves, ascii_only=ascii_only))
    assert text.isascii() == ascii_only
    require_unchanged(f"dry-run-{'ascii' if ascii_only else 'unicode'}.txt", text)


def test_a_refusal_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    error = Undecided("it fits in two ways", where="model_1", hint="look", remedies=(GIVE_JSON, SAY_PLAIN))
    lines = failure_lines(error, invocation("a b.h5", "c.h5"), width=80)
    require_unchanged("refusal-in-colour.txt", coloured(lines, monkeypatch))


def refusal_text(error: RemapError, asked: Invocation) -> str:
    return plain(failure_lines(error, asked, width=None))


def test_a_refusal_offers_only_options_that_the_command_has() -> None:
    error = Undecided("it fits in two ways", remedies=(GIVE_JSON, SAY_PLAIN, Remedy(option="overwrite")))
    assert "h5remap" not in refusal_text(error, Invocation(command="inspect", source="a.h5"))
    asked = Invocation(command="check", source="a.h5", options=(("like", "b.h5"),))
    assert refusal_text(error, asked).count("h5remap check a.h5 --like model.json") == 1


def test_a_refusal_names_the_file_once() -> None:
    asked = Invocation(command="inspect", source="a.h5")
    for where, shown in (("/", "a.h5"), ("/model_weights", "/model_weights in a.h5"), ("a.h5, x", "a.h5, x")):
        assert f"   in: {shown}\n" in refusal_text(Undecided("no", where=where), asked)


@pytest.mark.parametrize("words", ["averylongword" * 10, "two words " * 20])
def test_a_refusal_breaks_no_word(words: str) -> None:
    error = Undecided(words, hint=words)
    lines = failure_lines(error, Invocation(command="inspect", source="a.h5"), width=60)
    shown = [word for line in lines for word in line.plain.split()]
    assert [word for word in shown if word.startswith(("avery", "two"))] == [
        word for word in (words + " " + words).split() if word.startswith(("avery", "two"))
    ]


def test_a_narrow_terminal_goes_on_below(inside: Callable[[str], None]) -> None:
    inside("nested")
    lines = view(inspect("multi.h5"), 40)
    require_unchanged("inspect-40.txt", plain(lines))


@pytest.mark.parametrize("width", [70, 80])
def test_columns_stay_aligned_where_a_remark_does_not_fit(inside: Callable[[str], None], width: int) -> None:
    inside("gan")
    lines = [
        line.plain for line in overview_lines(inspect("multi.h5"), Selection(), width=width, ascii_only=False)
    ]
    begin = {match.start() for line in lines if (match := re.search(r" (Dense|Model|InputLayer)( |$)", line))}
    assert len(begin) == 1
    assert any("◀ a model of its own" in line for line in lines)


def test_check_with_layers_too_many_and_too_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("few", "many"):
        names = ("a", "b") if name == "few" else ("a", "c", "d")
        save_weights(Path(f"{name}.h5"), {layer: {f"{layer}/kernel:0": np.ones(2, "<f4")} for layer in names})
    shown = {
        "missing": checking("few.h5", "many.h5"),
        "extra": checking("many.h5", "few.h5"),
    }
    require_unchanged("check-missing-and-extra.txt", gallery(shown, 80))
