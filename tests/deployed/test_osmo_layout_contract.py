"""The deployed layout keeps the contract of a queue, but for what `QUEUES.md` says."""

import pytest

from osmo_transport.message import Message
from osmo_transport.testing.redis_server import RedisServer
from tests.queues.harness import OsmoHarness, report_with_body
from tests.queues.test_contract import Harnessed


class _Deployed(Harnessed):
    opaque = streams = groups = False

    def report(self, key: str, kind: str = "update_node") -> Message:
        return report_with_body(key, kind)


class TestOsmoLayout(_Deployed):
    """`redis://?layout=osmo`."""

    @pytest.fixture(autouse=True)
    def _harness(self, redis_server: RedisServer) -> None:
        self.harness = OsmoHarness(self.name, redis_server, by_role=True)


class TestOldestOsmoLayout(_Deployed):
    """`redis://?layout=osmo` on the oldest supported server."""

    @pytest.fixture(autouse=True)
    def _harness(self, oldest_redis_server: RedisServer) -> None:
        self.harness = OsmoHarness(self.name, oldest_redis_server, by_role=True)
