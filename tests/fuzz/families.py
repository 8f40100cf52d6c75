"""All families, by name."""

from tests.fuzz import (
    bodies,
    configuration,
    credentials,
    deployed,
    frames,
    kubeconfigs,
    kubernetes,
    pages,
    queues,
)

FAMILIES = {
    "frames-msgpack": frames.MSGPACK,
    "frames-json": frames.JSON,
    "frames-protobuf": frames.PROTOBUF,
    "bodies": bodies.BODIES,
    "deployed-protobuf": deployed.PROTOBUF,
    "deployed-json": deployed.JSON,
    "entries": queues.ENTRIES,
    "directory": queues.DIRECTORY,
    "kubeconfigs": kubeconfigs.FILES,
    "plugins": kubeconfigs.PLUGINS,
    "kubernetes-json": kubernetes.JSON,
    "kubernetes-protobuf": kubernetes.PROTOBUF,
    "settings": configuration.SETTINGS,
    "addresses": configuration.ADDRESSES,
    "rules": configuration.RULES,
    "rules-file": configuration.RULES_FILE,
    "pages": pages.PAGES,
    "jwt": credentials.JWT,
    "jwks": credentials.JWKS,
    "tokens-file": credentials.TOKENS_FILE,
    "token-reviews": credentials.REVIEWS,
    "certificates": credentials.CERTIFICATES,
}
