"""What is presented as a credential, and what those say of it who are asked."""

import io
import json
import re
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Coroutine
from functools import cache
from math import isnan
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from kubernetes import client
from urllib3 import HTTPResponse

from osmo_credentials.jwt import JwtAuthenticator, KeysOfFile, _keys_in, _Settings
from osmo_credentials.kubernetes import AccountAuthenticator, Review, asking
from osmo_credentials.mtls import CertificateAuthenticator, Source
from osmo_credentials.settings import HOLE
from osmo_credentials.tokens import TokenFile, lasts_until, read_tokens
from osmo_transport import CredentialRefusedError, CredentialUncheckedError, Identity, Presented
from tests.credentials.issuers import AUDIENCE, ISSUER
from tests.fuzz.draw import Draw, Typed
from tests.fuzz.family import Family
from tests.transport.fuzz.frames import AS_JSON

_NOW = 1_800_000_000.0
_REFUSED = (CredentialRefusedError, CredentialUncheckedError)

_BACKEND = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)

_folder = Path(tempfile.mkdtemp(prefix="osmo-fuzz-"))


def _told(asked: Coroutine[Any, Any, Identity | None]) -> None:
    """What an authenticator says, without waiting for anybody; only good names follow from it."""
    try:
        asked.send(None)
    except StopIteration as done:
        identity: Identity | None = done.value
    else:
        raise AssertionError("it waits for somebody")
    if identity is not None:
        assert identity.backends
        for backend in identity.backends:
            assert _BACKEND.fullmatch(backend)
        assert not isnan(identity.expires)


# JSON Web Tokens


class _Issuer(NamedTuple):
    """Keys, and a document of them."""

    keys: dict[str, Any]
    document: bytes
    asked: JwtAuthenticator


@cache
def _issuer() -> _Issuer:
    ecdsa, edwards = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
    public = [
        {**jwt.algorithms.ECAlgorithm.to_jwk(ecdsa.public_key(), as_dict=True), "kid": "ES256"},
        {**jwt.algorithms.OKPAlgorithm.to_jwk(edwards.public_key(), as_dict=True), "kid": "EdDSA"},
        {"kty": "RSA", "kid": "RS256", "n": "w" * 342, "e": "AQAB", "use": "sig"},
        {"kty": "oct", "kid": "HS256", "k": "c2VjcmV0"},
    ]
    (file := _folder / "jwks.json").write_text(json.dumps({"keys": public}))
    settings = _Settings(ISSUER, AUDIENCE, str(file), "groups", algorithms="RS256,ES256,EdDSA")
    asked = JwtAuthenticator(settings, KeysOfFile(file), lambda: _NOW)
    return _Issuer({"ES256": ecdsa, "EdDSA": edwards}, file.read_bytes(), asked)


def _make_jwt(draw: Draw) -> str:
    keys = _issuer().keys
    name = draw.choice(tuple(keys))
    head: Any = {"alg": name, "typ": "JWT", "kid": name}
    body: Any = {"sub": "me", "groups": ["a", "b"], "aud": AUDIENCE, "iss": ISSUER}
    body["exp"] = _NOW + draw.choice((600, 600, 0.5, -600))
    for part in (head, body):
        while draw.often(0.3):
            field = draw.choice((*part, "crit", "b64", "jwk", "jku", "x5c", "nbf", "iat", "zip"))
            part[field] = draw.choice((draw.anything(), str(draw.text()), [], {}, name))
    head, body = (draw.anything() if draw.often(0.02) else part for part in (head, body))
    parts = [AS_JSON.encode(head), AS_JSON.encode(body)]
    if draw.often(0.2):
        at = draw.randrange(2)
        parts[at] = draw.like([parts[at]])
    signing = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    signature = _signed(keys[name], name, signing) if draw.often(0.9) else draw.data()
    token = signing + b"." + urlsafe_b64encode(signature).rstrip(b"=")
    if draw.often(0.2):
        token = draw.like([token])
    return token.decode("latin-1")


def _signed(key: Any, algorithm: str, signing: bytes) -> bytes:
    signature: bytes = jwt.get_algorithm_by_name(algorithm).sign(signing, key)
    return signature


def _read_jwt(token: str) -> None:
    _told(_issuer().asked.identify(Presented(token)))


# Keys of issuers

