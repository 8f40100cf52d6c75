"""Whether a service lives, and whether it is ready."""

from dataclasses import dataclass

import pytest

from osmo_runtime.operations.health import Check, Liveness, Readiness, Work


@dataclass
class Service:
    """Its clock, and its work."""

    now: float = 100.0
    waits: bool = False
    done: int = 0

    def clock(self) -> float:
        return self.now

    def work(self) -> Work:
        return Work(self.waits, self.done)


def watched(service: Service) -> Liveness:
    liveness = Liveness(stall=60.0, clock=service.clock)
    liveness.add("relay", service.work)
    return liveness


def test_an_idle_service_lives() -> None:
    """However long it has nothing to do, and also when work comes after that."""
    service = Service()
    liveness = watched(service)
    service.now += 1e6
    assert liveness.look() == []
    service.waits = True
    service.now += 60
    assert liveness.look() == []


def test_progress_is_life() -> None:
    """Work that waits all the time is fine as long as some of it is done."""
    service = Service(waits=True)
    liveness = watched(service)
    for _ in range(5):
        service.now += 59
        service.done += 1
        assert liveness.look() == []


def test_work_that_stands_still_is_told() -> None:
    """After the stall time, with what waits and for how long; and no more once it goes on."""
    service = Service(waits=True)
    liveness = watched(service)
    service.now += 60
    assert liveness.look() == []
    service.now += 1
    assert liveness.look() == ["relay: work waits, and none was done for 61 s"]
    service.done += 1
    assert liveness.look() == []


def test_a_service_is_not_ready_before_its_first_check() -> None:
    """What it needs may not even have been looked for."""
    assert Readiness(lambda: False).found() == {"service": Check(ok=False, reason="starting")}


def test_every_check_is_told() -> None:
    """The good ones too, each with what it says."""
    readiness = Readiness(lambda: False)
    readiness.add("queue", lambda: Check(ok=True, age=0.5))
    readiness.add("store", lambda: Check(ok=False, reason="away"))
    assert readiness.found() == {"queue": (True, "", 0.5), "store": (False, "away", None)}


def test_who_drains_is_not_ready() -> None:
    """Whatever its checks say: no new work should come."""
    readiness = Readiness(lambda: True)
    readiness.add("queue", lambda: Check(ok=True))
    assert readiness.found()["service"] == Check(ok=False, reason="stopping")


def test_a_name_is_given_once() -> None:
    """Two of one name would hide each other."""
    readiness, liveness = Readiness(lambda: False), watched(Service())
    readiness.add("queue", lambda: Check(ok=True))
    with pytest.raises(ValueError, match="queue"):
        readiness.add("queue", lambda: Check(ok=True))
    with pytest.raises(ValueError, match="relay"):
        liveness.add("relay", Service().work)
