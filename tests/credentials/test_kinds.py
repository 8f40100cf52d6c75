"""What each kind promises beyond the contract: its settings, its files, its caches."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime
from math import inf, nan
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from osmo_credentials import open_authenticator
from osmo_credentials.jwt import FETCH_INTERVAL, FETCH_PAUSE, KeysOfUrl
from osmo_credentials.kubernetes import MAX_ADDRESS_REVIEWS, AccountAuthenticator, Review
from osmo_credentials.settings import Pattern, read_settings
from osmo_credentials.tokens import NamedToken, TokenFile, hash_of, new_token, read_tokens
from osmo_simulator.api_server import RealCluster
from osmo_transport import (
    CredentialRefusedError,
    CredentialUncheckedError,
    MissingExtraError,
    Presented,
    UsageError,
)
from tests.credentials.issuers import AUDIENCE, ISSUER, Authority, JwtIssuer, Reviewer
from tests.transport.certificates import authority, encrypted


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("tokn", "no kind of credentials is called 'tokn': there are "),
        ("token", "auth 'token' needs file, as in token?file="),
        ("token?file=", "auth 'token' needs file"),
        ("token?fiel=x", "auth 'token' knows no 'fiel': it knows file"),
        ("token?file=x&file=y", "auth 'token' says file twice"),
        ("token?file", "must look like NAME=VALUE"),
        ("token?file=a%00", "auth 'token': file holds %00"),
        ("jwt?issuer=a&audience=b&keys=a%00", "auth 'jwt': keys holds %00"),
        ("token?file=/no/such/file", "tokens add NAME BACKEND --auth-file /no/such/file makes it"),
        ("mtls?source=mail", "Invalid enum value 'mail' - at `$.source`"),
        ("mtls?from=uri", "auth 'mtls' knows no 'from': it knows source, pattern"),
        ("mtls?pattern=all", "the pattern 'all' must hold {backend} once"),
        ("mtls?pattern={backend}{backend}", "must hold {backend} once"),
        ("jwt?issuer=a&audience=b&keys=http://c", "https:// alone"),
        (
            "jwt?issuer=a&audience=b&keys=/no/such/file",
            "the file of keys /no/such/file cannot be used",
        ),
        ("jwt?issuer=a&audience=b&keys=https://c&algorithms=HS256", "no algorithm 'HS256'"),
        ("jwt?issuer=a&audience=b&keys=https://c&algorithms=none", "no algorithm 'none'"),
        ("jwt?issuer=a&audience=b&keys=https://c&leeway=long", "auth 'jwt'"),
        ("kubernetes?audience=a&pattern={backend}&kubeconfig=/no/such", "cannot reach an API"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named(entry: str, text: str) -> None:
    """With what it may be."""
    with pytest.raises(UsageError) as caught:
        open_authenticator((entry,))
    assert text in str(caught.value)


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    import sys

    monkeypatch.setitem(sys.modules, "jwt", None)
    monkeypatch.delitem(sys.modules, "osmo_credentials.jwt")
    with pytest.raises(MissingExtraError, match=r"pip install 'osmo-pipeline\[auth\]'"):
        open_authenticator(("jwt?issuer=a&audience=b&keys=https://c",))


@given(st.text(max_size=20), st.text(max_size=10), st.text(max_size=10))
def test_a_pattern_tells_names_and_nothing_else(name: str, before: str, after: str) -> None:
    """Whatever stands around them, and however it looks like a pattern itself."""
    if "{backend}" in before + after:
        return
    pattern = Pattern(f"{before}{{backend}}{after}", "x")
    found = pattern.backend(f"{before}{name}{after}")
    fits = bool(name) and all(c.isascii() and (c.isalnum() or c in "._-") for c in name)
    assert found == name if fits else found is None


def written(path: Path, *tokens: NamedToken) -> None:
    """In one step, as it is made for others to read."""
    part = path.with_suffix(".part")
    part.write_bytes(msgspec.json.encode(TokenFile(tokens)))
    part.replace(path)


def named(name: str, token: str) -> NamedToken:
    return NamedToken(name, hash_of(token), ("a",), datetime.now(UTC))


async def test_a_token_that_is_added_is_known_and_one_that_is_revoked_is_not(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the next look, and the generation tells."""
    path, one, two = tmp_path / "tokens.json", new_token(), new_token()
    written(path, named("one", one))
    asked = open_authenticator((f"token?file={path}",))
    assert await asked.identify(Presented(one))
    before = asked.generation
    written(path, named("two", two))
    assert asked.generation != before
    assert await asked.identify(Presented(two))
    for token, why in (
        (one, "^token one was revoked$"),
        (new_token(), "^this server does not know the token: it was revoked before its start, or"),
        (two[:-1], "^the token is malformed"),
        (f"{two}x", "^the token is malformed"),
    ):
        with pytest.raises(CredentialRefusedError, match=why):
            await asked.identify(Presented(token))
    written(path, named("one", one))
    assert await asked.identify(Presented(one))


