"""The fake of time: virtual clocks, sleeping, and dates that are the same on every machine."""

import datetime
import io
import logging
import os
import subprocess
import sys
import threading
import time

import pytest

import simkernel
from simkernel.stdlib.here import machine
from simkernel.stdlib.process import run_function
from simkernel.stdlib.world import World


def virtual_hour():
    start = time.monotonic_ns(), time.time_ns(), time.perf_counter_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.process_time_ns()
    day = datetime.date.today()
    time.sleep(3600)
    end = time.monotonic_ns(), time.time_ns(), time.perf_counter_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.process_time_ns()
    return [(b - a) // 10**9 for a, b in zip(start, end, strict=True)], str(day), str(datetime.datetime.now())


def test_an_hour_takes_no_time():
    passed, day, now = run_function(virtual_hour)
    assert passed == [3600, 3600, 3600, 3600, 0]
    assert (day, now) == ("2001-09-09", "2001-09-09 02:46:40")


def looks_until(end):
    fired = []
    timer = threading.Timer(end / 2, lambda: fired.append(time.monotonic()))
    timer.start()
    start = time.monotonic()
    while time.monotonic() < end:
        pass
    timer.cancel()
    return start, time.monotonic(), fired


def test_a_loop_that_only_looks_at_the_clock_sees_it_move():
    start, now, fired = run_function(looks_until, 100)
    assert start == 0
    assert 100 <= now < 110
    assert fired == [pytest.approx(50, abs=2)]


def test_a_loop_that_looks_at_the_clock_for_ever_ends():
    with pytest.raises(simkernel.Livelock, match="it has to sleep"):
        run_function(looks_until, 1e9)


def logs_much():
    stream = io.StringIO()
    logger = logging.Logger("much")
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    for i in range(20_000):
        logger.warning("%d", i)
    return stream.getvalue().splitlines()[-1]


def test_looking_often_is_no_livelock():
    assert run_function(logs_much) == "2001-09-09 01:46:40,000 19999"


def bad_sleeps():
    out = []
    for value in (-1, float("nan"), float("inf"), "1", None, 1e300, 2**70, -1e-10):
        try:
            time.sleep(value)
        except Exception as error:
            out.append((type(error).__name__, str(error)))
    for call in (lambda: time.clock_gettime(99), lambda: time.gmtime("x"), lambda: time.asctime(None), lambda: time.mktime(())):
        try:
            call()
        except Exception as error:
            out.append((type(error).__name__, str(error)))
    return out


def test_errors_are_those_of_python():
    assert run_function(bad_sleeps) == bad_sleeps()


def calendar():
    """What time computes of given times, in the zone of TZ."""
    time.tzset()
    out = [time.timezone, time.altzone, time.daylight, time.tzname]
    for seconds in (0, 1_000_000_000, 1_700_000_000, 1_750_000_000.5):
        local = time.localtime(seconds)
        out += [local, local.tm_zone, local.tm_gmtoff, time.mktime(local), time.ctime(seconds), time.asctime(time.gmtime(seconds))]
        out += [time.strftime(form, t) for form in ("%c %Z %z", "%F %T", "%s") for t in (local, tuple(local), time.gmtime(seconds))]
        out += [time.strptime(time.strftime("%F %T", local), "%Y-%m-%d %H:%M:%S")]
    return out


ZONES = ["UTC", "Europe/Berlin", "EST5EDT,M3.2.0,M11.1.0", "AEST-10AEDT-11,M10.5.0,M3.5.0", "", ":Asia/Kolkata", "nonsense"]


@pytest.mark.parametrize("zone", ZONES)
def test_dates_are_those_of_the_c_library(zone, monkeypatch):
    def main():
        os.environ["TZ"] = zone
        return calendar()

    outer = time.tzname
    monkeypatch.delenv("TZ", raising=False)
    got = run_function(main)
    assert time.tzname == outer
    assert "TZ" not in os.environ
    monkeypatch.setenv("TZ", zone)
    try:
        assert got == calendar()
    finally:
        monkeypatch.undo()
        time.tzset()


def now():
    return time.localtime()[:6], time.tzname


@pytest.mark.parametrize(
    ("zone", "expected"), [(None, ((2001, 9, 9, 1, 46, 40), ("UTC", "UTC"))), ("XYZ-3", ((2001, 9, 9, 4, 46, 40), ("XYZ", "XYZ")))]
)
def test_the_zone_is_the_programs_and_not_the_machines(zone, expected, monkeypatch):
    if zone is None:
        monkeypatch.delenv("TZ", raising=False)
    else:
        monkeypatch.setenv("TZ", zone)
    assert run_function(now) == expected


def test_it_has_all_that_the_real_one_has():
    fake = World().import_module("time")
    assert not [name for name in dir(time) if not name.startswith("__") and not hasattr(fake, name)]


def waits():
    time.sleep(0.25)
    return time.monotonic() >= 0.25


def test_on_the_real_kernel():
    """The same fake, over the real kernel's calls."""
    world = World(fakes=("time",))

    def main(sys):
        with machine(sys):
            return world.inside(waits)()

    assert simkernel.linux.run(main)


def test_dates_do_not_depend_on_etc_localtime():
    """Without TZ a program has UTC in an interpreter of its own, too."""
    code = "from tests.stdlib.test_time import now, run_function; print(run_function(now))"
    env = {name: value for name, value in os.environ.items() if name != "TZ"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "((2001, 9, 9, 1, 46, 40), ('UTC', 'UTC'))\n"