_EDGES = ("", "A", "AQAB", "AA", "=", "w" * 342, "-_-_", "P-256", "P-521", "secp256k1", "Ed25519")


def _make_jwks(draw: Draw) -> bytes:
    document = json.loads(_issuer().document)
    if draw.often(0.7):
        for key in document["keys"]:
            while draw.often(0.3):
                field = draw.choice((*key, "alg", "use", "d", "p", "q", "oth", "x5c", "crv", "kty"))
                kinds = ("RSA", "EC", "OKP", "oct", "ES256", "RS256", "EdDSA", "none")
                key[field] = draw.choice((draw.anything(), *_EDGES, *kinds))
        if draw.often(0.1):
            document["keys"].insert(0, draw.anything())
        if draw.often(0.03):
            document["keys"] = draw.anything()
    data = AS_JSON.encode(document if draw.often(0.97) else draw.anything())
    return draw.like([data]) if draw.often(0.4) else data


def _read_jwks(data: bytes) -> None:
    for key_id, key in _keys_in(data).items():
        assert isinstance(key_id, str)
        assert key.key_type != "oct"


# Files of tokens

_TOKENS = Typed(TokenFile)
_TOKEN = {
    "name": "ci",
    "sha256": "0" * 64,
    "backends": ["a", "eu-*"],
    "created": "2026-01-02T03:04:05Z",
}


def _make_tokens(draw: Draw) -> bytes:
    if draw.often(0.2):
        return _TOKENS.json(draw)
    tokens = []
    for number in range(draw.randrange(4)):
        token: dict[str, Any] = {**_TOKEN, "name": f"ci-{number if draw.often(0.95) else 0}"}
        if draw.often(0.5):
            token["expires"] = draw.choice((None, str(draw.text()), "2027-01-02T03:04:05"))
        if draw.often(0.3):
            token[draw.choice(tuple(token))] = draw.anything()
        tokens.append(token)
    data = AS_JSON.encode({"tokens": tokens})
    return draw.like([data]) if draw.often(0.4) else data


def _read_tokens(data: bytes) -> None:
    found = read_tokens(data)
    for token in found.tokens:
        lasts_until(token)
        Identity(token.name, token.backends).may_report("a")
    assert read_tokens(msgspec.json.encode(found)) == found


# What an API server says of tokens


class _Pool:
    """Answers each request with the same."""

    body = b""

    def request(self, *_: object, **__: object) -> HTTPResponse:
        head = {"Content-Type": "application/json"}
        return HTTPResponse(io.BytesIO(self.body), head, 201, preload_content=True)


_api = client.ApiClient(client.Configuration())
_pool: Any = _Pool()
_api.rest_client.pool_manager = _pool
_ask = asking(_api)
_ANSWER = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenReview",
    "metadata": {},
    "spec": {"token": "a.b.c", "audiences": [AUDIENCE]},
    "status": {
        "authenticated": True,
        "user": {"username": "system:a", "uid": "u", "groups": ["g"], "extra": {"x": ["y"]}},
        "audiences": [AUDIENCE],
        "error": "",
    },
}


def _make_review(draw: Draw) -> bytes:
    answer = json.loads(json.dumps(_ANSWER))
    places = [answer, answer["status"], answer["status"]["user"]]
    while draw.often(0.5):
        place = draw.choice(places)
        field = draw.choice(tuple(place))
        place[field] = draw.choice((draw.anything(), None, "", "system:a", [], {}, [None]))
    data = AS_JSON.encode(answer)
    return draw.like([data]) if draw.often(0.3) else data


def _read_review(body: bytes) -> None:
    _pool.body = body
    review = _ask("a.b.c", AUDIENCE)
    assert isinstance(review.user, str)
    assert isinstance(review.error, str)
    _told(_Known(review).identify(Presented("a.b.c")))


class _Known(AccountAuthenticator):
    """Whose API server has answered."""

    def __init__(self, review: Review) -> None:
        super().__init__(lambda *_: review, AUDIENCE, f"system:{HOLE}")
        self._answer = review

    async def _review(self, token: str, address: str) -> Review:
        return self._answer


# Certificates: their names may be of any form, for whoever signs may look at none of it

