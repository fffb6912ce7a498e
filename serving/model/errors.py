"""The errors of a model, and the text of an error in one line."""


class ModelError(Exception):
    """A model that must not be served; the text is one line that gives the reason."""

    def __init__(self, text: str) -> None:
        # Names and versions of a damaged file have any character, which a terminal would obey.
        super().__init__("".join(char if char.isprintable() else repr(char)[1:-1] for char in text))


class InvalidInput(ValueError):
    """Rows that the model cannot score; the text gives the reason and, if known, the row."""


def one_line(error: BaseException) -> str:
    """Return the text of `error` in one line."""
    return " ".join(str(error).split())


def describe_error(error: BaseException) -> str:
    """Return the class of `error` and at most 200 characters of its text, in one line."""
    return f"{type(error).__name__}: {one_line(error)[:200]}"
