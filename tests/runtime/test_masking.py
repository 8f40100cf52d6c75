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
        ("Authorization: Basic aHVudGVyMg==", "Authorization: Basic ****"),
        ("Proxy-Authorization:aHVudGVyMg==", "Proxy-Authorization:****"),
        ("redis//u:hunter2@host", "redis//u:****@host"),
        ("redis:/u:hunter2@host", "redis:****@host"),
        ("redis//:hunter2@host", "redis//:****@host"),
        ("'u:hun:t@er2@host' has no scheme", "'u:****@host' has no scheme"),
        ("with USER:PASSWORD@ before it", "with USER:PASSWORD@ before it"),
        ("vault read --token=hunter2 path", "vault read --token=**** path"),
        ("sh -c 'VAULT_TOKEN=hunter2'", "sh -c 'VAULT_TOKEN=****'"),
        ("host=h password=hunter2 user=u", "host=h password=**** user=u"),
        ("token?file=/run/t&token_file=/x", "token?file=/run/t&token_file=/x"),
        ("image nginx:1.2@sha256:abc", "image nginx:1.2@sha256:abc"),
        ('{"at":"12:30","by":"me@host"}', '{"at":"12:30","by":"me@host"}'),
        ("at 12:30 by me@host", "at 12:30 by me@host"),
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


@pytest.mark.parametrize(
    "part", ["://a:", "a-b.c_", "token", "@", "/a:", "bearer ", "authorization: ", "'@a", "@sha1:"]
)
def test_hostile_text(part: str) -> None:
    """No text takes longer than its length says: it would be minutes here."""
    assert mask_text(part * 50_000 + "@") != ""
