"""Why something in a file is refused, before it is known where in the file that was."""

from __future__ import annotations

__all__ = ["DAMAGED", "UNFINISHED", "Refused"]

DAMAGED = "the file is damaged or made to do harm: get it again from its origin"
UNFINISHED = "the program that saved the file did not finish: use an earlier checkpoint"


class Refused(Exception):
    """Carry a sentence without a full stop, and what to do, up to the gate, which adds the place."""

    def __init__(self, what: str, *, hint: str = DAMAGED) -> None:
        super().__init__(what)
        self.hint = hint
