"""A run notices SIGTERM and leaves the handler of the signal as it was."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from r2kd_mm.engine.preemption import SigtermWatch


@pytest.fixture
def handled():
    """Signals that reach the handler that was there before."""
    signals = []
    before = signal.signal(signal.SIGTERM, lambda number, _: signals.append(number))
    yield signals
    signal.signal(signal.SIGTERM, before)


def test_the_signal_is_seen_and_reaches_the_earlier_handler_only_after_the_watch(handled):
    watch = SigtermWatch(interval=1)
    watch.start()
    assert not watch.asks_to_stop(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert watch.asks_to_stop(2)
    assert handled == []
    watch.stop()
    watch.stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert handled == [signal.SIGTERM]


def test_a_second_run_starts_without_the_signal_of_the_first(handled):
    watch = SigtermWatch(interval=1)
    watch.start()
    os.kill(os.getpid(), signal.SIGTERM)
    watch.stop()
    watch.start()
    assert not watch.asks_to_stop(1)
    watch.stop()


def test_a_thread_that_may_handle_no_signal_trains_without_a_handler(handled):
    watch = SigtermWatch(interval=1)
    before = signal.getsignal(signal.SIGTERM)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(watch.start).result()
    assert signal.getsignal(signal.SIGTERM) is before
