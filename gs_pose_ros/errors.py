"""The one exception of this package, and how its messages show what strangers wrote."""

from __future__ import annotations

_MOST_SHOWN = 100  # characters: a message is read by people, and travels in status messages


class GsPoseError(Exception):
    """An input or a stored file that cannot be used; the message names it and says why."""


def shown(value: object) -> str:
    """A value of a file or a message, for an error: short, in one line, printable."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else repr(value)
    except (ValueError, RecursionError):  # an integer of 5 000 digits, lists in lists
        text = f'a {type(value).__name__} that is too long to be shown'
    if len(text) > _MOST_SHOWN:
        text = f'{text[:_MOST_SHOWN]}... ({len(text)} characters)'
    return text
