"""What listeners say in their own words: written to the worker's log, with its origin."""

import logging

from osmo_reports.bodies import Logging, LogType
from osmo_worker.store.values import shortened

logger = logging.getLogger(__name__)

KIND = "logging"

MAX_TEXT = 4096
"""Characters written of one message: a line that can still be read."""

NOTICE = "__BACKEND_OP__:"
"""Begins the text with which deployed operators tell that a backend was registered. It is no word
of a listener; that its backend was heard of is all there is to it."""

_LEVELS = {
    LogType.DEBUG: logging.DEBUG,
    LogType.INFO: logging.INFO,
    LogType.WARNING: logging.WARNING,
    LogType.EXCEPTION: logging.ERROR,
}


def write_log(backend: str, body: Logging) -> None:
    """Write it as one line, at the level of its type."""
    if body.text.startswith(NOTICE):
        return
    origin = f"{backend}, workflow {body.workflow_uuid}" if body.workflow_uuid else backend
    logger.log(_LEVELS[body.type], "%s: %s", _one_line(origin), _one_line(body.text))


def _one_line(text: str) -> str:
    text = shortened(text, MAX_TEXT)
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
