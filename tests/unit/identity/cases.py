"""A project of a user's, in which things hold code, and pairs of things of which one is the other changed.

What is in FILES is written to files of these names; expressions stand in spec.py.
"""

from __future__ import annotations

FILES = {
    "holders": """
import dataclasses

class logged:
    def __init__(self, function): self.function = function
    def __call__(self, *given): return self.function(*given)

class Loader:
    def __init__(self, make, width=64): self.make, self.width = make, width
    def __call__(self): return self.make(self.width)

class Slotted:
    __slots__ = ("__make", "width")
    def __init__(self, make, width=64): self.__make, self.width = make, width
    def __call__(self): ...

@dataclasses.dataclass
class Open:
    width: object = 64
    def __call__(self): ...

class Plain:
    def __init__(self, of): self.of = of

def load(*given, **named): ...

def made_with(given):
    def made(): return given
    return made

def by_default(given):
    return lambda given=given: given

def local_class(given):
    class Made:
        width = given
        def __call__(self): ...
    return Made()

def local_property(given):
    class Made:
        @property
        def width(self): return given
        def __call__(self): ...
    return Made()

def local_model(given, of=None):
    import pydantic
    class Made(pydantic.BaseModel):
        width: int
        of: object = None
        def __call__(self): ...
    return Made(width=given, of=of)

def marked(given):
    def made(): ...
    made.width = given
    return made

def in_itself(given):
    held = [given]
    held.append(held)
    return made_with(held)

def deep(given):
    for _ in range(3000): given = [given]
    return made_with(given)
""",
    "makers": """
import functools

def plain(function):
    @functools.wraps(function)
    def inner(): return function()
    return inner

def doubled(function):
    @functools.wraps(function)
    def inner(): return 2 * function()
    return inner

def repeat(times):
    def outer(function):
        @functools.wraps(function)
        def inner(*given, times=times): return times * function()
        return inner
    return outer

def in_branch(kind):
    if kind == 1:
        def load(): return 1
    else:
        def load(): return 2
    return load

def class_in_branch(kind):
    if kind == 1:
        class Net:
            def __call__(self): return 1
    else:
        class Net:
            def __call__(self): return 2
    return Net

def by_exec(text, **names):
    exec(compile(text, '<made>', 'exec'), names)
    return names['made']
""",
    "net": "import blocks\ndef build(width): ...\ndef build_wide(width): ...\n",
    "blocks": "",
    "spec": """
import argparse, array, cmath, collections, dataclasses, datetime, decimal, enum, fractions, functools, io, math
import operator, random, re, statistics, string, struct, threading, types, uuid, zoneinfo
from pathlib import Path
import numpy as np, torch
import net
from holders import *
from makers import *

class Size(enum.Enum):
    SMALL = object()
    LARGE = object()

HERE = Path(__file__).parent
P = functools.partial

PAIR = (lambda: 1), (lambda: 2)

class Flags(enum.IntFlag):
    ONE = 1

class Row(np.ndarray): ...
class Name(str): ...

def in_zone(name):
    return datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo(name))

def filled_up(value, between):
    raw = np.full(48, between, np.uint8).view(np.dtype([('a', 'i1'), ('b', 'f8')], align=True))
    raw['a'], raw['b'] = 1, value
    return raw

def ring(count, chosen):
    nodes = [Plain(None) for _ in range(count)]
    for number, node in enumerate(nodes):
        node.number, node.of, node.before = number, nodes[number - 1], nodes[(number + 1) % count]
    return {nodes[each] for each in chosen}

def chained(at, width):
    nodes = [Plain(None) for _ in range(60)]
    for node, after in zip(nodes, nodes[1:]):
        node.of = after
    for number, node in enumerate(nodes):
        node.config = {'width': width if number == at else 1}
    return Loader(nodes[0], nodes)

def record(value, *fields):
    return np.array([value], [(name, kind) for name, kind in zip('ab', fields)])[0]

def tagged(kind, value, tag):
    made = kind(value)
    made.tag = tag
    return made
""",
}


