"""The pipeline: read, recognise, assign, write, verify, publish."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePath

from remap.architecture import input_of
from remap.assignment.assign import Order
from remap.assignment.loading import file_layers, load_by_order, planned_layers
from remap.assignment.reference import Reference
from remap.checkpoint import Checkpoint
from remap.conversion_plan import Plan
from remap.errors import OutputRefused, UsageRefused
from remap.hdf5.output import publish
from remap.hdf5.reader import open_checkpoint
from remap.isolation import run
from remap.planning import compose
from remap.reference_file import read_reference
from remap.results import Report, report_of

__all__ = ["Settled", "extract", "extract_alike", "plan"]

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

    `like` is the reference model that the weights are to be loaded into: JSON of `model.to_json()`, a Keras .h5 or a
    .keras file, of any values. The weights of nested models are in the order that its `load_weights` expects, also
    where its trainable flags differ from the checkpoint's; with `keep_flags` they stay in the order in which the old
    Keras saved them, for a model with the same flags.
    `plain` says that nothing was frozen and no model is inside the model; `submodel` names one of several
    models in the file. `progress` is called with bytes done and bytes in all. With `isolated` the work is done in
    a child process with limits on time and memory (see SECURITY.md).

    Raises RemapError: UsageRefused for arguments that contradict each other or an output name Keras would
    misread, InputRefused for a file that is not a sound Keras .h5, Undecided where the file does not settle
    the answer, NothingToExtract for a single model, OutputRefused where the output cannot be written or is
    there already. The output appears whole and verified, or not at all.
    """
    if isolated:
        report: Report = run(
            "remap.extract",
            source,
            target,
            where=os.fsdecode(source),
            progress=progress,
            like=like,
            plain=plain,
            keep_flags=keep_flags,
            submodel=submodel,
            weights_only=weights_only,
            overwrite=overwrite,
        )
        return report
    return extract_alike(
        Settled(),
        source,
        target,
        like=like,
        plain=plain,
        keep_flags=keep_flags,
        submodel=submodel,
        weights_only=weights_only,
        overwrite=overwrite,
        progress=progress,
    )


class Settled:
    """What was settled for the file before: its plan, which serves as long as files have the same layout.

    The files of one run differ in the values of their tensors only. A plan is made of a `Checkpoint` and of nothing else
    of a file, so that an equal `Checkpoint` has the same plan.
    """

    def __init__(self) -> None:
        self._reference: tuple[object, Reference] | None = None
        self._plan: tuple[Checkpoint, Reference | None, tuple[object, ...], Plan] | None = None

    def reference(self, path: str | os.PathLike[str] | None, *, plain: bool) -> Reference | None:
        """Read a reference model, unless it is the same file as before, unchanged."""
        if path is None or plain:
            return _like(path, plain=plain)
        mark = _mark(path)
        if mark is None or self._reference is None or self._reference[0] != mark:
            found = _like(path, plain=plain)
            if found is None or mark is None:
                return found
            self._reference = mark, found
        return self._reference[1]

    def plan(
        self,
        checkpoint: Checkpoint,
        *,
        like: Reference | None,
        plain: bool,
        submodel: str | None,
        weights_only: bool,
        order: Order,
    ) -> Plan:
        """Settle what a .h5 holds as `_composed` does, unless all it follows from is as before."""
        choice = (plain, submodel, weights_only, order)
        if self._plan is not None:
            before, reference, settings, planned = self._plan
            if reference is like and settings == choice and before == checkpoint:
                return planned
        planned = _composed(
            checkpoint, like=like, plain=plain, submodel=submodel, weights_only=weights_only, order=order
        )
        self._plan = checkpoint, like, choice, planned
        return planned


