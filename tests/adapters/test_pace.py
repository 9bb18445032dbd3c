import threading

from agent.adapters.shelf.pace import Pace


class Clock:
    """A clock that goes on only while somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited = 0.0

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.waited += seconds


def pace(clock: Clock, rate: float) -> Pace:
    return Pace(rate, clock.wait, lambda: clock.now)


def test_no_more_goes_by_than_the_rate_allows() -> None:
    clock = Clock()
    told = pace(clock, 100.0)
    for _ in range(100):
        told(50)
    assert 5000 / 100 - 1 <= clock.waited <= 5000 / 100


def test_who_is_slower_by_himself_never_waits() -> None:
    clock = Clock()
    told = pace(clock, 100.0)
    for _ in range(10):
        clock.now += 1.0
        told(90)
    assert clock.waited == 0.0


def test_a_long_rest_lets_nobody_catch_up_with_all_of_it() -> None:
    clock = Clock()
    told = pace(clock, 100.0)
    clock.now += 3600
    for _ in range(10):
        told(100)
    assert 8.5 <= clock.waited <= 9.5


def test_several_threads_share_one_rate() -> None:
    told = Pace(200_000.0)
    began = told._clock()
    threads = [threading.Thread(target=lambda: [told(5_000) for _ in range(10)]) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert told._clock() - began >= 0.5
