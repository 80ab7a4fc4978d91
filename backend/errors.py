"""Errors of the backend; each message says what was wanted, what came and what to do."""


class BackendError(Exception):
    """Base of all errors raised by this package."""


class BadSetting(BackendError):
    """An environment variable, a setting of the project's file or an option does not fit."""


class NoDevice(BadSetting):
    """The GPU that a setting or an option asks for is not there, or cannot be used."""


class ProcessFailed(BackendError):
    """A child process did not start or died."""


class QueueUnavailable(BackendError):
    """Redis does not answer, or takes no data."""


class TooBusy(BackendError):
    """This backend is at as much as it can do at once; worth another try."""


class LabelStudioError(BackendError):
    """Label Studio refused a call."""


class LabelStudioBusy(LabelStudioError):
    """Label Studio, or another server that was asked, gave no answer or a 5xx; worth another try."""


class WrongToken(LabelStudioError):
    """Label Studio does not accept the API key, or its user may not do this."""


class TooLarge(LabelStudioError):
    """Label Studio, or a proxy before it, does not take so much in one call."""


class NotFound(LabelStudioError):
    """Label Studio, or this backend, does not know the thing asked for."""


class BadLabelConfig(BackendError):
    """The project's labelling config lacks an image or a control for shapes."""


class BadImage(BackendError):
    """A task's image is missing, broken, too large or in a place that is not allowed."""


class ImageUnavailable(BadImage):
    """The server of a task's image gave no answer or a 5xx, or broke off; worth another try."""


class NothingToLearn(BackendError):
    """Of all that is annotated nothing can be used now, such as when no image can be read; worth another try later."""


class Cancelled(BackendError):
    """Somebody cancelled the round."""


class DamagedTraining(BackendError):
    """What a round has trained cannot be read; it trains again."""


class TurnOver(BackendError):
    """A round has had its share of the worker, and another project's waits; it goes on after that."""


class LockLost(BackendError):
    """Another worker has taken over what this one worked on; it is theirs now."""


class BrokenPromise(BackendError):
    """The headless demo saw something that must not happen."""
