"""The conversion of a checkpoint: read, recognise, assign, describe the output, write it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from remap.architecture import input_of
from remap.assignment.reference import Reference, Request
from remap.checkpoint import Checkpoint
from remap.conversion_plan import Plan, PlannedWeight
from remap.errors import OutputRefused, Undecided, UsageRefused
from remap.formats import DEFAULT, EXTENSIONS, Format, format_of
from remap.formats.description import FileDescription
from remap.hdf5.output import publish, require_other_file
from remap.hdf5.reader import open_checkpoint
from remap.isolation import run
from remap.options import Options
from remap.planning import compose
from remap.reference_file import names_network, read_reference
from remap.results import Report, report_of
from remap.urls import base_name, masked, remote

if TYPE_CHECKING:
    from remap.assignment.class_order import ClassRequest
    from remap.keras3.tensors import Translation
    from remap.stock.choice import StockRequest

    _Request = Request | StockRequest | ClassRequest

__all__ = ["Settled", "extract", "extract_with", "plan", "plan_with"]

_NO_INPUT = (
    "nothing in the architecture tells the shape of the input, so load_model cannot build the model, nor can it from "
    "Keras's own file: extract to a .keras file, or call load_weights on the model that its code builds"
)


def extract(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    plain: bool = False,
    keep_flags: bool = False,
    submodel: str | None = None,
    weights_only: bool = False,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
    isolated: bool = False,
) -> Report:
    """Write the single model inside a multi-GPU checkpoint to a file of its own.

    The output appears whole and verified, or not at all.

    Args:
        source: The checkpoint.
        target: The file to write; its name chooses the format: .h5, .keras or .weights.h5.
        like: The reference model that the weights are to be loaded into: JSON of `model.to_json()`, a Keras .h5 or a
            .keras file, of any values; or a network of `keras.applications` by its name, as in
            ``mobilenet_v2,alpha=0.5,classes=7``. The weights of nested models are in the order that its `load_weights`
            expects, also where its trainable flags differ from the checkpoint's.
        plain: Nothing was frozen, and the model has no nested model.
        keep_flags: Keep the weights of nested models in the order in which the old Keras saved them, for a model with
            the trainable flags of the checkpoint.
        submodel: A model inside the model, which is extracted alone: its name, or its path such as `core/backbone`. In a
            weights file the reference model tells nested models, and describes the whole model.
        weights_only: Leave architecture and training state out.
        overwrite: Replace the output if it exists.
        progress: Is called with bytes done and bytes in all.
        isolated: Do the work in a child process with limits on time and memory (see SECURITY.md).

    Returns:
        What was written, and how it was settled.

    Raises:
        UsageRefused: The arguments contradict each other, or the output has no extension of a known format.
        InputRefused: The file is not a sound Keras .h5, or Keras 3 does not have what it holds.
        Undecided: The file does not settle the answer.
        NothingToExtract: The file holds a single model already.
        OutputRefused: The output cannot be written, or exists.
    """
    options = _options(like, plain, keep_flags, submodel, weights_only, overwrite)
    if isolated:
        report: Report = run(
            "remap.conversion.extract_with",
            source,
            target,
            options,
            where=masked(source),
            progress=progress,
        )
        return report
    return extract_with(source, target, options, progress=progress)


def _options(
    like: str | os.PathLike[str] | None,
    plain: bool,
    keep_flags: bool,
    submodel: str | None,
    weights_only: bool,
    overwrite: bool = False,
) -> Options:
    return Options(
        like=None if like is None else os.fsdecode(like),
        plain=plain,
        keep_flags=keep_flags,
        submodel=submodel,
        weights_only=weights_only,
        overwrite=overwrite,
    )


class Settled:
    """What was determined for the file before, which serves as long as files have the same layout.

    The files of one run differ in the values of their tensors only. An output is prepared from a `Checkpoint`, and of
    nothing else of a file, so that an equal `Checkpoint` has the same output but for these values.
    """

    def __init__(self) -> None:
        self._request: tuple[tuple[Options, object], _Request] | None = None
        self._prepared: tuple[Checkpoint, Format, _Request, tuple[Plan, FileDescription]] | None = None

    def request(self, options: Options) -> _Request:
        """Do what `_request` does, but read a reference model once unless its file changes."""
        mark = None if options.like is None else _mark(options.like)
        known = options.like is None or mark is not None
        if known and self._request is not None and self._request[0] == (options, mark):
            return self._request[1]
        request = _request(options)
        self._request = (options, mark), request
        return request

    def prepare(
        self, checkpoint: Checkpoint, form: Format, request: _Request
    ) -> tuple[Plan, FileDescription]:
        """Do what `_prepare` does, unless all it follows from is as before."""
        if self._prepared is not None:
            before, same_form, same_request, prepared = self._prepared
            if same_request is request and same_form is form and before == checkpoint:
                return prepared
        prepared = _prepare(checkpoint, form, request)
        self._prepared = checkpoint, form, request, prepared
        return prepared


def _mark(path: str) -> object:
    """Tell a file from other files and from itself with another content; None if it cannot be found."""
    if names_network(path):
        return path
    url = remote(path)
    if url is not None:
        from remap.remote.listing import identity_of

        return identity_of(url)
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def extract_with(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: Options,
    *,
    settled: Settled | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Do what `extract` does, in this process.

    Args:
        source: The checkpoint.
        target: The output.
        options: The options.
        settled: What was settled for the file before in a run of many files; it is changed.
        progress: Is called with bytes done and bytes in all.

    Returns:
        What was written.

    Raises:
        RemapError: As `extract`.
    """
    settled = settled or Settled()
    form = _format(target, options)
    request = settled.request(options)
    with open_checkpoint(source) as opened:
        prepared, file = settled.prepare(opened.checkpoint, form, request)
        size = publish(file, opened, target, overwrite=options.overwrite, progress=progress)
    shown_source, shown_target = masked(source), masked(target)
    return report_of(prepared, source=shown_source, target=shown_target, size=size)


