"""The way down to a group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Way"]


class Way:
    """The open groups on the way to the one last asked for: most paths share all but their last parts.

    `step` opens the group of a path in its parent. No more handles are kept than a path has parts.
    """

    def __init__(self, root: Any, step: Callable[[Any, tuple[bytes, ...]], Any]) -> None:
        self._step = step
        self._groups = [root]
        self._path: tuple[bytes, ...] = ()

    def to(self, path: tuple[bytes, ...]) -> Any:
        """Give the group under a path; raises what `step` raises."""
        groups = self._groups
        if path != self._path:
            common = 0
            for here, there in zip(self._path, path, strict=False):
                if here != there:
                    break
                common += 1
            del groups[common + 1 :]
            self._path = path[:common]
            for depth in range(common + 1, len(path) + 1):
                groups.append(self._step(groups[-1], path[:depth]))
                self._path = path[:depth]
        return groups[-1]