async def test_so_many_revoked_tokens_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The latest."""
    monkeypatch.setattr("osmo_credentials.tokens.MAX_REVOKED", 2)
    path, tokens = tmp_path / "tokens.json", [new_token() for _ in range(3)]
    written(path, *(named(f"t{at}", token) for at, token in enumerate(tokens)))
    asked = open_authenticator((f"token?file={path}",))
    for left in range(1, 4):
        written(path, *(named(f"t{at}", tokens[at]) for at in range(left, 3)))
        assert asked.generation is not None
    for token, why in zip(
        tokens, ("does not know", "t1 was revoked", "t2 was revoked"), strict=True
    ):
        with pytest.raises(CredentialRefusedError, match=why):
            await asked.identify(Presented(token))


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b'{"tokens": [{}]}', b"[" * 100_000, b"\xff" * 10],
    ids=["absent", "empty", "cut", "wrong", "deep", "binary"],
)
async def test_a_broken_new_file_changes_nothing(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told once, and when it is mended that is seen."""
    path, one = tmp_path / "tokens.json", new_token()
    written(path, named("one", one))
    asked = open_authenticator((f"token?file={path}",))
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    for _ in range(3):
        assert await asked.identify(Presented(one))
    assert caplog.text.count("what it was before stays") == 1
    two = new_token()
    written(path, named("two", two))
    assert await asked.identify(Presented(two))


def test_two_tokens_of_one_name_are_a_mistake() -> None:
    """Whoever revokes one means which?"""
    data = msgspec.json.encode(TokenFile((named("x", "a"), named("x", "b"))))
    with pytest.raises(ValueError, match="two tokens called x"):
        read_tokens(data)


class Site:
    """Publishes keys, and counts who fetches them."""

    def __init__(self, content: bytes) -> None:
        self.content: bytes | Exception = content
        self.fetched = 0
        self.now = 0.0

    def __call__(self, _: str) -> bytes:
        self.fetched += 1
        if isinstance(self.content, Exception):
            raise self.content
        return self.content

    def keys(self) -> KeysOfUrl:
        return KeysOfUrl("https://keys.example", self, lambda: self.now)


async def test_keys_are_fetched_when_their_time_is_over(tmp_path: Path) -> None:
    """And not for each token."""
    issuer = JwtIssuer(tmp_path)
    site = Site(issuer.file.read_bytes())
    keys = site.keys()
    for _ in range(5):
        assert await keys.find("one")
    assert site.fetched == 1
    site.now += FETCH_INTERVAL
    assert await keys.find("one")
    assert site.fetched == 2


async def test_a_new_key_is_found_and_a_withdrawn_one_is_not(tmp_path: Path) -> None:
    """Keys rotate; the generation tells, so that those who are connected are looked at again."""
    issuer, other = JwtIssuer(tmp_path), JwtIssuer(tmp_path, "two")
    site = Site(issuer.file.read_bytes())
    keys = site.keys()
    assert await keys.find("one")
    before = keys.generation
    site.content = other.file.read_bytes()
    site.now += FETCH_PAUSE
    assert await keys.find("two")
    assert await keys.find("one") is None
    assert keys.generation != before


async def test_a_key_that_took_the_place_of_another_is_noticed(tmp_path: Path) -> None:
    """Who is connected by the one before is looked at again, although its id is the same."""
    issuer, other = JwtIssuer(tmp_path, "one"), JwtIssuer(tmp_path, "two")
    site = Site(issuer.file.read_bytes())
    keys = site.keys()
    assert await keys.find("one")
    before = keys.generation
    site.now += FETCH_INTERVAL
    assert await keys.find("one")
    assert keys.generation == before
    site.content = other.file.read_bytes().replace(b'"two"', b'"one"')
    site.now += FETCH_INTERVAL
    assert await keys.find("one")
    assert keys.generation != before


