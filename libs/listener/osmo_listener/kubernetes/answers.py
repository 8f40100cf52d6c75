"""What an answer of the API server says: that the request was done, or why it was not."""

import contextlib
from collections.abc import Mapping

from osmo_listener.errors import KubernetesError, status_error
from osmo_listener.kubernetes.decoding import decode_status
from osmo_listener.kubernetes.http import Response

USER_AGENT = "osmo-listener"


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
    status = decode_status(body)
    after = response.headers.get("retry-after", "")
    seconds = float(after) if after.isdecimal() else status.details.retry_after_seconds
    message = advice.get(code, "{}").format(status.message or f"HTTP status {code}")
    raise status_error(code, message, reason=status.reason, retry_after=seconds)
