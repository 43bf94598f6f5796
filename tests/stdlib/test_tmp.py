import threading

from simkernel.stdlib.process import kept_world


def test_a():
    def main():
        return threading, threading.Lock

    with kept_world() as w:
        f = w.inside(main)
        print(
            f.__globals__["__name__"],
            f.__globals__ is main.__globals__,
            main.__module__,
            f.__globals__.get("threading"),
            f.__code__.co_freevars,
        )
        print(w.modules.get("threading") is threading, w.modules["_thread"], w.fakes, w.modules["threading"]._thread if 0 else "")
        assert 0