def plan(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str] | None = None,
    *,
    like: str | os.PathLike[str] | None = None,
    plain: bool = False,
    keep_flags: bool = False,
    submodel: str | None = None,
    weights_only: bool = False,
    isolated: bool = False,
) -> Plan:
    """Determine what `extract` would write to `target`, and write nothing.

    Args:
        source: The checkpoint.
        target: The output, whose name chooses the format; None for a .h5 file. It need not exist.
        like: As for `extract`, like the rest.
        plain: Nothing was frozen, and the model has no nested model.
        keep_flags: Keep the order of the trainable flags of the checkpoint.
        submodel: A model inside the model, which is extracted alone.
        weights_only: Leave architecture and training state out.
        isolated: Do the work in a child process with limits on time and memory.

    Returns:
        The plan.

    Raises:
        RemapError: As `extract` does, for everything that it refuses before it writes; an output that exists already
            is no error here.
    """
    options = _options(like, plain, keep_flags, submodel, weights_only)
    if isolated:
        planned: Plan = run("remap.conversion.plan_with", source, target, options, where=masked(source))
        return planned
    return plan_with(source, target, options)


def plan_with(
    source: str | os.PathLike[str], target: str | os.PathLike[str] | None, options: Options
) -> Plan:
    """Do what `plan` does, in this process."""
    form = DEFAULT if target is None else _format(target, options)
    request = _request(options)
    with open_checkpoint(source) as opened:
        if target is not None:
            require_other_file(os.fsdecode(target), opened)
        prepared, _ = _prepare(opened.checkpoint, form, request)
    return prepared


