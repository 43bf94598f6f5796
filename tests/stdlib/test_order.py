"""Sets of objects without a hash of their own: what a world's classes make of them, and what they leave as it is."""

import gc
import weakref

import pytest

from simkernel.stdlib.order import OrderedSet, counted, numbers
from simkernel.stdlib.process import in_world
from simkernel.stdlib.world import World

SOURCE = """
import abc, collections, dataclasses, enum, typing
import attrs

class Plain: pass
class Child(Plain): pass
class Explicit(object): pass
class Abstract(abc.ABC): pass
class Error(Exception): pass
class Weak: __slots__ = ("x", "__weakref__")
T = typing.TypeVar("T")
class Generic(typing.Generic[T]): pass
class Proto(typing.Protocol):
    def f(self): ...
class Implementation(Proto): pass
@dataclasses.dataclass(eq=False)
class ByIdentity:
    x: int = 0
class GenericFirst(typing.Generic[T], Plain): pass
class Mixed(Generic, GenericFirst): pass
class Root(metaclass=type("Meta", (type,), {})): pass

class Slotted: __slots__ = ("x",)
class Text(Plain, str): pass
class Pair(Plain, collections.namedtuple("Pair", "x y")): pass
class Color(Plain, enum.Enum):
    RED = 1
@dataclasses.dataclass(frozen=True)
class Point:
    x: int
@attrs.frozen
class Frozen:
    x: int
@dataclasses.dataclass
class Unhashable:
    x: int
class Comparable:
    def __eq__(self, other): return True
@attrs.define(eq=False)
class Attrs:
    x: int = 0
@attrs.define(eq=False)
class Early:
    x: int = 0
early = {Early()}
"""
NUMBERED = "Plain Child Explicit Abstract Error Weak Generic Implementation ByIdentity GenericFirst Mixed Root Attrs".split()


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    path = tmp_path_factory.mktemp("order") / "ordered.py"
    path.write_text(SOURCE)
    return in_world(lambda world: world.load_file("ordered", str(path)), world=World())


@pytest.mark.parametrize("name", NUMBERED)
def test_an_object_has_the_number_of_its_first_use(classes, name):
    numbers.restart()
    made = [getattr(classes, name)() for _ in range(5)]
    assert [hash(each) for each in reversed(made)] == [1, 2, 3, 4, 5]
    assert [hash(each) for each in made] == [5, 4, 3, 2, 1]
    assert list(set(made)) == made[::-1]
    assert len({id(each) for each in made} & set(numbers.given)) == 5


def test_numbers_go_with_their_objects(classes):
    made = [classes.Plain() for _ in range(3)]
    made[0].itself = made
    assert len({*made}) == 3
    keys = [id(each) for each in made]
    assert set(keys) <= set(numbers.given)
    del made
    gc.collect()
    assert not set(keys) & set(numbers.given)


def test_what_has_a_hash_keeps_it(classes):
    assert hash(classes.Text("abc")) == hash("abc")
    assert hash(classes.Pair(1, 2)) == hash((1, 2))
    assert hash(classes.Color.RED) == hash("RED")
    assert hash(classes.Point(1)) == hash(classes.Point(1))
    assert hash(classes.Frozen(1)) == hash(classes.Frozen(1))
    assert {classes.Frozen(1)} == {classes.Frozen(1)}
    for unhashable in (classes.Unhashable(1), classes.Comparable()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(unhashable)
    slotted = classes.Slotted()
    assert hash(slotted) == object.__hash__(slotted)


def test_decorators_see_the_class_as_it_was_written(classes):
    """Otherwise attrs and dataclasses would take the hash for the author's, and leave out theirs."""
    assert vars(classes.Unhashable)["__hash__"] is None
    assert vars(classes.Plain)["__hash__"] is counted
    assert classes.Plain.__bases__ == (object,)


def test_an_object_of_the_import_keeps_its_hash(classes):
    assert "__hash__" not in vars(classes.Early)
    (early,) = classes.early
    assert early in classes.early


def test_a_worlds_weak_set_is_in_order():
    world = World()
    made = [type("C", (), {})() for _ in range(50)]
    kept = world.import_module("weakref").WeakSet(made)
    assert list(kept) == made
    assert type(kept) is not weakref.WeakSet
    del made[::2]
    gc.collect()
    assert list(kept) == made
    kept.discard(made[0])
    kept |= made[:1]
    assert list(kept) == [*made[1:], made[0]]
    assert set(kept) == set(made)
    assert kept.issuperset(made[:3])
    assert not kept.issubset(made[:3])
    kept.difference_update(made[:3])
    assert list(kept) == made[3:]
    kept.intersection_update(made[5:])
    assert kept.pop() in made[5:]
    kept.symmetric_difference_update(made[:2])
    assert set(kept) == {*made[6:], *made[:2]}


def test_ordered_set_is_a_set():
    assert OrderedSet("cab") == {"a", "b", "c"}
    assert list(OrderedSet("cab") | OrderedSet("xa")) == list("cabx")
    assert OrderedSet("ab") < {"a", "b", "c"}
