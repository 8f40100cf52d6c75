"""Bodies become payloads that fit, whatever the cluster holds."""

import logging

import msgspec

from osmo_reports.fitting import MAX_REPORT, encode_report

logger = logging.getLogger(__name__)


class Encoder:
    """Encodes the reports of one listener, and counts those of which something was cut."""

    def __init__(self) -> None:
        self.cut = 0
        """How often something was left out of a report, because it would be larger than
        `MAX_REPORT`; the log names the first one."""

    def encode(self, key: str, body: msgspec.Struct) -> bytes:
        """The payload of a body; `key` is what it is about."""
        payload, cut = encode_report(body)
        if cut:
            if not self.cut:
                logger.warning(
                    "what is reported of %.200s is cut to %d bytes; others that are cut are only"
                    " counted",
                    key,
                    MAX_REPORT,
                )
            self.cut += 1
        return payload
