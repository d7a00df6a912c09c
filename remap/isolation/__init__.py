"""Work on files from strangers in a process of its own, with limits on its time and its memory.

libhdf5 can loop for ever, crash or take all memory on damaged metadata, with the interpreter locked: nothing
inside the process can stop it. So the work is done in a child process that the system ends.

What is guaranteed where:

- Everywhere, a crash of the child is an error of the caller, and only values of this package are taken from it.
- Linux: the time limit counts processor time, the memory limit holds, and the child ends with its parent.
- macOS: the time limit counts processor time; the system does not enforce the memory limit.
- Windows: the time limit counts the time on the clock; there is no memory limit.
- Outside Linux, a child whose parent was killed ends at its next report of progress or at its time limit.
"""

from __future__ import annotations

from remap.isolation.child import ENVIRONMENT, EXHAUSTED, exhausted
from remap.isolation.parent import DEADLINE, MEMORY, Isolation, IsolationFailed, run

__all__ = [
    "DEADLINE",
    "ENVIRONMENT",
    "EXHAUSTED",
    "MEMORY",
    "Isolation",
    "IsolationFailed",
    "exhausted",
    "run",
]