_SOURCES: tuple[Source, ...] = ("cn", "dns", "uri")
_TEXTS = (0x0C, 0x13, 0x14, 0x16, 0x1A, 0x1C, 0x1E, 0x04, 0x30)
"""Tags of texts, and two that are of none."""
_GENERAL = (0x81, 0x82, 0x86, 0x86, 0x82, 0x87, 0x88, 0xA0, 0xA3, 0xA4, 0xA5, 0x8F)
"""Tags of general names."""
_TIMES = (b"\x17\x0d260102030405Z", b"\x17\x0d990101000000Z", b"\x18\x0f20260102030405Z")
_ODD_TIMES = (b"\x18\x0f99991231235959Z", b"\x18\x0f00000101000000Z", b"\x17\x05260102Z", b"\x05\0")
_ECDSA = bytes.fromhex("300a06082a8648ce3d040302")
_COMMON_NAME, _COUNTRY = bytes.fromhex("0603550403"), bytes.fromhex("0603550406")
_ALTERNATIVE, _USAGE = bytes.fromhex("0603551d11"), bytes.fromhex("0603551d0f")
_SEQUENCE, _SET = 0x30, 0x31


class _Certificate(NamedTuple):
    """Its DER, and which of its names is looked at."""

    der: bytes
    source: Source


@cache
def _key() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _der(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    width = (size.bit_length() + 7) // 8
    return bytes((tag, 0x80 | width)) + size.to_bytes(width) + content


def _text(draw: Draw) -> bytes:
    samples = ("a", "eu-1", "spiffe://prod/a", "*.a", "a\0b", "xn--a", str(draw.text()))
    text = draw.choice(samples).encode("utf-8", "surrogatepass")
    return draw.data() if draw.often(0.05) else text


def _name(draw: Draw) -> bytes:
    """One of a subject."""
    kind = _COMMON_NAME if draw.often(0.9) else _COUNTRY
    tag = _TEXTS[0] if draw.often(0.6) else draw.choice(_TEXTS)
    return _der(_SET, _der(_SEQUENCE, kind, _der(tag, _text(draw))))


def _general_name(draw: Draw) -> bytes:
    if draw.often(0.05):
        return _der(0xA4, _der(_SEQUENCE, _name(draw)))
    tag = draw.choice((0x82, 0x86)) if draw.often(0.8) else draw.choice(_GENERAL)
    return _der(tag, _text(draw))


def _several(draw: Draw, make: Callable[[Draw], bytes]) -> bytes:
    count = 300 if draw.often(0.002) else draw.choice((0, 1, 1, 2, 3))
    return b"".join(make(draw) for _ in range(count))


def _make_certificate(draw: Draw) -> _Certificate:
    subject = _der(_SEQUENCE, _several(draw, _name))
    until = draw.choice(_TIMES if draw.often(0.9) else _ODD_TIMES)
    alternative = _der(_SEQUENCE, _several(draw, _general_name))
    extensions = [
        _der(_SEQUENCE, kind, _der(0x04, value))
        for kind, value in ((_ALTERNATIVE, alternative), (_USAGE, draw.data()))
        if draw.often(0.8 if kind is _ALTERNATIVE else 0.05)
    ]
    if draw.often(0.02):
        extensions *= 2
    signed = _der(
        _SEQUENCE,
        _der(0xA0, b"\x02\x01\x02"),
        b"\x02\x01\x07",
        _ECDSA,
        _der(_SEQUENCE, _name(draw)),
        _der(_SEQUENCE, _TIMES[0], until),
        subject,
        _key(),
        _der(0xA3, _der(_SEQUENCE, *extensions)),
    )
    der = _der(_SEQUENCE, signed, _ECDSA, b"\x03\x01\x00")
    return _Certificate(draw.like([der]) if draw.often(0.2) else der, draw.choice(_SOURCES))


def _read_certificate(given: _Certificate) -> None:
    pattern = f"spiffe://prod/{HOLE}" if given.source == "uri" else HOLE
    asked = CertificateAuthenticator(given.source, pattern)
    _told(asked.identify(Presented("", given.der)))


JWT = Family(_make_jwt, _read_jwt, _REFUSED)
JWKS = Family(_make_jwks, _read_jwks, (ValueError,))
TOKENS_FILE = Family(_make_tokens, _read_tokens, (ValueError,))
REVIEWS = Family(_make_review, _read_review, (ValueError, *_REFUSED))
CERTIFICATES = Family(_make_certificate, _read_certificate, _REFUSED)
