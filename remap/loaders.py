"""Which of Keras's loaders take a file for a model: the answer of each, the reason, and what to do next.

`load_weights` and `load_model` choose a format by the name of the file: `load_weights` in keras/src/saving/saving_api.py of
Keras 3 and tf_keras. Keras up to 2.11 takes every file for HDF5 of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from remap.assignment.loading import Loading
from remap.assignment.messages import messages
from remap.errors import Remedy

__all__ = [
    "Answer",
    "FileFormat",
    "Loader",
    "LoaderVerdict",
    "OldFile",
    "Opening",
    "answer_of",
    "new_format",
    "old_format",
]

Answer = Literal["yes", "crossed", "no", "cannot tell"]
"""``crossed``: it takes the file, but gives layers the weights of other layers of the model."""
FileFormat = Literal[".h5", ".keras", ".weights.h5"]
Loader = Literal[
    "load_weights of Keras 2", "load_weights of tf_keras", "load_weights of Keras 3", "load_model of Keras 3"
]

_OLD_NAMES = (".h5", ".hdf5")
_WEIGHTS = ".weights.h5"
_ARCHIVE = ".keras"
_NO_CONFIG = "No model config found in the file: it has weights only"
# What Keras says of files in its new formats whose names end in .h5.
_MISNAMED: dict[FileFormat, str] = {
    ".keras": "Unable to open file (file signature not found)",
    ".weights.h5": "Layer count mismatch when loading weights from file, found 0 saved layers",
}
_BY_KERAS_3 = "open it in Keras 3, save it there with model.save('NAME.h5'), and check that file"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderVerdict:
    """What one loader makes of a file.

    Attributes:
        loader: The function, and whose it is.
        answer: Whether it takes the file for the model.
        reason: Why not, in Keras's own words where there are some; or what to know where it does; "" for nothing.
        hint: What to do about it that is not an argument of `extract`; "" for nothing.
        remedies: Arguments of `extract` that give a file which this loader takes.
    """

    loader: Loader
    answer: Answer
    reason: str = ""
    hint: str = ""
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What decides whether `load_model` of Keras 3 opens a file.

    Attributes:
        obstacle: Why it cannot; "" for no reason.
        unsure: Why that is not known; "" if it is.
        custom_objects: The names that it has to be given.
        since: The release from which on it surely can; "" for any.
        remedies: What to write for Keras 3 instead.
    """

    obstacle: str = ""
    unsure: str = ""
    custom_objects: tuple[str, ...] = ()
    since: str = ""
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OldFile:
    """A file in the format of Keras 2, and how it would load.

    Attributes:
        name: Its name.
        multi_gpu: Whether the model is in a multi-GPU wrapper.
        by_order: Loading in Keras 2 and tf_keras.
        in_keras3: Loading in Keras 3, which may have the layers in another order.
        changed: Classes of the model whose weights Keras 3 stores in another form.
        removed: Classes of the model that Keras 3 does not have.
        steeper: Whether the model uses the activation hard_sigmoid, which is steeper in Keras 3.
        opening: What `load_model` makes of it; None for a file without an architecture.
        remedies: The format that `extract` can write of it for Keras 3.
    """

    name: str
    multi_gpu: bool
    by_order: Loading
    in_keras3: Loading
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    steeper: bool
    opening: Opening | None
    remedies: tuple[Remedy, ...]


def answer_of(loading: Loading, *, order_is_right: bool = False) -> Answer:
    """Sum up how weights would load; `order_is_right` says that no layer gets those of another, whatever names say."""
    if not loading.loads:
        return "no"
    if loading.crossed and not order_is_right:
        return "crossed"
    return "cannot tell" if loading.undecided else "yes"


def old_format(file: OldFile, *, order_is_right: bool = False) -> tuple[LoaderVerdict, ...]:
    """Ask each loader for a file in the format of Keras 2."""
    said = (*messages(file.by_order, by_name=False), "", "")
    answer = answer_of(file.by_order, order_is_right=order_is_right)
    return (
        _content("load_weights of Keras 2", file, answer, said[0], file.by_order),
        _named_otherwise("load_weights of tf_keras", file.name)
        or _content("load_weights of tf_keras", file, answer, said[1], file.by_order),
        _in_keras3(file, order_is_right=order_is_right),
        _opened(file),
    )


def _content(loader: Loader, file: OldFile, answer: Answer, said: str, loading: Loading) -> LoaderVerdict:
    if answer == "crossed":
        name, other = loading.crossed[0]
        said = f"{name} would get the weights of {other}, and Keras does not notice"
    elif answer == "cannot tell":
        said = f"custom classes decide: {', '.join(loading.undecided)}"
    hint = "extract the single model first" if answer == "no" and file.multi_gpu else ""
    return LoaderVerdict(loader=loader, answer=answer, reason=said, hint=hint)


def _named_otherwise(loader: Loader, name: str) -> LoaderVerdict | None:
    """Refuse a file of the old format whose name means a new one."""
    if name.endswith(_WEIGHTS):
        what = "a name that ends in .weights.h5 is taken for Keras 3's own format, and this file is in that of Keras 2"
        return LoaderVerdict(
            loader=loader, answer="no", reason=what, hint="give it a name that ends in .h5 alone"
        )
    return None


