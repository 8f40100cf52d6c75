"""What an answer of the API server says: that the request was done, or why it was not."""

import contextlib
from collections.abc import Mapping

from osmo_listener.errors import KubernetesError, status_error
from osmo_listener.kubernetes.decoding import Status
from osmo_listener.kubernetes.http import Response

USER_AGENT = "osmo-listener"

JSON = "application/json"
PROTOBUF = "application/vnd.kubernetes.protobuf"
"""Media types; an API server answers in the one that was asked for, its errors too."""


async def check(response: Response, advice: Mapping[int, str]) -> None:
    """Wait for the response's head; raise what its status says, unless it is 200.

    `advice` is what to do about a status code; `{}` in it stands for the server's own text.

    Raises:
        StatusError: the server refused.
        SilentError, TruncatedError, MalformedError: as for `Response.head`.
    """
    code = await response.head()
    if code == 200:
        return
    body = b""
    with contextlib.suppress(KubernetesError):
        body = bytes(await response.read())
    status = _status(response, body)
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isdecimal() else status.details.retry_after_seconds
    message = advice.get(code, "{}").replace("{}", status.message or f"HTTP status {code}")
    raise status_error(code, message, reason=status.reason, retry_after=seconds)


def is_protobuf(response: Response) -> bool:
    """Whether its body is protobuf; the head is there."""
    return response.headers.get("content-type", "").startswith(PROTOBUF)


def _status(response: Response, body: bytes) -> Status:
    # Either has been imported already where answers are decoded by it.
    if not is_protobuf(response):
        from osmo_listener.kubernetes.json_decoding import json_status  # noqa: PLC0415

        return json_status(body)
    from osmo_listener.kubernetes.protobuf_decoding import protobuf_status  # noqa: PLC0415

    return protobuf_status(body)
