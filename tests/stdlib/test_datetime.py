"""The fake of _datetime: dates of the machine, that the rest of the world takes for its own; and what else tells the time."""

import copy
import datetime
import email.utils
import hashlib
import http.cookiejar
import io
import logging
import os
import pickle
import secrets
import subprocess
import sys
import time
import tomllib
import uuid
import zoneinfo

import pytest

from simkernel.stdlib.process import run_function
from simkernel.stdlib.world import World

UTC = datetime.UTC


def nows():
    time.sleep(0.25)
    now = datetime.datetime.now()
    return [
        repr(now),
        repr(datetime.date.today()),
        str(datetime.datetime.today()),
        str(datetime.datetime.now(UTC)),
        str(datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Berlin"))),
        now.timestamp(),
        str(now.astimezone()),
        email.utils.formatdate(),
        str(email.utils.localtime()),
        http.cookiejar.time2netscape(),
    ]


def test_now_is_that_of_the_machine():
    assert run_function(nows) == [
        "datetime.datetime(2001, 9, 9, 1, 46, 40, 250000)",
        "datetime.date(2001, 9, 9)",
        "2001-09-09 01:46:40.250000",
        "2001-09-09 01:46:40.250000+00:00",
        "2001-09-09 03:46:40.250000+02:00",
        1_000_000_000.25,
        "2001-09-09 01:46:40.250000+00:00",
        "Sun, 09 Sep 2001 01:46:40 -0000",
        "2001-09-09 01:46:40.250000+00:00",
        "Sun, 09-Sep-2001 01:46:40 GMT",
    ]


def local(zone):
    """What is computed of given times in a zone."""
    os.environ["TZ"] = zone
    time.tzset()
    out = []
    for seconds in (0, 1_000_000_000, 1_635_642_000, 1_635_645_600.25, 1_700_000_000):
        there = datetime.datetime.fromtimestamp(seconds)
        out += [str(there), there.fold, there.timestamp(), str(there.astimezone()), there.astimezone().tzname()]
        out += [str(there.astimezone(UTC)), str(datetime.date.fromtimestamp(seconds)), there.strftime("%c %Z %z"), f"{there:%F %T}"]
    out.append(str(datetime.datetime.strptime("2021-02-03 04:05 +0100", "%Y-%m-%d %H:%M %z")))
    return out


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"])
def test_the_local_zone_is_the_programs(zone):
    """As an interpreter of its own has it."""
    code = f"from tests.stdlib.test_datetime import local; print(local({zone!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert f"{run_function(local, zone)}\n" == done.stdout


class Mine(datetime.datetime):
    pass


def kinds():
    now = datetime.datetime.now()
    real = tomllib.loads("d = 2020-01-02\nt = 2020-01-02T03:04:05")
    return {
        "its own": type(now) is datetime.datetime,
        "a sum": type(now + datetime.timedelta(1)) is datetime.datetime,
        "a date": isinstance(now, datetime.date),
        "subclass": issubclass(datetime.datetime, datetime.date),
        "of tomllib": isinstance(real["d"], datetime.date) and isinstance(real["t"], datetime.datetime),
        "no date": not isinstance(real["d"], datetime.datetime) and not isinstance(3, datetime.date),
        "equal": datetime.datetime(2020, 1, 2, 3, 4, 5) == real["t"],
        "hash": len({datetime.date(2020, 1, 2), real["d"]}) == 1,
        "pickled": pickle.loads(pickle.dumps(now)) == now,
        "copied": type(copy.deepcopy(now)) is datetime.datetime,
        "derived": type(Mine.now()) is Mine and not isinstance(now, Mine) and isinstance(Mine.now(), datetime.datetime),
        "printed": repr(Mine(2020, 1, 1)) == "Mine(2020, 1, 1, 0, 0)",
    }


def test_they_are_what_they_should_be():
    assert [what for what, is_so in run_function(kinds).items() if not is_so] == []


def test_shared_libraries_take_them():
    """cryptography, of which there is one for all worlds, asks for a datetime.datetime."""
    world = World()
    made = run_function(datetime_of_a_world, world=world)
    assert isinstance(made, datetime.datetime)
    assert isinstance(made, world.modules["datetime"].date)


def datetime_of_a_world():
    return datetime.datetime.now()


def identities():
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(created)s"))
    logger = logging.Logger("one")
    logger.addHandler(handler)
    time.sleep(1.5)
    logger.error("x")
    return [str(uuid.uuid1()), str(uuid.uuid4()), secrets.token_hex(8), stream.getvalue(), hashlib.sha256(b"x").hexdigest()]


@pytest.mark.parametrize("seed", [1, 2])
def test_identities_and_logs_are_the_runs(seed):
    first = run_function(identities, seed=seed)
    assert first == run_function(identities, seed=seed)
    assert first[:3] != run_function(identities, seed=seed + 1)[:3]
    assert first[3].startswith("2001-09-09 01:46:41,50")
    assert first[4] == hashlib.sha256(b"x").hexdigest()
