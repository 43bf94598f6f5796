"""Sets that are in the same order in every run.

An object without a hash of its own has its address for one, so a set of them, of asyncio's tasks or of a chat server's clients, is in
another order each time.  Here the hash of such an object is a number: it is the first, the second, ... of its run that was asked for one.

A class of a world that would inherit object's hash gets one that counts, as soon as its class statement is done.  Under a decorator it gets
it when its module is imported, since the decorator might ask whether the class has a hash of its own (dataclass, attrs.define); dataclasses
get it at once.  Not so a class that is made under another decorator in a function or in the program's first file; and objects with
``__slots__`` that can't be referred to weakly keep their address.
"""

import builtins
import dis
import gc
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, MutableSet
from types import ModuleType
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")


class Numbered(weakref.ref[Any]):
    """An object that has a number, as long as it lives; ``key`` is its address."""

    __slots__ = ("key", "number")
    key: int
    number: int


class Numbers:
    """Who has which number.  ``last`` is the last one given."""

    __slots__ = ("given", "last")

    def __init__(self) -> None:
        self.given: dict[int, Numbered] = {}
        self.last = 0

    def of(self, thing: object) -> int:
        """The number of an object, a new one if it has none."""
        number = Numbered(thing, self.forget)
        number.key = id(thing)
        self.last += 1
        number.number = self.last
        self.given[number.key] = number
        return number.number

    def forget(self, number: weakref.ref[Any]) -> None:
        """An object is gone."""
        assert isinstance(number, Numbered)
        if self.given.get(number.key) is number:
            del self.given[number.key]

    def restart(self) -> None:
        """A machine boots.  Who has a number keeps it, since sets may hold it by that."""
        self.last = 0


numbers: Final = Numbers()
_given: Final = numbers.given


def counted(self: object) -> int:
    """The hash of an object that has none of its own."""
    found = _given.get(id(self))
    if found is not None:
        return found.number
    try:
        return numbers.of(self)
    except TypeError:
        # It can't be referred to weakly, so nobody would know when its address is another's.
        return object.__hash__(self)


def build_class(function: Callable[[], Any], name: str, /, *bases: Any, **keywords: Any) -> Any:
    """builtins.__build_class__ of a world."""
    made = builtins.__build_class__(function, name, *bases, **keywords)
    if isinstance(made, type) and made.__hash__ is not None:
        frame = sys._getframe(1)
        if not is_decorated(frame.f_code.co_code, frame.f_lasti):
            give_hash(made)
    return made


def is_decorated(code: bytes, at: int) -> bool:
    """Whether what the call at ``at`` returns is passed on to another call."""
    at += 2
    while code[at] in BETWEEN:
        at += 2
    return not dis.opname[code[at]].startswith("STORE")


def give_hash(made: type) -> None:
    """Let a class without a hash of its own count its objects."""
    found: Any = made.__hash__
    if found is OBJECTS_HASH:
        if not getattr(made, "_is_protocol", False):
            type.__setattr__(made, "__hash__", counted)
    elif found is counted:
        # A base that has a hash may come after one that was given ours.
        owners = (vars(each).get("__hash__", counted) for each in made.__mro__)
        natural = next(each for each in owners if each is not counted)
        if natural is not OBJECTS_HASH:
            type.__setattr__(made, "__hash__", natural)


def settle(module: ModuleType) -> None:
    """A module has been imported: give a hash to its classes that were under a decorator, unless there are objects of them already."""
    name = module.__name__
    classes = {
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and value.__module__ == name
        and value.__hash__ is OBJECTS_HASH
        and value.__flags__ & (HEAP_TYPE | IMMUTABLE_TYPE) == HEAP_TYPE
        # (Those of ssl and socket are C's, and the real world's as well.)
        and not issubclass(value, BaseException)
    }
    if classes:
        # The collector rests while a machine runs, so what is new is in its first generation.
        for found in {type(thing) for thing in gc.get_objects(0)}:
            classes.difference_update(found.__mro__)
        for made in classes:
            give_hash(made)


def order_dataclasses(dataclasses: Any) -> None:
    """Have a world's copy of the module give a hash to dataclasses that have none."""
    process = dataclasses._process_class

    def _process_class(*args: Any) -> Any:
        made = process(*args)
        give_hash(made)
        return made

    dataclasses._process_class = _process_class


OBJECTS_HASH: Final[Any] = object.__hash__
# Py_TPFLAGS_HEAPTYPE and Py_TPFLAGS_IMMUTABLETYPE: a class that Python code made has the first.
HEAP_TYPE: Final = 1 << 9
IMMUTABLE_TYPE: Final = 1 << 8
BETWEEN: Final = (dis.opmap["CACHE"], dis.opmap["EXTENDED_ARG"])


class OrderedSet(MutableSet[T], Generic[T]):
    """A set in the order in which its elements came: what a world's WeakSet keeps its references in."""

    __slots__ = ("_elements",)

    def __init__(self, elements: Iterable[T] = ()) -> None:
        self._elements = dict.fromkeys(elements)

    def __contains__(self, element: object) -> bool:
        return element in self._elements

    def __iter__(self) -> Iterator[T]:
        return iter(self._elements)

    def __len__(self) -> int:
        return len(self._elements)

    def add(self, element: T) -> None:
        self._elements[element] = None

    def discard(self, element: T) -> None:
        self._elements.pop(element, None)

    def clear(self) -> None:
        self._elements.clear()

    def update(self, elements: Iterable[T]) -> None:
        self._elements.update(dict.fromkeys(elements))

    def issubset(self, elements: Iterable[T]) -> bool:
        return self <= set(elements)

    def issuperset(self, elements: Iterable[T]) -> bool:
        return self >= set(elements)

    def difference_update(self, elements: Iterable[T]) -> None:
        self -= OrderedSet(elements)

    def intersection_update(self, elements: Iterable[T]) -> None:
        self &= OrderedSet(elements)

    def symmetric_difference_update(self, elements: Iterable[T]) -> None:
        self ^= OrderedSet(elements)
