"""Private keys that are encrypted: no service has somebody at its terminal."""

from collections.abc import Callable


def no_passphrase(setting: str) -> Callable[[], str]:
    """The `password` of `SSLContext.load_cert_chain`, without which OpenSSL asks the terminal for
    the passphrase of an encrypted key, and a service waits for ever. Called, it raises an `OSError`
    that names the `setting`."""

    def refuse() -> str:
        raise OSError(
            f"the private key in {setting} is encrypted, and nobody is there to type its"
            " passphrase: name one that is not (openssl pkey -in FILE -out NEW), and let nobody"
            " else read it"
        )

    return refuse
