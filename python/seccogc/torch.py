"""Models of PyTorch as the vectors that clients send.

What travels is the module's `state_dict`: parameters, and buffers such as running statistics and counters.
Tensors that share their memory, tied weights, travel once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from seccogc._errors import Error
from seccogc._params import Array, Flat, Params

__all__ = ["dump", "load", "start"]


def start(module: torch.nn.Module) -> dict[str, Array]:
    """The module as the start of a `Learner`: copies of its tensors by name, bfloat16 as float32."""
    found = {}
    for name, tensor in _tensors(module):
        plain = tensor.detach().cpu()
        found[name] = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy().copy()
    return found


def load(module: torch.nn.Module, params: Params) -> None:
    """Writes a model into the module, on whatever device it is: `job.params`, or what `evaluate` is given.

    Whole numbers are rounded.
    """
    with torch.no_grad():
        if isinstance(params, Mapping):
            for name, tensor in _tensors(module):
                if name not in params:
                    raise Error(
                        f"no tensor {name}, which the module has; give the model that was started from"
                    )
                _copy(tensor, params[name])
            return
        for tensor, place in _places(module, len(params)):
            _copy(tensor, params[place])


def dump(module: torch.nn.Module, params: Flat) -> None:
    """Writes the module into the vector of a job (`job.params`), in place."""
    for tensor, place in _places(module, len(params)):
        torch.from_numpy(params[place]).copy_(tensor.detach().reshape(-1))


def _places(module: torch.nn.Module, given: int) -> list[tuple[torch.Tensor, slice]]:
    """The tensors of the state and where they lie in a vector of so many numbers."""
    places, at = [], 0
    for _, tensor in _tensors(module):
        places.append((tensor, slice(at, at + tensor.numel())))
        at += tensor.numel()
    if at != given:
        raise Error(
            f"the module has {at} numbers, and the vector {given}; take the module that was started from"
        )
    return places


def _tensors(module: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of the state in its order, each memory once."""
    seen: set[tuple[Any, ...]] = set()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):
            continue
        if tensor.is_complex():
            raise Error(f"{name} is complex; parameters are real numbers")
        memory = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()))
        if tensor.numel() and memory in seen:
            continue
        seen.add(memory)
        yield name, tensor


def _copy(tensor: torch.Tensor, values: Any) -> None:
    source = torch.from_numpy(np.asarray(values)).reshape(tensor.shape)
    if not tensor.is_floating_point() and source.is_floating_point():
        source = source.round()
    tensor.copy_(source)