def _prepare(checkpoint: Checkpoint, form: Format, request: _Request) -> tuple[Plan, FileDescription]:
    """Determine everything about an output before it is written; raises all that can be refused by then."""
    if not isinstance(request, Request):
        planned, file = _described(
            checkpoint, form, request.settle(checkpoint, keras3=form.from_plan is None)
        )
        return replace(planned, notes=(*planned.notes, *request.notes)), file
    try:
        return _described(checkpoint, form, request)
    except Undecided as refusal:
        if request.like is None and checkpoint.model_config is None:
            from remap.stock.recognition import with_network

            raise with_network(refusal, checkpoint, request.submodel) from None
        raise


def _described(checkpoint: Checkpoint, form: Format, request: Request) -> tuple[Plan, FileDescription]:
    request = replace(request, weights_only=request.weights_only or not form.has_model)
    if form.from_plan is not None:
        planned = replace(compose(checkpoint, request), extension=form.extensions[0])
        return _with_input_note(planned), form.from_plan(planned)
    from remap.keras3.conversion import to_keras3

    assert form.from_translation is not None  # noqa: S101 - for the type checker: a format has one of the two
    planned, translation = to_keras3(checkpoint, request)
    file = form.from_translation(translation)
    planned = replace(planned, extension=form.extensions[0])
    if not form.has_model:
        return planned, file
    compiled = translation.config.get("compile_config")
    return replace(
        planned,
        model_config=json.dumps(translation.config),
        training_config=None if compiled is None else json.dumps(compiled),
        optimizer=_optimizer_state(translation),
        notes=(*translation.loading_notes, *planned.notes),
        custom_objects=translation.custom_objects,
    ), file


def _optimizer_state(translation: Translation) -> tuple[PlannedWeight, ...] | None:
    """List the variables of the optimizer that come from the checkpoint, by their names in the file."""
    state = [
        PlannedWeight(name=f"{group.path}/vars/{number}", source=tensor.source)
        for group in translation.groups
        if group.path == "optimizer"
        for number, tensor in enumerate(group.variables)
        if tensor.source is not None
    ]
    return tuple(state) or None


def _with_input_note(planned: Plan) -> Plan:
    """Note when what a .h5 file says of the model does not suffice to build it.

    Keras 2.2 and 2.3 lose the InputLayer that a user added to a Sequential model; only the wrapper still has its shape.
    """
    model = planned.architecture if planned.model_config is not None else None
    if model is None or not model.sequential or input_of(model) is not None:
        return planned
    return replace(planned, notes=(*planned.notes, _NO_INPUT))


def _request(options: Options) -> _Request:
    """Read the reference model, and put together what the caller wants."""
    like = None if options.like is None else read_reference(options.like)
    request = Request(
        plain=options.plain,
        submodel=options.submodel,
        weights_only=options.weights_only,
        order="saved" if options.keep_flags else "reference",
    )
    if like is None or isinstance(like, Reference):
        return replace(request, like=like)
    # Most reference models are files that tell the order of layers.
    from remap.assignment.class_order import ClassOrder, ClassRequest

    if isinstance(like, ClassOrder):
        return ClassRequest(told=like, request=request)
    from remap.stock.choice import StockRequest

    return StockRequest(stock=like, request=request)


def _format(target: str | os.PathLike[str], options: Options) -> Format:
    """Choose the format by the name of the output; refuse a directory, and the reference model."""
    name = os.fsdecode(target)
    url = remote(name)
    if name.endswith(("/", os.sep)) or (url is None and Path(name).is_dir()):
        raise OutputRefused(
            "the output is a directory",
            where=masked(name),
            hint=f"give the name of a file in it that ends in {EXTENSIONS}",
        )
    form = format_of(PurePath(name).name if url is None else base_name(url))
    if options.like is not None and _is_same_file(name, options.like):
        raise UsageRefused(
            "the output is the reference model",
            where=masked(name),
            hint="give another name: the reference model is never written to",
        )
    return form


def _is_same_file(one: str, other: str) -> bool:
    if remote(one) is not None or remote(other) is not None:
        return remote(one) == remote(other)
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):  # one of them does not exist: its reader or writer reports it
        return False
