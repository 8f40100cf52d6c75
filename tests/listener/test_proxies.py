"""Which proxy leads to a server."""

import pytest

from osmo_listener.errors import KubeconfigError
from osmo_listener.kubernetes.proxies import environment_proxy, parse_proxy

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown", "authorization"),
    [
        ("http://p", "http://p:80", None),
        ("https://p/", "https://p:443", None),
        ("SOCKS5://p", "socks5://p:1080", None),
        ("socks5h://p", "socks5://p:1080", None),
        ("http://[fd00::1]:3128", "http://[fd00::1]:3128", None),
        (f"http://u:{SECRET}@p:3128", "http://p:3128", "Basic dTpzM2NyM3Q="),
        ("http://u%40h:a%3Ab@p", "http://p:80", "Basic dUBoOmE6Yg=="),
    ],
)
def test_urls(url: str, shown: str, authorization: str | None) -> None:
    """With usual ports, and with what may not be shown kept apart."""
    proxy = parse_proxy(url, "proxy-url")
    assert (str(proxy), proxy.authorization) == (shown, authorization)
    assert SECRET not in repr(proxy)


@pytest.mark.parametrize(
    "url",
    [
        "p:3128",
        "http://",
        f"ftp://u:{SECRET}@p",
        f"http://u:{SECRET}@p:x",
        "http://[",
        "http://a..b",
        "",
    ],
)
def test_urls_of_no_proxy(url: str) -> None:
    """The setting is named, and nothing of the URL is shown."""
    with pytest.raises(KubeconfigError, match="proxy-url names no proxy that can be used") as error:
        parse_proxy(url, "proxy-url")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("entries", "host", "excepted"),
    [
        ("", "api.test", False),
        ("", "localhost", True),
        ("", "127.9.9.9", True),
        ("", "::1", True),
        ("*", "api.test", True),
        ("*", "10.0.0.1", True),
        ("*.test", "api.test", True),
        ("*.test", "test", False),
        ("test", "test", True),
        ("test", "api.test", True),
        ("TEST , other", "API.Test", True),
        (".test", "api.test", True),
        (".test", "test", False),
        ("est", "api.test", False),
        ("api.test:6443", "api.test", True),
        ("api.test:443", "api.test", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "api.test", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("10.1.2.3:6443", "10.1.2.3", True),
        ("10.1.2.3:443", "10.1.2.3", False),
        ("fd00::/8", "fd00::1", True),
        ("fd00::1", "fd00::1", True),
        ("[fd00::1]:6443", "fd00::1", True),
        ("2.3", "10.1.2.3", False),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("::ffff:10.1.2.3", "10.1.2.3", True),
        (",, ,:443", "api.test", False),
        ("10.0.0.0/99,10.0.0.0/x", "10.0.0.1", False),
    ],
)
def test_exceptions(entries: str, host: str, excepted: bool) -> None:
    """What NO_PROXY means to Go."""
    environ = {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": entries}
    assert (environment_proxy(environ, host, 6443, secure=True) is None) == excepted


def test_the_environment() -> None:
    """Each scheme of a server has its variable, which goes before the one in lower case."""
    environ = {"HTTPS_PROXY": "p:1", "https_proxy": "http://q:2", "http_proxy": "https://r"}
    for secure, shown in ((True, "http://p:1"), (False, "https://r:443")):
        assert str(environment_proxy(environ, "api.test", 1, secure=secure)) == shown
    assert environment_proxy({}, "api.test", 1, secure=True) is None
    with pytest.raises(KubeconfigError, match="HTTPS_PROXY names no proxy"):
        environment_proxy({"HTTPS_PROXY": "ftp://p"}, "api.test", 1, secure=True)
