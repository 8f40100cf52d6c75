"""Secrets stay out of texts and values."""

import pytest

from osmo_runtime.masking import mask, mask_text


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:hunter2@host:6379/0", "redis://:****@host:6379/0"),
        ("see postgresql://me:hunter2@host/db now", "see postgresql://me:****@host/db now"),
        ("rediss://u:hun@ter/2@host", "rediss://u:****@host"),
        ("ws://a:x1@h and ws://b:x2@h", "ws://a:****@h and ws://b:****@h"),
        ("ws://127.0.0.1:8001,redis://:p@h", "ws://127.0.0.1:****@h"),
        (
            "postgresql://h/db?user=u&password=hunter2&x=1",
            "postgresql://h/db?user=u&password=****&x=1",
        ),
        ("https://h/?access_token=abc", "https://h/?access_token=****"),
        ("Authorization: Bearer eyJhbGciOi.x-y_z==", "Authorization: Bearer ****"),
        ("the bearer of news", "the bearer of news"),
        ("ws://127.0.0.1:8001/path?a=b", "ws://127.0.0.1:8001/path?a=b"),
        ("redis://user@host", "redis://user@host"),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_text(text: str, masked: str) -> None:
    """Passwords of URLs, secrets in queries and bearer tokens are hidden, and nothing else."""
    assert mask_text(text) == masked


@pytest.mark.parametrize(
    ("name", "value", "masked"),
    [
        ("password", "hunter2", "****"),
        ("login_token", "abc", "****"),
        ("Authorization", ["abc"], "****"),
        ("API_KEY", {"a": "b"}, "****"),
        ("token_file", "/run/token", "/run/token"),
        ("max_tokens", 5, 5),
        ("password", "", ""),
        ("password", None, None),
        ("password", True, True),
        ("queue", ["redis://:p@h"], ["redis://:****@h"]),
        (
            "queue",
            {"deep": {"password": "x", "url": "a://:p@h"}},
            {"deep": {"password": "****", "url": "a://:****@h"}},
        ),
    ],
)
def test_value(name: str, value: object, masked: object) -> None:
    """A value is hidden by its name at any depth; what is empty shows that it is."""
    assert mask(value, name) == masked


def test_marked_secret() -> None:
    """A value that is marked as secret is hidden whatever its name."""
    assert mask("x", "login", secret=True) == "****"
