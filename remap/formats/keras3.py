"""The layouts of Keras 3: `.weights.h5`, and `.keras`, a zip archive with such a file in it.

`H5IOStore` and `_save_model_to_fileobj` in keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from remap.errors import OutputRefused
from remap.formats.description import Attribute, FileDescription, Group

if TYPE_CHECKING:
    from remap.keras3.tensors import Translation, VariableGroup

__all__ = ["describe_archive", "describe_weights"]

_WEIGHTS = "model.weights.h5"
# Keras reads neither: the oldest release whose form this is, and the first day of the zip format.
_METADATA = {"keras_version": "3.5.0", "date_saved": "1980-01-01@00:00:00"}


def describe_weights(translation: Translation) -> FileDescription:
    """Describe the `.weights.h5` file of a translation; raises OutputRefused for names that cannot stand in one file."""
    return FileDescription(groups=_groups(translation))


def describe_archive(translation: Translation) -> FileDescription:
    """Describe the `.keras` archive of a translation.

    Raises the first of the translation's problems, and OutputRefused for names that cannot stand in one file.
    """
    for problem in translation.problems:
        raise problem
    return FileDescription(
        groups=_groups(translation),
        members=(
            ("metadata.json", json.dumps(_METADATA).encode()),
            ("config.json", json.dumps(translation.config).encode()),
        ),
        member=_WEIGHTS,
    )


def _groups(translation: Translation) -> tuple[Group, ...]:
    paths = {_path(variables) for variables in translation.groups}
    for path in sorted(paths):
        # Keras counts what is in a group of variables: nothing else may lie there.
        above = path.rpartition("/")[0]
        while above:
            if above in paths:
                raise OutputRefused(
                    "two objects in the output would have one name",
                    where=f"/{above}",
                    hint="give the layers of the model other names",
                )
            above = above.rpartition("/")[0]
    return tuple(
        Group(
            path=(_path(variables),),
            attributes=(Attribute(name="name", value=variables.name),),
            tensors=tuple((str(number), tensor) for number, tensor in enumerate(variables.variables)),
        )
        for variables in translation.groups
    )


def _path(variables: VariableGroup) -> str:
    return f"{variables.path}/vars".lstrip("/")
