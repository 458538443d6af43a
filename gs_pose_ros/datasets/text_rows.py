"""Text files of rows of words that others wrote; every fault is named with its file and line."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.regular_files import read_regular

_MOST_BYTES = 2**28  # three million poses
_SHOWN = 60  # characters of a word in a message


@dataclass(frozen=True)
class TextRow:
    """The words of one line."""

    path: Path
    line: int  # from 1
    words: tuple[str, ...]

    def number(self, i: int) -> float:
        """The i-th word as a number, which may be NaN or infinite.

        Raises:
            GsPoseError: it is none.

        """
        try:
            return float(self.words[i].replace('_', '?'))  # which Python allows between digits
        except ValueError:
            raise self.fault(f'{self.words[i][:_SHOWN]!a} is no number') from None

    def numbers(self, count: int, meaning: str) -> tuple[float, ...] | None:
        """The words as so many numbers, with the given meaning; None if one is not finite.

        Raises:
            GsPoseError: there are fewer or more, or one is no number.

        """
        if len(self.words) != count:
            raise self.fault(
                f'has {len(self.words)} columns{self._layout()}, not {count}: {meaning}'
            )
        found = tuple(self.number(i) for i in range(count))
        return found if all(map(math.isfinite, found)) else None

    def fault(self, what: str) -> GsPoseError:
        """The error that says what is wrong with this row."""
        return GsPoseError(f'{self.path}: line {self.line}: {what}')

    def _layout(self) -> str:
        """Whose rows of poses look like this one."""
        if any(',' in word for word in self.words):
            return ' with commas (EuRoC and other csv have these, and stamps in ns)'
        return {12: ' (as KITTI: matrices without stamps)', 16: ' (as 4 x 4 matrices)'}.get(
            len(self.words), ''
        )


def read_rows(path: Path) -> list[TextRow]:
    """The lines of a text in UTF-8 that are neither empty nor comments, split at white space.

    Raises:
        GsPoseError: it is missing, no regular file, too large, or no such text.

    """
    content = read_regular(path, _MOST_BYTES)
    try:
        text = content.decode('utf-8-sig')
    except UnicodeDecodeError as error:
        raise GsPoseError(
            f'{path}: not readable: it is not text in UTF-8 ({error.reason})'
        ) from error
    # Not splitlines, which ends lines at form feeds too.
    lines = text.replace('\r\n', '\n').replace('\r', '\n').split('\n')
    rows = (TextRow(path, i, tuple(line.split())) for i, line in enumerate(lines, 1))
    return [row for row in rows if row.words and not row.words[0].startswith('#')]
