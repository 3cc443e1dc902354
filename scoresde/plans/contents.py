"""The hash of an object's contents: the same in every process, and not changed by calls of the object."""

import datetime
import hashlib
import io
import logging
import random
import re
import threading
import types
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import partial, singledispatch
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..processes.sde import SDE
from .calls import ENTRIES, changed_attributes, changed_variables, is_library, numbers_and_names, reached

MOST = 65_536  # numbers of a tensor that count, evenly spaced

Of = Callable[[Any], bytes]  # the hash of an object
Parts = Iterable[bytes]  # what an object's hash is computed from


class Contents:
    """Hashes of objects. ``unseen`` holds the names of the types that no rule below can hash."""

    def __init__(self) -> None:
        self.unseen: set[str] = set()
        # By id. The object is stored too: otherwise a new object could get the id of a deleted one.
        self._known: dict[int, tuple[Any, bytes]] = {}

    def of(self, value: Any) -> bytes:
        """The hash of a value. An object that contains itself has a fixed mark in its own place."""
        value = meant(value)
        if id(value) not in self._known:
            self._known[id(value)] = value, b"itself"
            try:
                self._known[id(value)] = value, _joined(parts(value, self.of))
            except Unseen as unseen:
                self.unseen.add(str(unseen))
        return self._known[id(value)][1]


def meant(value: Any) -> Any:
    """The object that counts in place of a value.

    It is the result of the method ``__fingerprint__``, or the object inside a wrapper that changes no number.
    """
    if hasattr(type(value), "__fingerprint__"):
        return meant(value.__fingerprint__())
    if isinstance(value, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return meant(value.module)
    if isinstance(value, nn.Module):
        return meant(value._orig_mod) if "_orig_mod" in value._modules else value  # of torch.compile
    if isinstance(value, types.FunctionType):
        return getattr(value, "_torchdynamo_orig_callable", value)
    # A cache around a function. A wrapper made with functools.wraps is a function, with contents like others.
    return meant(value.__wrapped__) if callable(value) and hasattr(value, "__wrapped__") else value


class Unseen(Exception):
    """No rule can hash the object; the message is the name of its type."""


def _joined(values: Parts) -> bytes:
    digest = hashlib.sha256()
    for value in values:
        digest.update(len(value).to_bytes(8, "little") + value)
    return digest.digest()


def _named(values: Mapping[str, Any], of: Of) -> bytes:
    return of(dict(values))


@singledispatch
def parts(value: Any, of: Of) -> Parts:
    """What an object's hash is computed from: here its class and its settings; other types follow below.

    Settings are the attributes that a call does not change: ``__call__``, ``forward`` and the methods that
    these use do not assign them or change them in place.

    Raises:
        Unseen: no rule can hash the object.
    """
    return _object(value, of)


def _object(value: Any, of: Of, entries: tuple[str, ...] = ENTRIES) -> Parts:
    kind = type(value)
    state: Any = object.__getstate__(value)
    if is_dataclass(value):
        state = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(state, tuple):  # a class with __slots__
        state = (state[0] or {}) | state[1]
    elif state is None and kind is not object:
        raise Unseen(f"{kind.__module__}.{kind.__qualname__}")
    held = changed_attributes(kind, entries).settings(state or {})
    return [b"object", *_code(kind, of, entries), _named(held, of)]


def _code(kind: type, of: Of, entries: tuple[str, ...] = ENTRIES) -> Iterator[bytes]:
    """A class: its name and, unless it is of a library, the numbers and names in code that a call uses."""
    yield of(kind)
    for name, methods in sorted(reached(kind, entries).items()):
        yield of([name, *(numbers_and_names(method.__code__) for method in methods)])


@parts.register
def _(value: Number | np.generic | str | bytes | PurePath | None, of: Of) -> Parts:
    plain: Any = value.item() if isinstance(value, np.generic) else value
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)  # 2.0 and 2 are the same setting
    return [b"simple", (str(plain) if isinstance(plain, PurePath) else repr(plain)).encode()]


@parts.register
def _(value: bytearray | memoryview, of: Of) -> Parts:
    return [b"simple", repr(bytes(value)).encode()]


@parts.register(slice)
def _(value: slice, of: Of) -> Parts:
    return [b"slice", of(value.start), of(value.stop), of(value.step)]


