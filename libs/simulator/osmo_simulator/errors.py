"""The API server's refusals, each with the HTTP status, reason and text that clients act on."""

from typing import Any


class StatusError(Exception):
    """A refusal that a client receives as a `Status` object.

    `code` is the HTTP status, `reason` the machine-readable word and `details` the object's
    `details` field.
    """

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def status(self) -> dict[str, Any]:
        """The `Status` object."""
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": self.details,
            "code": self.code,
        }


def bad_request(message: str) -> StatusError:
    """The request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def unauthorized() -> StatusError:
    """The bearer token is missing or wrong."""
    return StatusError(401, "Unauthorized", "Unauthorized")


def no_such_path() -> StatusError:
    """Nothing is served under this path."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def not_found(plural: str, name: str) -> StatusError:
    """The named object does not exist."""
    details = {"name": name, "kind": plural}
    return StatusError(404, "NotFound", f'{plural} "{name}" not found', details)


def method_not_allowed() -> StatusError:
    """The path exists and does not take this method."""
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message)


def already_exists(plural: str, name: str) -> StatusError:
    """An object of this name exists."""
    details = {"name": name, "kind": plural}
    return StatusError(409, "AlreadyExists", f'{plural} "{name}" already exists', details)


def conflict(plural: str, name: str, why: str) -> StatusError:
    """The object is not the one, or not the version, that the request names."""
    message = f'Operation cannot be fulfilled on {plural} "{name}": {why}'
    return StatusError(409, "Conflict", message, {"name": name, "kind": plural})


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def expired(message: str) -> StatusError:
    """The history that the request needs is gone: the client has to list again."""
    return StatusError(410, "Expired", message)


def too_large(limit: int) -> StatusError:
    """The request's body is over the limit."""
    message = f"Request entity too large: limit is {limit}"
    return StatusError(413, "RequestEntityTooLarge", message)


def unsupported_media_type(given: str, supported: tuple[str, ...]) -> StatusError:
    """The body's content type is not one of `supported`."""
    message = f"the body of the request was in an unknown format: {given!r}; accepted media types: "
    return StatusError(415, "UnsupportedMediaType", message + ", ".join(supported))


def invalid(kind: str, name: str, field: str, why: str) -> StatusError:
    """The request's `field` holds what it must not."""
    cause = {"reason": "FieldValueInvalid", "message": why, "field": field}
    details = {"name": name, "kind": kind, "causes": [cause]}
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {field}: {why}', details)


def throttled(retry_after: int) -> StatusError:
    """The server asks for fewer requests; the answer also carries the header `Retry-After`."""
    message = "the server has received too many requests and has asked us to try again later"
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def version_too_large(asked: int, current: int) -> StatusError:
    """The client has seen a version that this server has not reached."""
    details = {
        "causes": [
            {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"},
        ],
        "retryAfterSeconds": 1,
    }
    message = f"Timeout: Too large resource version: {asked}, current: {current}"
    return StatusError(504, "Timeout", message, details)
