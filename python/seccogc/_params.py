"""Parameters of a model: arrays in some structure, as one vector."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from seccogc import _native
from seccogc._errors import Error

#: An array, or mappings and sequences of arrays: whatever NumPy takes, in a structure that stays the same.
Params: TypeAlias = Any
Flat: TypeAlias = npt.NDArray[np.float32]
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def single(vector: _native.Vector) -> Flat:
    """A vector of the native side as an array, of the same memory."""
    return np.frombuffer(memoryview(vector), dtype=np.float32)


@dataclass(frozen=True)
class Leaf:
    """One array of a structure."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    start: int
    stop: int


class Layout:
    """Where the arrays of a structure lie in one vector of float32.

    Numbers of half precision (float16, bfloat16) are exact in it, those of double precision are rounded;
    whole numbers and truth values are averaged like others, and rounded when they are read.
    """

    def __init__(self, params: Params) -> None:
        self._example = _shape_of(params)
        leaves, at = [], 0
        for name, array in _leaves(params, ""):
            leaves.append(Leaf(name, array.shape, array.dtype, at, at + array.size))
            at += array.size
        if not at:
            raise Error("the parameters hold no number; give at least one array that is not empty")
        self.leaves: tuple[Leaf, ...] = tuple(leaves)
        self.size = at

    @property
    def layers(self) -> list[tuple[str, tuple[int, ...]]]:
        """Names and shapes in their order."""
        return [(leaf.name, leaf.shape) for leaf in self.leaves]

    def write(self, params: Params, flat: Flat) -> None:
        """Writes parameters of the same structure into the vector."""
        for leaf, (name, array) in zip(self.leaves, _same(self.leaves, params), strict=True):
            if array.shape != leaf.shape:
                raise Error(f"{name} has the shape {array.shape}, and {leaf.shape} at the start; keep it")
            flat[leaf.start : leaf.stop] = array.reshape(-1)

    def views(self, flat: Flat) -> Params:
        """The structure, of writable views of the vector."""
        return _fill(
            self._example, iter([flat[leaf.start : leaf.stop].reshape(leaf.shape) for leaf in self.leaves])
        )

    def read(self, flat: Flat) -> Params:
        """The structure with the types of the start: views of the vector for float32, else copies."""
        return _fill(
            self._example, iter([_typed(flat[leaf.start : leaf.stop], leaf) for leaf in self.leaves])
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and self.leaves == other.leaves


def _typed(values: Flat, leaf: Leaf) -> Array:
    if leaf.dtype.kind in "iub":
        with np.errstate(invalid="ignore"):
            values = np.rint(values)
    typed: Array = values.astype(leaf.dtype, copy=False)
    return typed.reshape(leaf.shape)


def _same(leaves: Sequence[Leaf], params: Params) -> list[tuple[str, Array]]:
    found = list(_leaves(params, ""))
    names, expected = [name for name, _ in found], [leaf.name for leaf in leaves]
    if names == expected:
        return found
    by_name = dict(found)
    if len(by_name) == len(found) == len(leaves) and by_name.keys() == set(expected):
        # Mappings are equal in any order, and pytrees of JAX sort theirs.
        return [(name, by_name[name]) for name in expected]
    missing = [name for name in expected if name not in names]
    new = [name for name in names if name not in expected]
    what = f"{missing[0]} is missing" if missing else f"{new[0]} is new" if new else "another order"
    raise Error(f"parameters of another structure than at the start ({what}); keep it")


def _is_sequence(value: object) -> bool:
    """Whether it is a sequence of arrays; one of numbers is an array."""
    return isinstance(value, (list, tuple)) and not all(isinstance(one, (int, float)) for one in value)


def _leaves(params: Params, path: str) -> Iterator[tuple[str, Array]]:
    if isinstance(params, Mapping):
        inner = list(params.items())
    elif _is_sequence(params):
        inner = list(enumerate(params))
    else:
        name = path or "params"
        yield name, _array(params, name)
        return
    for key, value in inner:
        name = f"{path}.{key}" if path else str(key)
        # Most of a model, and nothing to ask of it.
        if type(value) is np.ndarray and value.dtype.kind in "fiub":
            yield name, value
        else:
            yield from _leaves(value, name)


def _shape_of(params: Params) -> Params:
    """The structure without its arrays."""
    if isinstance(params, Mapping):
        return {key: _shape_of(value) for key, value in params.items()}
    if _is_sequence(params):
        return _like(params, [_shape_of(value) for value in params])
    return None


def _fill(example: Params, arrays: Iterator[Array]) -> Params:
    if isinstance(example, dict):
        return {key: _fill(value, arrays) for key, value in example.items()}
    if isinstance(example, (list, tuple)):
        return _like(example, [_fill(value, arrays) for value in example])
    return next(arrays)


def _like(sequence: Any, inner: list[Any]) -> Params:
    """A list, a tuple or a named tuple, as the other is."""
    if isinstance(sequence, list):
        return inner
    return type(sequence)(*inner) if hasattr(sequence, "_fields") else tuple(inner)


def _array(value: Any, name: str) -> Array:
    device = getattr(getattr(value, "device", None), "type", "cpu")
    if device != "cpu":
        raise TypeError(f"{name} lies on the device {device}; hand over a copy on the CPU, e.g. by .cpu()")
    if hasattr(value, "detach"):
        value = value.detach()
        if str(value.dtype) == "torch.bfloat16":
            value = value.float()
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" and not array.dtype.name.startswith(("bfloat16", "float8")):
        raise Error(f"{name} holds {array.dtype}; parameters are real numbers")
    return array