def _in_keras3(file: OldFile, *, order_is_right: bool) -> LoaderVerdict:
    loader: Loader = "load_weights of Keras 3"
    named = _named_otherwise(loader, file.name)
    if named is not None:
        return named
    if not file.name.endswith(_OLD_NAMES):
        what = "Keras 3 takes names that end in .h5 or .hdf5 for this format"
        return LoaderVerdict(loader=loader, answer="no", reason=what, hint="give it a name that ends in .h5")
    answer = answer_of(file.in_keras3, order_is_right=order_is_right)
    said = (messages(file.in_keras3, by_name=False) or ("",))[-1]
    verdict = _content(loader, file, answer, said, file.in_keras3)
    if answer == "no" or not (file.changed or file.removed or file.steeper):
        return verdict
    if file.changed:
        what = f"Keras 3 stores the weights of such layers in another form: {', '.join(file.changed)}"
        return LoaderVerdict(loader=loader, answer="no", reason=what, remedies=file.remedies)
    if file.removed:
        what = (
            f"Keras 3 does not have these layers, and a class of your own decides: {', '.join(file.removed)}"
        )
        return LoaderVerdict(loader=loader, answer="cannot tell", reason=what)
    if answer == "yes":
        what = "hard_sigmoid is another function in Keras 3, so the model predicts other values"
        return LoaderVerdict(loader=loader, answer="yes", reason=what, remedies=file.remedies)
    return verdict


def _opened(file: OldFile) -> LoaderVerdict:
    loader: Loader = "load_model of Keras 3"
    if file.opening is None:
        return LoaderVerdict(
            loader=loader,
            answer="no",
            reason=_NO_CONFIG,
            hint="build the model in code and use load_weights",
            remedies=tuple(remedy for remedy in file.remedies if remedy.value == _ARCHIVE),
        )
    if not file.name.endswith(_OLD_NAMES):
        what = "File format not supported: the name must end in .h5 or .hdf5"
        return LoaderVerdict(loader=loader, answer="no", reason=what, hint="give it a name that ends in .h5")
    return _opening(file.opening)


def _opening(opening: Opening) -> LoaderVerdict:
    if opening.obstacle:
        return LoaderVerdict(
            loader="load_model of Keras 3",
            answer="no",
            reason=f"Keras 3 cannot open it, or opens another model, because of {opening.obstacle}",
            remedies=tuple(
                replace(remedy, when="") for remedy in opening.remedies if remedy.value == _ARCHIVE
            ),
        )
    if opening.unsure:
        return LoaderVerdict(loader="load_model of Keras 3", answer="cannot tell", reason=opening.unsure)
    given = ", ".join(f"{name!r}: ..." for name in opening.custom_objects)
    told = (
        f"in Keras {opening.since} and later" if opening.since else "",
        f"with custom_objects={{{given}}}" if given else "",
    )
    return LoaderVerdict(
        loader="load_model of Keras 3", answer="yes", reason=", ".join(text for text in told if text)
    )


def new_format(
    name: str,
    form: FileFormat,
    *,
    by_path: Loading,
    in_tf_keras: Loading | None,
    opening: Opening,
    order_is_right: bool = False,
) -> tuple[LoaderVerdict, ...]:
    """Ask each loader for a file in a format of Keras 3.

    Args:
        name: The name of the file.
        form: Its format.
        by_path: Loading in Keras 3.
        in_tf_keras: Loading in tf_keras; None where that is not known.
        opening: What `load_model` makes of an archive.
        order_is_right: As `answer_of` has it.
    """
    misnamed = "" if name.endswith(form) else f"{_MISNAMED[form]}: the name of such a file must end in {form}"
    rename = f"give it a name that ends in {form}" if misnamed else ""

    def taken(loader: Loader, loading: Loading | None) -> LoaderVerdict:
        if misnamed:
            return LoaderVerdict(loader=loader, answer="no", reason=misnamed, hint=rename)
        if loading is None:
            what = "a weights file of Keras 3 does not tell the layers of the model"
            return LoaderVerdict(loader=loader, answer="cannot tell", reason=what)
        answer = answer_of(loading, order_is_right=order_is_right)
        if answer == "cannot tell" and loading is in_tf_keras:
            what = f"where tf_keras stores the weights of these classes is not known: {', '.join(loading.undecided)}"
            return LoaderVerdict(loader=loader, answer=answer, reason=what)
        return LoaderVerdict(loader=loader, answer=answer, reason=_told(loading, answer))

    if form == _ARCHIVE:
        opened = LoaderVerdict(loader="load_model of Keras 3", answer="no", reason=misnamed, hint=rename)
        opened = opened if misnamed else _opening(opening)
        old = "Unable to open file (file signature not found): it is a zip archive, not HDF5"
    else:
        opened = LoaderVerdict(
            loader="load_model of Keras 3",
            answer="no",
            reason=_NO_CONFIG,
            hint="build the model in code and use load_weights",
        )
        old = "You are trying to load a weight file containing 0 layers: it is in Keras 3's own format"
    return (
        LoaderVerdict(loader="load_weights of Keras 2", answer="no", reason=old, hint=_BY_KERAS_3),
        taken("load_weights of tf_keras", in_tf_keras),
        taken("load_weights of Keras 3", by_path),
        opened,
    )


def _told(loading: Loading, answer: Answer) -> str:
    if answer == "no":
        failed = [step.complaint for step in loading.steps if step.complaint]
        return f"A total of {len(failed)} objects could not be loaded: {failed[0]}"
    if answer == "crossed":
        name, other = loading.crossed[0]
        return f"{name} would get the weights of {other}, and Keras does not notice"
    if answer == "cannot tell":
        return f"custom classes decide: {', '.join(loading.undecided)}"
    ignored = sum(1 for step in loading.steps if step.expected is None)
    return f"{ignored} objects of the file are ignored: the model does not have them" if ignored else ""