@parts.register(torch.dtype)
@parts.register(torch.layout)
@parts.register(torch.memory_format)
@parts.register(type(...))
@parts.register(re.Pattern)
@parts.register(uuid.UUID)
@parts.register(datetime.date)
@parts.register(datetime.time)
@parts.register(datetime.timedelta)
@parts.register(datetime.tzinfo)
@parts.register(np.dtype)
@parts.register(np.ufunc)
def _(value: Any, of: Of) -> Parts:
    return [b"simple", repr(value).encode()]


@parts.register(Enum)
def _(value: Enum, of: Of) -> Parts:
    return [b"enum", of(type(value)), value.name.encode()]


@parts.register(type)
@parts.register(types.BuiltinFunctionType)
@parts.register(types.MethodDescriptorType)
def _(value: Any, of: Of) -> Parts:
    return [b"name", value.__qualname__.encode()]


@parts.register(types.ModuleType)
def _(value: types.ModuleType, of: Of) -> Parts:
    return [b"name", value.__name__.encode()]


# These are not settings: a device; an SDE, which is compared by itself; generators, loggers, files and locks,
# which change in use.
@parts.register(SDE)
@parts.register(torch.device)
@parts.register(torch.Generator)
@parts.register(np.random.Generator)
@parts.register(np.random.BitGenerator)
@parts.register(np.random.RandomState)
@parts.register(random.Random)
@parts.register(logging.Logger)
@parts.register(io.IOBase)
@parts.register(type(threading.Lock()))
@parts.register(type(threading.RLock()))
def _(value: Any, of: Of) -> Parts:
    return []


@parts.register(Mapping)
def _(value: Mapping[Any, Any], of: Of) -> Parts:
    return [b"mapping", *sorted(_joined([of(key), of(part)]) for key, part in value.items())]


@parts.register(Set)
def _(value: Set[Any], of: Of) -> Parts:
    return [b"set", *sorted(map(of, value))]


@parts.register(Sequence)
@parts.register(torch.Size)
def _(value: Sequence[Any], of: Of) -> Parts:
    return [b"sequence", *map(of, value)]


@parts.register(np.ndarray)
def _(value: np.ndarray[Any, Any], of: Of) -> Parts:
    if value.dtype.hasobject:
        return [b"array", repr(value.shape).encode(), of(value.ravel().tolist())]
    few = value.ravel()[:: -(-value.size // MOST) or 1]
    return [b"array", repr(value.shape).encode(), value.dtype.str.encode(), few.tobytes()]


@parts.register(Tensor)
def _(value: Tensor, of: Of) -> Parts:
    what = f"{tuple(value.shape)} {value.dtype}".encode()
    if value.is_meta:
        return [b"tensor", what]
    flat = value.detach().to_dense().resolve_conj().resolve_neg().flatten()
    few = flat[:: -(-len(flat) // MOST) or 1].cpu().contiguous()
    few = torch.view_as_real(few) if few.is_complex() else few
    return [b"tensor", what, few.view(torch.uint8).numpy().tobytes()]


@parts.register(nn.Module)
def _(value: nn.Module, of: Of) -> Parts:
    own = {name: part for name, part in vars(value).items() if name[0] != "_"} | value._buffers
    for name in ("training", "dtype", *value._non_persistent_buffers_set):
        own.pop(name, None)
    held = changed_attributes(type(value)).settings(own) | value._parameters
    return [b"module", *_code(type(value), of), _named(held, of), _named(value._modules, of)]


@parts.register(types.FunctionType)
def _(value: types.FunctionType, of: Of) -> Parts:
    cells = dict(zip(value.__code__.co_freevars, value.__closure__ or (), strict=True))
    held = {name: cell.cell_contents for name, cell in cells.items() if _full(cell)}
    code = () if is_library(value) else numbers_and_names(value.__code__)
    said = [value.__qualname__, value.__defaults__, value.__kwdefaults__, code]
    return [b"function", of(said), _named(changed_variables(value).settings(held), of)]


@parts.register(types.MethodType)
def _(value: types.MethodType, of: Of) -> Parts:
    owner, name = value.__self__, value.__name__
    if isinstance(owner, nn.Module | type) or hasattr(type(owner), "__fingerprint__"):
        return [b"method", name.encode(), of(owner)]
    return [b"method", name.encode(), *_object(owner, of, (*ENTRIES, name))]


@parts.register(partial)
def _(value: partial[Any], of: Of) -> Parts:
    return [b"partial", of(value.func), of(value.args), of(value.keywords)]


def _full(cell: types.CellType) -> bool:
    """Does the variable have a value already?"""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
