"""Private keys that are encrypted: no service has somebody at its terminal."""

from collections.abc import Callable


def no_passphrase(setting: str) -> Callable[[], str]:
    """The `password` of `SSLContext.load_cert_chain`, without which OpenSSL asks the terminal for
    the passphrase of an encrypted key, and a service waits for ever. Called, it raises an `OSError`
    that names the `setting`."""

    def refuse() -> str:
        raise OSError(encrypted(setting))

    return refuse


def encrypted(where: str, file: str = "FILE") -> str:
    """What to say of the key there, or in this file."""
    return (
        f"the private key in {where} is encrypted, and nobody is there to type its passphrase: name"
        f" one that is not (openssl pkey -in {file} -out NEW), and let nobody else read it"
    )
