"""Sets that are in the same order in every run.

An object without a hash of its own has its address for one, so a set of them, of asyncio's tasks or of a chat server's clients, is in
another order each time.  Here the hash of such an object is a number: it is the first, the second, ... of its run that was asked for one.

A class of a world that would inherit object's hash inherits Identity's instead.  Not so a class whose metaclass makes classes in its own
way, and an object with ``__slots__`` that can't be referred to weakly keeps its address.
"""

import builtins
import types
import weakref
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, MutableSet
from typing import Any, Final, Generic, Protocol, TypeVar

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


class Identity:
    """The base of a world's classes that have no hash of their own."""

    __slots__ = ()

    def __hash__(self) -> int:
        found = _given.get(id(self))
        if found is not None:
            return found.number
        try:
            return numbers.of(self)
        except TypeError:
            # It can't be referred to weakly, so nobody would know when its address is another's.
            return object.__hash__(self)


PLAIN_METACLASSES: Final = (type.__new__, ABCMeta.__new__)
OBJECTS_HASH: Final[Any] = object.__hash__
OUR_HASH: Final[Any] = Identity.__hash__


def build_class(function: Callable[[], Any], name: str, /, *bases: Any, **keywords: Any) -> Any:
    """builtins.__build_class__ of a world."""
    found = types.resolve_bases(bases)
    classes = [base for base in found if isinstance(base, type)]
    metaclasses = [keywords.get("metaclass", type), *map(type, classes)]
    if (
        len(classes) == len(found)
        and all(base.__hash__ is OBJECTS_HASH for base in classes)
        and Protocol not in classes
        and all(isinstance(each, type) and each.__new__ in PLAIN_METACLASSES for each in metaclasses)
    ):
        bases = (*(base for base in bases if base is not object), Identity)
    made = builtins.__build_class__(function, name, *bases, **keywords)
    if isinstance(made, type) and made.__hash__ is OUR_HASH and "__hash__" not in vars(made):
        # A base that has a hash may come after one of ours.
        owner = next(each for each in made.__mro__ if each is not Identity and "__hash__" in vars(each))
        if owner is not object:
            made.__hash__ = owner.__hash__  # type: ignore[method-assign]
    return made


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
