"""The one exception of this package."""


class GsPoseError(Exception):
    """An input or a stored file that cannot be used; the message names it and says why."""