def _mark(path: str | os.PathLike[str]) -> object:
    """Tell a file from other files and from itself with another content; None if it cannot be found."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):
        return None
    return (
        os.fspath(path),
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def extract_alike(
    settled: Settled,
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None,
    plain: bool,
    keep_flags: bool,
    submodel: str | None,
    weights_only: bool,
    overwrite: bool,
    progress: Callable[[int, int], None] | None,
) -> Report:
    """Do what `extract` does, one file of a run after another.

    Args:
        settled: What was settled for the file before; it is changed.
        source: The checkpoint.
        target: The output.
        like: As for `extract`, and so all others.
        plain: See there.
        keep_flags: See there.
        submodel: See there.
        weights_only: See there.
        overwrite: See there.
        progress: See there.

    Returns:
        What was written.

    Raises:
        RemapError: As `extract`.
    """
    form = _form(target)
    if like is not None and _is_same_file(target, like):
        raise UsageRefused(
            "the output is the reference model given by --like",
            where=os.fsdecode(target),
            hint="give another name: the reference model is never written to",
        )
    hint = settled.reference(like, plain=plain)
    if form != "h5":
        return _extract_for_today(
            source,
            target,
            form=form,
            like=hint,
            plain=plain,
            submodel=submodel,
            weights_only=weights_only,
            overwrite=overwrite,
            progress=progress,
        )
    with open_checkpoint(source) as opened:
        composed = settled.plan(
            opened.checkpoint,
            like=hint,
            plain=plain,
            submodel=submodel,
            weights_only=weights_only,
            order="saved" if keep_flags else "reference",
        )
        size = publish(
            composed,
            opened,
            target,
            overwrite=overwrite,
            progress=progress,
            check=lambda written: _require_loadable(written, composed),
        )
    return report_of(composed, source=os.fspath(source), target=os.fspath(target), size=size)


def plan(
    source: str | os.PathLike[str],
    *,
    like: str | os.PathLike[str] | None = None,
    plain: bool = False,
    keep_flags: bool = False,
    submodel: str | None = None,
    weights_only: bool = False,
    isolated: bool = False,
) -> Plan:
    """Settle what `extract` would write, and write nothing; raises what it would raise up to there."""
    if isolated:
        planned: Plan = run(
            "remap.plan",
            source,
            where=os.fsdecode(source),
            like=like,
            plain=plain,
            keep_flags=keep_flags,
            submodel=submodel,
            weights_only=weights_only,
        )
        return planned
    hint = _like(like, plain=plain)
    with open_checkpoint(source) as opened:
        return _composed(
            opened.checkpoint,
            like=hint,
            plain=plain,
            submodel=submodel,
            weights_only=weights_only,
            order="saved" if keep_flags else "reference",
        )


def _composed(
    checkpoint: Checkpoint,
    *,
    like: Reference | None,
    plain: bool,
    submodel: str | None,
    weights_only: bool,
    order: Order,
) -> Plan:
    """Settle what a .h5 holds, and note when what it says of the model does not suffice to build it.

    Keras 2.2 and 2.3 lose the InputLayer that a user added to a stack; only the wrapper still tells what the stack takes.
    """
    composed = compose(
        checkpoint, like=like, plain=plain, submodel=submodel, weights_only=weights_only, order=order
    )
    model = composed.architecture if composed.model_config is not None else None
    if model is None or not model.sequential or input_of(model) is not None:
        return composed
    return replace(composed, notes=(*composed.notes, _NO_INPUT))


def _like(path: str | os.PathLike[str] | None, *, plain: bool) -> Reference | None:
    if path is None:
        return None
    if plain:
        raise UsageRefused(
            "--plain and --like exclude each other: a like-file says what --plain asks to assume",
            hint="leave one of them out",
        )
    return read_reference(path)


def _require_loadable(written: Checkpoint, composed: Plan) -> None:
    """Replay how Keras would load what was written, before it gets its name."""
    loading = load_by_order(file_layers(written.layers), planned_layers(composed))
    if not loading.loads:
        raise OutputRefused(
            f"Keras would not load what was written: {loading.first_complaint}",
            hint="nothing was published; this is a bug in h5remap, please report it",
        )


def _extract_for_today(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    form: str,
    like: Reference | None,
    plain: bool,
    submodel: str | None,
    weights_only: bool,
    overwrite: bool,
    progress: Callable[[int, int], None] | None,
) -> Report:
    """Write a `.keras` archive or a `.weights.h5` file of Keras 3."""
    from remap.hdf5.store import write_keras, write_weights
    from remap.keras3.conversion import to_keras3

    with open_checkpoint(source) as opened:
        planned, translation = to_keras3(
            opened.checkpoint,
            like=like,
            plain=plain,
            submodel=submodel,
            weights_only=weights_only or form == ".weights.h5",
        )
        write = write_keras if form == ".keras" else write_weights
        size = write(translation, opened, target, overwrite=overwrite, progress=progress)
    report = report_of(planned, source=os.fspath(source), target=os.fspath(target), size=size)
    if form != ".keras":
        return report
    state = sum(len(group.recipes) for group in translation.groups if group.path == "optimizer")
    return replace(report, kind="full model", optimizer_tensors=state)


def _is_same_file(one: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    try:
        return Path(one).samefile(other)
    except (OSError, ValueError):  # one of them is not there, and will be told so
        return False


def _form(target: str | os.PathLike[str]) -> str:
    """Tell by the output's name what to write; refuse names that no Keras would open."""
    name = PurePath(os.fspath(target)).name
    for form in (".keras", ".weights.h5"):
        if name.endswith(form):
            return form
    if name.endswith((".h5", ".hdf5")):
        return "h5"
    raise UsageRefused(
        "the name tells the format, and this one tells none that Keras opens",
        where=name,
        hint=f"call it {PurePath(name).stem or 'single'}.h5 (old Keras and today's load_weights), .keras or "
        ".weights.h5 (Keras 3), in lower case",
    )
