"""Who may report: what `auth` and `insecure` have to say about where the operator listens."""

import logging

from osmo_credentials import kinds_of
from osmo_operator.config import OperatorConfig
from osmo_transport import UsageError
from osmo_transport.naming import setting
from osmo_transport.registry import scheme_of
from osmo_transport.transports.abc import PLAIN
from osmo_transport.transports.urls import stays_here

logger = logging.getLogger(__name__)


def check_door(config: OperatorConfig) -> None:
    """Look whether only those can report who should; a WARNING tells where that is left open on
    purpose.

    Raises:
        UsageError: strangers could report, or nobody; the text says what to choose between.
    """
    kinds = kinds_of(config.auth)
    open_urls = [url for url in config.listen if not stays_here(url)]
    in_the_clear = [url for url in open_urls if scheme_of(url) in PLAIN]
    if "mtls" in kinds and config.server.tls.ca_file is None:
        raise UsageError(
            f"--auth mtls needs {setting('server.tls.ca_file')}: the authority that signs the"
            " listeners' certificates"
        )
    if "mtls" in kinds and not any(_is_secure(url) for url in config.listen):
        raise UsageError("--auth mtls needs a URL of --listen that is wss:// or grpcs://")
    if open_urls and not kinds:
        if not config.insecure:
            raise UsageError(
                f"whoever reaches {open_urls[0]} could report for every backend: say with --auth"
                " who may, or choose --insecure if something else keeps strangers away"
            )
        logger.warning("whoever reaches %s may report for every backend", ", ".join(open_urls))
    if in_the_clear and kinds and not config.insecure:
        raise UsageError(
            f"everybody on the way to {in_the_clear[0]} could read the listeners' tokens: use"
            " wss:// or grpcs://, or choose --insecure if something else encrypts the way"
        )


def _is_secure(url: str) -> bool:
    return scheme_of(url) not in PLAIN
