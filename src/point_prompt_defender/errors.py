"""The errors that users meet. Each message is one sentence that says what is wrong and what to do next."""


class PPDError(Exception):
    """Base of all errors raised on purpose; the command line prints the message and no traceback."""


class PromptError(PPDError, ValueError):
    """The points or labels can't be used as they are."""


class ImageError(PPDError, ValueError):
    """The image, or the mask that goes with it, can't be used."""


class SegmenterError(PPDError, RuntimeError):
    """A segmenter is unknown, or can't do what was asked of it."""


class WeightsError(PPDError, RuntimeError):
    """A model file is missing, damaged or can't be fetched."""


class ConfigError(PPDError, ValueError):
    """A setting is unknown or out of range."""
