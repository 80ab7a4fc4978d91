"""Errors of the model package; each message says what was wanted, what came and what to do."""


class ModelError(Exception):
    """Base of all errors raised by this package."""


class BadRecord(ModelError):
    """An annotation cannot be turned into a training record."""


class BadCheckpoint(ModelError):
    """A weights file is missing, broken, or does not fit the engine."""


class BadVersion(ModelError):
    """The registry does not hold the version that was asked for, or its files are damaged."""


class NewerFormat(ModelError):
    """A file was written by a newer release, whose format this one does not know."""


class BadEngine(ModelError):
    """An engine or network name is unknown, or an engine's package is not installed."""


class BadImageFile(ModelError):
    """An image file cannot be read, or is too large."""


class NoOutline(ModelError):
    """Where somebody points to there is no object, as far as can be seen."""
