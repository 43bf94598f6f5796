"""``_datetime``: the real classes, but that "now" and the local zone are the program's.

``date`` and ``datetime`` are subclasses, and count the real ones as their own: what is shared with the real world (cryptography, tomllib,
pandas) takes and makes those.
"""

import _datetime as real  # type: ignore[import-not-found]  # as typeshed calls it: datetime
import contextlib
import sys
import warnings
from _datetime import *  # noqa: F403
from _datetime import tzinfo
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from datetime import date as real_date
    from datetime import datetime as real_datetime
    from datetime import tzinfo

    from simkernel.stdlib.world import World
else:
    real_date, real_datetime = real.date, real.datetime

world: "World"

__doc__ = real.__doc__
__all__ = [name for name in dir(real) if not name.startswith("_")]
D = TypeVar("D", bound="date")
T = TypeVar("T", bound="datetime")


def _clock() -> Any:
    return world.import_module("time")


def _is_utc() -> bool:
    """Whether the program's zone is known to be UTC: then the C library need not be asked."""
    return "time" in world.fakes and bool(_clock().is_utc())


def _local() -> contextlib.AbstractContextManager[None]:
    """The C library's local time is the program's."""
    zone: contextlib.AbstractContextManager[None] = _clock().in_zone() if "time" in world.fakes else contextlib.nullcontext()
    return zone


class _Kind(type):
    """A class that the instances and subclasses of the real one belong to."""

    real: type

    def __instancecheck__(cls, thing: object) -> bool:
        return isinstance(thing, cls.real) if "real" in vars(cls) else super().__instancecheck__(thing)

    def __subclasscheck__(cls, other: type) -> bool:
        return issubclass(other, cls.real) if "real" in vars(cls) else super().__subclasscheck__(other)


class date(real_date, metaclass=_Kind):  # noqa: N801
    """datetime.date."""

    __slots__ = ()
    __module__ = "datetime"
    __doc__ = real.date.__doc__
    real = real.date

    @classmethod
    def fromtimestamp(cls: type[D], timestamp: float, /) -> D:
        """The local date."""
        with _local():
            return super().fromtimestamp(timestamp)

    @classmethod
    def today(cls: type[D]) -> D:
        """The local date of now."""
        return cls.fromtimestamp(_clock().time())

    def __repr__(self) -> str:
        return _named(self, date, super().__repr__())


class datetime(real_datetime, metaclass=_Kind):  # noqa: N801
    """datetime.datetime."""

    __slots__ = ()
    __module__ = "datetime"
    __doc__ = real.datetime.__doc__
    real = real.datetime

    @classmethod
    def now(cls: type[T], tz: "tzinfo | None" = None) -> T:
        """Now, in ``tz`` or in the local zone."""
        seconds, ns = divmod(_clock().time_ns(), 1_000_000_000)
        return cls.fromtimestamp(seconds, tz).replace(microsecond=ns // 1000)

    @classmethod
    def utcnow(cls: type[T]) -> T:
        """Now in UTC, without saying so."""
        if sys.version_info >= (3, 12):
            text = "datetime.datetime.utcnow() is deprecated: use datetime.datetime.now(datetime.UTC)"
            warnings.warn(text, DeprecationWarning, stacklevel=2)
        return cls.now(UTC).replace(tzinfo=None)

    @classmethod
    def today(cls: type[T]) -> T:
        """Now in the local zone."""
        return cls.fromtimestamp(_clock().time())

    @classmethod
    def fromtimestamp(cls: type[T], timestamp: float, tz: "tzinfo | None" = None) -> T:
        """A time in ``tz`` or in the local zone."""
        if tz is not None:
            return super().fromtimestamp(timestamp, tz)
        if _is_utc():
            return super().fromtimestamp(timestamp, UTC).replace(tzinfo=None)
        with _local():
            if cls is not datetime:
                return super().fromtimestamp(timestamp)
            # (For a subclass CPython 3.11 forgets which of two hours it is, when the clocks are put back.)
            d = real_datetime.fromtimestamp(timestamp)
        return cls(d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond, fold=d.fold)

    @classmethod
    def strptime(cls: type[T], date_string: str, format: str, /) -> T:
        """A text as a time."""
        parsed: T = world.import_module("_strptime")._strptime_datetime(cls, date_string, format)
        return parsed

    def timestamp(self) -> float:
        """Seconds since the Epoch."""
        if self.tzinfo is not None:
            return super().timestamp()
        if _is_utc():
            return self.replace(tzinfo=UTC).timestamp()
        with _local():
            return super().timestamp()

    def astimezone(self: T, tz: "tzinfo | None" = None) -> T:
        """The same time in ``tz`` or in the local zone."""
        if tz is not None and self.tzinfo is not None:
            return super().astimezone(tz)
        with _local():
            return super().astimezone(tz)

    def __repr__(self) -> str:
        return _named(self, datetime, super().__repr__())


def _named(thing: object, kind: type, text: str) -> str:
    """As the real ones print themselves, which have their module in their name."""
    return f"datetime.{text}" if type(thing) is kind else text