@pytest.mark.parametrize("times", [{"exp": nan}, {"exp": inf}, {"nbf": nan}, {"exp": 10**400}])
async def test_a_time_that_is_none_is_refused(times: dict[str, Any], tmp_path: Path) -> None:
    """Compared with any clock, a token with such an end would never be over."""
    issuer = JwtIssuer(tmp_path)
    asked = open_authenticator((f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={issuer.file}",))
    with pytest.raises(CredentialRefusedError, match="not good"):
        await asked.identify(Presented(issuer.token(**times)))


async def test_whoever_presents_unknown_keys_makes_no_more_fetches(tmp_path: Path) -> None:
    """Than one in each pause."""
    site = Site(JwtIssuer(tmp_path).file.read_bytes())
    keys = site.keys()
    answers: Counter[str] = Counter()
    for number in range(1000):
        site.now += 0.05
        try:
            answers[str(await keys.find(f"unknown-{number}"))] += 1
        except CredentialUncheckedError:
            answers["come again"] += 1
    assert site.fetched == 1 + int(1000 * 0.05 / FETCH_PAUSE)
    assert answers == {"None": site.fetched, "come again": 1000 - site.fetched}


async def test_a_new_key_is_not_refused_before_its_issuer_was_asked(tmp_path: Path) -> None:
    """A refusal would end the listener for good, only because keys were fetched a moment before
    they were rotated."""
    issuer, other = JwtIssuer(tmp_path), JwtIssuer(tmp_path, "two")
    site = Site(issuer.file.read_bytes())
    keys = site.keys()
    assert await keys.find("one")
    site.content = other.file.read_bytes()
    with pytest.raises(CredentialUncheckedError, match="not known yet"):
        await keys.find("two")
    site.now += FETCH_PAUSE
    assert await keys.find("two")


async def test_a_key_that_cannot_be_looked_for_is_not_refused(tmp_path: Path) -> None:
    """Its issuer does not answer, and may have made it."""
    site = Site(JwtIssuer(tmp_path).file.read_bytes())
    keys = site.keys()
    assert await keys.find("one")
    site.content, site.now = OSError("refused"), FETCH_PAUSE
    with pytest.raises(CredentialUncheckedError, match="not known yet"):
        await keys.find("two")


@pytest.mark.parametrize(
    "content", [OSError("refused"), b"", b"{}", b'{"keys": []}', b"[[", b'{"keys": 7}']
)
async def test_keys_that_cannot_be_had(content: Any, tmp_path: Path) -> None:
    """At first nobody can be let in, and comes back later; afterwards the last ones are used."""
    good = JwtIssuer(tmp_path).file.read_bytes()
    site = Site(b"")
    site.content = content
    keys = site.keys()
    with pytest.raises(CredentialUncheckedError, match=r"no keys from https://keys\.example"):
        await keys.find("one")
    site.content, site.now = good, FETCH_PAUSE
    assert await keys.find("one")
    site.content, site.now = content, FETCH_PAUSE + FETCH_INTERVAL
    assert await keys.find("one")


async def test_an_issuer_that_drips_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and all of them would take a day."""
    monkeypatch.setattr("osmo_credentials.jwt.FETCH_TIMEOUT", 0.05)
    left = asyncio.Event()

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0)
        except ConnectionError:
            left.set()
        finally:
            writer.close()

    async with await asyncio.start_server(drip, "127.0.0.1", 0) as site:
        port = site.sockets[0].getsockname()[1]
        keys = KeysOfUrl(f"http://127.0.0.1:{port}")
        with pytest.raises(CredentialUncheckedError, match="not complete after"):
            await keys.find("one")
        await left.wait()


async def test_a_secret_among_keys_is_not_taken(tmp_path: Path) -> None:
    """It would let whoever checks a token make one."""
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "one"}]}))
    with pytest.raises(UsageError, match="no public key"):
        open_authenticator((f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={path}",))


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "none"},
        {"kty": "EC", "alg": "none"},
        {"kty": "PQ"},
        {"kid": 7},
        {"kid": ["one"]},
        [],
        None,
    ],
    ids=str,
)
async def test_an_entry_that_is_no_key_is_left_out(odd: Any, tmp_path: Path) -> None:
    """An issuer may publish what nobody knows yet; the others are good."""
    issuer = JwtIssuer(tmp_path)
    document = json.loads(issuer.file.read_text())
    good = document["keys"][0]
    document["keys"].insert(0, {**good, **odd} if isinstance(odd, dict) else odd)
    issuer.file.write_text(json.dumps(document))
    entry = f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={issuer.file}"
    assert await open_authenticator((entry,)).identify(Presented(issuer.token()))


async def test_of_keys_the_public_part_alone_is_read(tmp_path: Path) -> None:
    """To look for the factors of an RSA key by a private part takes minutes, where that is long."""
    issuer = JwtIssuer(tmp_path)
    document = json.loads(issuer.file.read_text())
    document["keys"][0]["d"] = "w" * 400
    issuer.file.write_text(json.dumps(document))
    entry = f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={issuer.file}"
    assert await open_authenticator((entry,)).identify(Presented(issuer.token()))


async def test_a_claim_may_be_a_list_of_backends(tmp_path: Path) -> None:
    """By a pattern; what does not fit it is left out."""
    issuer = JwtIssuer(tmp_path)
    entry = (
        f"jwt?issuer={ISSUER}&audience={AUDIENCE}&keys={issuer.file}"
        "&claim=groups&pattern=listener:{backend}"
    )
    token = issuer.token("me", groups=["listener:a", "other:b", 7, "listener:c"])
    identity = await open_authenticator((entry,)).identify(Presented(token))
    assert identity is not None
    assert (identity.name, identity.backends) == ("jwt me", ("a", "c"))


@pytest.mark.parametrize(
    ("entry", "backend"),
    [
        ("mtls", "name"),
        ("mtls?source=cn", "name"),
        ("mtls?source=dns&pattern={backend}.example", "host"),
        ("mtls?source=uri&pattern=spiffe://prod/{backend}", "spiffe"),
    ],
)
async def test_the_settings_say_which_name_of_a_certificate_tells_the_backend(
    entry: str, backend: str, tmp_path: Path
) -> None:
    """And no other."""
    names = x509.DNSName("host.example"), x509.UniformResourceIdentifier("spiffe://prod/spiffe")
    pem, _ = Authority(tmp_path, "ca").signed("name", *names)
    der = x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)
    identity = await open_authenticator((entry,)).identify(Presented("", der))
    assert identity is not None
    assert identity.backends == (backend,)


async def test_a_certificate_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """Whatever the library calls it: of no version that there is, with one extension twice, cut."""
    pem, _ = Authority(tmp_path, "ca").signed("a", x509.DNSName("a"), x509.DNSName("b"))
    der = x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)
    version, alternative, key_id = b"\xa0\x03\x02\x01", b"\x06\x03U\x1d\x11", b"\x06\x03U\x1d#"
    asked = open_authenticator(("mtls?source=dns",))
    for broken in (
        der.replace(version + b"\x02", version + b"\x42"),
        der.replace(key_id, alternative),
        der[:-1],
    ):
        assert broken != der
        with pytest.raises(CredentialRefusedError, match="cannot be read"):
            await asked.identify(Presented("", broken))


def test_a_setting_may_be_called_what_no_field_can() -> None:
    """A word of Python, for example, by which the field is renamed."""

    class Settings(msgspec.Struct, rename={"source": "from"}):
        source: str

    assert read_settings("x", {"from": "here"}, Settings) == Settings("here")
    for wrong, text in (({}, "needs from"), ({"source": "here"}, "no 'source': it knows from")):
        with pytest.raises(UsageError, match=text):
            read_settings("x", wrong, Settings)


async def test_an_api_server_is_asked_once_in_a_while() -> None:
    """For each token, however many ask, and about one that is refused too."""
    now = [0.0]
    reviewer = Reviewer({"a.b.c": Review("listener-a", (AUDIENCE,))})
    asked = AccountAuthenticator(
        reviewer, AUDIENCE, "listener-{backend}", cache=10.0, now=lambda: now[0]
    )
    for _ in range(5):
        assert await asked.identify(Presented("a.b.c"))
        with pytest.raises(CredentialRefusedError):
            await asked.identify(Presented("d.e.f"))
    assert reviewer.asked == 2
    now[0] = 10.0
    del reviewer.accounts["a.b.c"]
    with pytest.raises(CredentialRefusedError):
        await asked.identify(Presented("a.b.c"))


async def test_who_makes_up_tokens_holds_up_himself() -> None:
    """The API server is asked about a few of one address at a time, about nobody's who has gone,
    and whoever is elsewhere is let in meanwhile."""
    slow, asked = Event(), []

    def ask(token: str, _: str) -> Review:
        asked.append(token)
        if token.startswith("made"):
            slow.wait(60)
        return Review("listener-a", (AUDIENCE,))

    async with AccountAuthenticator(ask, AUDIENCE, "listener-{backend}") as known:
        flood = [
            asyncio.create_task(known.identify(Presented(f"made.up.{n}", b"", f"10.0.0.1:{n}")))
            for n in range(100)
        ]
        try:
            await asyncio.sleep(0)
            assert await known.identify(Presented("good.to.ken", b"", "10.0.0.2:1"))
            for each in flood:
                each.cancel()
            await asyncio.gather(*flood, return_exceptions=True)
            assert await known.identify(Presented("good.to.ken", b"", "10.0.0.1:1"))
        finally:
            slow.set()
        assert len(asked) <= MAX_ADDRESS_REVIEWS + 1


async def test_an_api_server_that_is_away_decides_nothing() -> None:
    """And is asked again by the next one."""
    reviewer = Reviewer({"a.b.c": Review("listener-a", (AUDIENCE,))}, away=OSError("token a.b.c"))
    asked = AccountAuthenticator(reviewer, AUDIENCE, "listener-{backend}")
    with pytest.raises(CredentialUncheckedError) as caught:
        await asked.identify(Presented("a.b.c"))
    assert "a.b.c" not in str(caught.value)
    reviewer.away = None
    assert await asked.identify(Presented("a.b.c"))


def test_nobody_is_asked_for_the_passphrase_of_a_kubeconfig(tmp_path: Path) -> None:
    """An operator would wait for it for ever."""
    tls = authority(tmp_path).signed("client")
    assert tls.key_file is not None
    encrypted(tls.key_file)
    user = {"client-certificate": str(tls.cert_file), "client-key": str(tls.key_file)}
    cluster = {"server": "https://127.0.0.1:1"}
    kubeconfig = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "c", "user": user}],
    }
    (file := tmp_path / "config").write_text(json.dumps(kubeconfig))
    with pytest.raises(UsageError, match="key in the kubeconfig's client-key is encrypted"):
        open_authenticator((f"kubernetes?audience=a&pattern={{backend}}&kubeconfig={file}",))


@pytest.mark.cluster
async def test_a_real_api_server_is_asked(real_cluster: RealCluster, tmp_path: Path) -> None:
    """About a token that it made for an account, for an audience, bound to a time."""
    config = tmp_path / "config"
    config.write_text(real_cluster.kubeconfig())
    accounts = "/api/v1/namespaces/osmo/serviceaccounts"
    for name in ("cluster-a", "cluster-b"):
        real_cluster.request("POST", accounts, {"metadata": {"name": name}})

    def token(name: str, audience: str) -> str:
        spec = {"audiences": [audience], "expirationSeconds": 600}
        made = real_cluster.request("POST", f"{accounts}/{name}/token", {"spec": spec})
        return str(made["status"]["token"])

    entry = (
        f"kubernetes?audience={AUDIENCE}&kubeconfig={config}&cache=1"
        "&pattern=system:serviceaccount:osmo:{backend}"
    )
    asked = open_authenticator((entry,))
    good = token("cluster-a", AUDIENCE)
    identity = await asked.identify(Presented(good))
    assert identity is not None
    assert identity.backends == ("cluster-a",)
    assert identity.expires < 4_000_000_000
    for wrong in (token("cluster-a", "other"), f"{good[:-20]}{'A' * 20}", "a.b.c"):
        with pytest.raises(CredentialRefusedError):
            await asked.identify(Presented(wrong))
    # Revoked with its account.
    real_cluster.request("DELETE", f"{accounts}/cluster-b")
    bound = token("cluster-a", AUDIENCE)
    real_cluster.request("DELETE", f"{accounts}/cluster-a")
    with pytest.raises(CredentialRefusedError):
        await asked.identify(Presented(bound))


def test_no_token_is_in_its_file(tmp_path: Path) -> None:
    """Nor could it be found out from there."""
    token = new_token()
    written(tmp_path / "tokens.json", named("one", token))
    assert token not in (tmp_path / "tokens.json").read_text()
    assert len(token) > 40
    assert token.startswith("osmo_")
