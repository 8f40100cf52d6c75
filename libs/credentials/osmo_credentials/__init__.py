"""Kinds of credentials: by certificate, named token, JSON Web Token, or a Kubernetes account.

    async with open_authenticator(("token?file=/etc/osmo/tokens.json",)) as authenticator:
        async with listen(url, authenticator=authenticator) as server:
            ...

Each kind is found by an entry point of the group `osmo_transport.credentials`, ours and everybody's
alike.
"""

from osmo_credentials.registry import KINDS, Opener, kinds_of, open_authenticator
from osmo_credentials.settings import Pattern, read_settings

__all__ = ("KINDS", "Opener", "Pattern", "kinds_of", "open_authenticator", "read_settings")
