"""How settings are called in what users read: the same wherever they set them.

What a class here calls `TlsConfig.ca_file` is a key in the file of a program, and an option on its
command line. A message names both, so that whoever used either finds it.
"""


def option(key: str) -> str:
    """On the command line: `--client-tls-ca-file` of `client.tls.ca_file`."""
    return "--" + key.replace(".", "-").replace("_", "-")


def setting(key: str) -> str:
    """In a message, with its key in a file, for example `--client-tls-ca-file
    (client.tls.ca_file)`."""
    return f"{option(key)} ({key})"
