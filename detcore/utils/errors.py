"""The bases of all errors that whoever called can put right."""


class UserError(ValueError):
    """Something given can't be used as it is; the text names it, and what was wanted.

    The command line ends with the text alone. Any other error is a bug, and keeps its trace.
    """


class UsageError(UserError):
    """Arguments that don't go together; the text is meant for whoever gave them."""


class DataError(UserError):
    """A file or a data set can't be read as asked; the text names the file and what was wanted."""


class WriteError(UserError, OSError):
    """The system can't write a file; the text names it and says what is left of it."""