# What holds `net.build`, as an expression in spec.py.
HOLDERS = {
    "a decorator that is a class": "logged(net.build)",
    "np.vectorize": "np.vectorize(net.build)",
    "an object": "Loader(net.build)",
    "a method of an object": "Loader(net.build).__call__",
    "an object in an object": "Loader(Plain(Plain(net.build)))",
    "slots": "Slotted(net.build)",
    "a dataclass": "Open(net.build)",
    "a list": "made_with([net.build])",
    "a dict": "P(load, {'net': net.build})",
    "a dict's method": "P(load, {'net': net.build}.get)",
    "a module": "Loader(net)",
    "a default": "by_default(net.build)",
    "a default of a dict": "Open(collections.defaultdict(net.build))",
    "a class made by a function": "local_class(net.build)",
    "a pydantic model": "local_model(1, net.build)",
    "an attribute of a function": "marked(net.build)",
    "an object that others provide": "Open(types.SimpleNamespace(of=[net.build]))",
    "what holds itself": "in_itself(net.build)",
}


# One expression in spec.py and another: a change from the one to the other must show.
CHANGES = [
    ("Loader(net.build, 64)", "Loader(net.build, 65)"),
    ("Loader(net.build)", "Loader(net.build_wide)"),
    ("Slotted(net.build, 64)", "Slotted(net.build, 65)"),
    ("Open(1)", "Open(2)"),
    ("Open(Plain(1))", "Open(Plain(2))"),
    ("P(load, [1, 2])", "P(load, [1, 3])"),
    ("P(load, [1, 2], 3)", "P(load, [1], [2, 3])"),
    ("P(load, {'w': 1})", "P(load, {'w': 2})"),
    ("P(load, {1})", "P(load, {2})"),
    ("P(load, Path('a.onnx'))", "P(load, Path('b.onnx'))"),
    ("P(load, HERE / 'a.onnx')", "P(load, HERE / 'b.onnx')"),
    ("P(load, '/v1/predict')", "P(load, '/v2/predict')"),
    ("P(load, np.arange(3))", "P(load, np.arange(4))"),
    ("P(load, np.zeros(500))", "P(load, np.eye(1, 500, 200)[0])"),
    ("P(load, np.zeros(2))", "P(load, np.zeros((2, 1)))"),
    ("P(load, np.zeros(2, 'f4'))", "P(load, np.zeros(2, 'i4'))"),
    ("P(load, np.array([1, [2]], object))", "P(load, np.array([1, [3]], object))"),
    ("P(load, np.float32(1))", "P(load, np.float32(2))"),
    ("P(load, 'a' * 999)", "P(load, 'a' * 998 + 'b')"),
    ("P(load, Size.SMALL)", "P(load, Size.LARGE)"),
    ("P(load, decimal.Decimal(1))", "P(load, decimal.Decimal(2))"),
    ("P(load, datetime.date(2026, 1, 1))", "P(load, datetime.date(2026, 1, 2))"),
    ("P(load, re.compile('a'))", "P(load, re.compile('b'))"),
    ("P(load, slice(1))", "P(load, slice(2))"),
    ("P(load, argparse.Namespace(w=1))", "P(load, argparse.Namespace(w=2))"),
    ("P(load, torch.float16)", "P(load, torch.float32)"),
    ("operator.itemgetter('a')", "operator.itemgetter('b')"),
    ("P(load, {'a': 1}.get)", "P(load, {'a': 2}.get)"),
    ("P(load, np.ma.array([1, 2], mask=[0, 1]))", "P(load, np.ma.array([1, 2], mask=[1, 0]))"),
    (
        "P(load, np.zeros(2, np.dtype({'names': 'ab', 'formats': ['i4', 'i4'], 'offsets': [0, 2]})))",
        "P(load, np.zeros(2, np.dtype({'names': 'ab', 'formats': ['i4', 'i2'], 'offsets': [0, 2]})))",
    ),
    ("P(load, str.lower)", "P(load, str.upper)"),
    ("P(load, object.__eq__)", "P(load, object.__ne__)"),
    ("P(load, dict.fromkeys)", "P(load, collections.Counter.fromkeys)"),
    ("P(load, math.sqrt)", "P(load, cmath.sqrt)"),
    ("P(load, np.maximum)", "P(load, np.minimum)"),
    ("P(load, np.mean)", "P(load, np.median)"),
    ("P(load, bytearray(b'a'))", "P(load, bytearray(b'b'))"),
    ("P(load, zoneinfo.ZoneInfo('Asia/Tokyo'))", "P(load, zoneinfo.ZoneInfo('Europe/Berlin'))"),
    ("made_with({'bias': 0})", "made_with({'bias': 1})"),
    ("by_default(1)", "by_default(2)"),
    ("local_class(1)", "local_class(2)"),
    ("local_model(1)", "local_model(2)"),
    ("local_property(1)", "local_property(2)"),
    ("P(load, functools.partialmethod(load, 1))", "P(load, functools.partialmethod(load, 2))"),
    ("marked(1)", "marked(2)"),
    ("in_itself(1)", "in_itself(2)"),
    ("logged(P(load, 1))", "logged(P(load, 2))"),
    ("np.vectorize(P(load, 1))", "np.vectorize(P(load, 2))"),
    ("Loader(torch.nn.Dropout(0.1))", "Loader(torch.nn.Dropout(0.2))"),
    ("P(load, {'a': 1, 'b': 2})", "P(load, {'b': 2, 'a': 1})"),
    ("P(load, collections.OrderedDict(a=1, b=2))", "P(load, collections.OrderedDict(b=2, a=1))"),
    ("P(load, collections.deque([1], 2))", "P(load, collections.deque([1], 3))"),
    ("P(load, in_zone('Europe/Berlin'))", "P(load, in_zone('Europe/Paris'))"),
    ("P(load, Flags(8))", "P(load, Flags(16))"),
    ("P(load, enum.Enum('E', {'A': 1}).A)", "P(load, enum.Enum('E', {'A': 2}).A)"),
    ("P(load, PAIR[0])", "P(load, PAIR[1])"),
    ("type('Made', (), {'width': 1, '__call__': load})()", "type('Made', (), {'width': 2, '__call__': load})()"),
    ("P(load, dataclasses.make_dataclass('D', 'a')(1))", "P(load, dataclasses.make_dataclass('D', 'a')(2))"),
    ("P(load, collections.namedtuple('T', 'a')(1))", "P(load, collections.namedtuple('T', 'b')(1))"),
    ("P(load, record((1, 2), 'i4', 'i4'))", "P(load, record((1, 2), 'i4', 'u4'))"),
    ("P(load, record((1, ['a']), 'i4', object))", "P(load, record((1, ['b']), 'i4', object))"),
    ("P(load, 'a')", "P(load, Name('a'))"),
    ("P(load, tagged(Name, 'a', 1))", "P(load, tagged(Name, 'a', 2))"),
    ("P(load, np.zeros(1))", "P(load, np.zeros(1).view(Row))"),
    ("P(load, 10 ** 5000)", "P(load, 10 ** 5000 + 1)"),
    ("P(load, fractions.Fraction(10 ** 5000, 3))", "P(load, fractions.Fraction(10 ** 5000, 7))"),
    ("P(load, range(10 ** 5000))", "P(load, range(10 ** 5001))"),
    # Functions and classes of one name.
    ("plain(net.build)", "doubled(net.build)"),
    ("repeat(3)(net.build)", "repeat(5)(net.build)"),
    ("P(load, in_branch(1))", "P(load, in_branch(2))"),
    ("P(load, class_in_branch(1))", "P(load, class_in_branch(2))"),
    ("class_in_branch(1)()", "class_in_branch(2)()"),
    # Those that stand in no file.
    ("P(load, by_exec('def made(x): return x'))", "P(load, by_exec('def made(x): return -x'))"),
    ("Loader(by_exec('def made(x): return x + 1'))", "Loader(by_exec('def made(x): return x + 2'))"),
    ("P(load, by_exec('def made(x=1): return x'))", "P(load, by_exec('def made(x=2): return x'))"),
    (
        "P(load, by_exec('def made(x): return f(x)', f=math.sin))",
        "P(load, by_exec('def made(x): return f(x)', f=math.cos))",
    ),
    (
        "P(load, by_exec('class made:\\n def __call__(self): return 1'))",
        "P(load, by_exec('class made:\\n def __call__(self): return 2'))",
    ),
    ("P(load, eval('lambda x: x'))", "P(load, eval('lambda x: -x'))"),
    ("P(load, compile('1', '', 'eval'))", "P(load, compile('2', '', 'eval'))"),
    # Containers and other values of Python's own and of numpy's.
    ("P(load, {'a': 1}.keys())", "P(load, {'b': 1}.keys())"),
    ("P(load, {'a': net.build}.values())", "P(load, {'a': net.build_wide}.values())"),
    ("P(load, collections.OrderedDict(a=1).items())", "P(load, collections.OrderedDict(a=2).items())"),
    ("P(load, collections.ChainMap({'w': 1}))", "P(load, collections.ChainMap({'w': 2}))"),
    ("P(load, collections.UserDict(w=1))", "P(load, collections.UserDict(w=2))"),
    ("P(load, collections.UserList([1]))", "P(load, collections.UserList([2]))"),
    ("P(load, collections.UserString('a'))", "P(load, collections.UserString('b'))"),
    ("P(load, array.array('f', [1]))", "P(load, array.array('f', [2]))"),
    ("P(load, memoryview(b'1'))", "P(load, memoryview(b'2'))"),
    ("P(load, io.BytesIO(b'1'))", "P(load, io.BytesIO(b'2'))"),
    ("P(load, string.Template('$a'))", "P(load, string.Template('$b'))"),
    ("P(load, statistics.NormalDist(0, 1))", "P(load, statistics.NormalDist(0, 2))"),
    ("P(load, struct.Struct('<i'))", "P(load, struct.Struct('>i'))"),
    ("P(load, uuid.UUID(int=1))", "P(load, uuid.UUID(int=2))"),
    (
        "P(load, np.ma.masked_array([1., 2.], [0, 1], fill_value=0))",
        "P(load, np.ma.masked_array([1., 2.], [0, 1], fill_value=9))",
    ),
    ("P(load, np.eye(2))", "P(load, np.matrix(np.eye(2)))"),
    ("P(load, np.random.default_rng)", "P(load, np.random.seed)"),
    ("P(load, filled_up(1.0, 0))", "P(load, filled_up(2.0, 0))"),
    ("P(load, np.longdouble(1))", "P(load, np.longdouble(2))"),
]


# Of what only this process knows nothing gets in.
MORE = [
    "P(load, {'a', 'b', 'c', 'd', 'e', Size.SMALL}, frozenset('regiolect'))",
    "P(load, object(), threading.Lock(), open(__file__), Plain(threading.local()), iter([1]))",
    "Loader(net.build, np.random.default_rng())",
    "Open(torch.rand(3))",
    "P(load, ring(2, (0, 1)), ring(300, (0, 1, 100, 101, 102)))",
    "P(load, np.random.default_rng, random.random, random.Random())",
    "P(load, HERE, HERE / 'spec.py', str(HERE), str(HERE / 'spec.py'))",
    "deep(1)",
    "chained(59, 1)",
    "P(load, b'\\xff', '\\udcff', '/\\0', '/' + 5000 * 'a', float('nan'), None, ..., range(3), 10 ** 4000)",
]
