"""Which Keras wrote a file, as far as its `keras_version` tells."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Writer"]


@dataclass(frozen=True, slots=True)
class Writer:
    """A release of Keras by the version it writes into its files; None and odd text are taken for Keras itself.

    tf.keras writes ``2.1.6-tf`` up to TensorFlow 1.12, ``2.2.4-tf`` from 1.13 to 2.2, and from 2.3 on plain
    ``2.4.0``, which Keras itself never was before it became the same thing.
    """

    keras_version: str | None

    @property
    def tensorflow(self) -> bool:
        """Tell whether tf.keras wrote the file."""
        return "-tf" in (self.keras_version or "") or self._number >= (2, 4)

    @property
    def before_1_13(self) -> bool:
        """Tell whether tf.keras of a TensorFlow before 1.13 wrote it."""
        return self.tensorflow and self._number < (2, 2)

    @property
    def ambiguous(self) -> bool:
        """Tell whether it was any tf.keras from TensorFlow 1.13 to 2.2, which differ and do not say so."""
        return self.tensorflow and (2, 2) <= self._number < (2, 3)

    @property
    def _number(self) -> tuple[int, int]:
        found = re.match(r"(\d+)\.(\d+)", self.keras_version or "")
        return (int(found[1]), int(found[2])) if found else (0, 0)
