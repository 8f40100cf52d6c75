"""Which cluster this is."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import msgspec

from osmo_listener.errors import MalformedError, UnauthorizedError
from osmo_listener.kubernetes.answers import USER_AGENT, check
from osmo_listener.kubernetes.credentials import Credentials
from osmo_listener.kubernetes.http import HttpClient
from osmo_listener.kubernetes.starting import until_answered

PATH = "/api/v1/namespaces/kube-system"
"""Every cluster has this namespace, and nobody deletes it: its uid is as good as the cluster's."""

_ADVICE = {
    401: "the API server does not accept the credentials ({}): renew the token or the certificate"
    " of the kubeconfig's user",
    403: "{}; grant this user get on the namespace kube-system, by whose uid the cluster is known,"
    " or name the uid with --cluster-uid",
}


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Namespace(msgspec.Struct):
    metadata: _Metadata


_decode = msgspec.json.Decoder(_Namespace).decode


async def find_cluster_uid(
    credentials: Credentials,
    client: HttpClient,
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> str:
    """The uid of the cluster, as soon as its API server answers.

    Raises:
        KubernetesError, KubeconfigError: what no retry mends; the text says what to do.
    """
    return await until_answered(
        partial(read_cluster_uid, credentials, client),
        "cannot tell which cluster this is",
        sleep=sleep,
    )


async def read_cluster_uid(credentials: Credentials, client: HttpClient) -> str:
    """The uid of the cluster.

    Raises:
        KubernetesError, KubeconfigError: it cannot be read; the text says what to do.
    """
    headers = {"Accept": "application/json", "User-Agent": USER_AGENT}
    response = await client.get(PATH, headers | await credentials.headers())
    try:
        await check(response, _ADVICE)
        uid = _decode(await response.read()).metadata.uid
    except (ValueError, RecursionError) as exc:
        raise MalformedError(f"the API server sent no namespace: {exc}") from exc
    except UnauthorizedError:
        credentials.forget()
        response.close()
        client.close()
        raise
    finally:
        response.close()
    if not uid:
        raise MalformedError("the API server sent a namespace without a uid")
    return uid
