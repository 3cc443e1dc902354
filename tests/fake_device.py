"""An imitation on the CPU of a device without float64, for example an Apple GPU.

A tensor on this device holds a tensor on the CPU, which does every operation. The result stays on the device.
An operation raises an error if a result or operand is float64, or if an operand is on another device and is
not a single number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("meta")  # torch has it on every machine, and no other code here uses it
HOST = torch.device("cpu")


class OnDevice(Tensor):
    """A tensor that says it is on the device."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        if held.dtype == torch.float64:
            raise TypeError("the device has no float64")
        self = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=held.requires_grad,
        )
        self.held = held
        return self

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnDevice({self.held})"

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("only a tensor of the host is an array of numpy")

    @classmethod
    def __torch_dispatch__(cls, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(op, args, kwargs or {})


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return carried_out(op, args, kwargs or {})


class _Made(TorchFunctionMode):
    """What torch makes of numbers without an operation that could be seen."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is Tensor.new_tensor and isinstance(args[0], OnDevice):
            function, kwargs = torch.tensor, {"dtype": args[0].dtype, "device": DEVICE} | kwargs
            args = args[1:]
        if (
            function in (torch.tensor, torch.as_tensor)
            and torch.device(kwargs.get("device") or HOST) == DEVICE
        ):
            return function(*args, **kwargs | {"device": HOST}).to(DEVICE)
        return function(*args, **kwargs)


@contextmanager
def with_device() -> Iterator[None]:
    """While it lasts, the device is there."""
    with _Operations(), _Made():
        yield


def carried_out(op: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation on either device."""
    asked = kwargs.get("device")
    operands = [value for value in tree_iter((args, kwargs)) if isinstance(value, Tensor)]
    assert all(isinstance(value, OnDevice) or value.device == HOST for value in operands), f"{op}: unseen"
    ours = any(isinstance(value, OnDevice) for value in operands)
    moves = op.overloadpacket in (torch.ops.aten.copy_, torch.ops.aten._to_copy)
    indexes = op.overloadpacket in (torch.ops.aten.index, torch.ops.aten.index_put_)
    if ours and not moves:
        for value in args[:1] if indexes else operands:
            if not isinstance(value, OnDevice) and value.ndim:
                raise RuntimeError(f"{op}: tensors on two devices")
    elif indexes and any(isinstance(value, OnDevice) for value in operands):
        raise RuntimeError(f"{op}: indices are on a device, and what is indexed is not")
    wanted = kwargs.get("dtype", operands[0].dtype if operands else None)
    if moves and wanted == torch.float64 and isinstance(operands[-1], OnDevice):
        raise TypeError("the device has no float64, and a type is changed before a tensor is moved")
    if asked is not None:
        ours = torch.device(asked).type == DEVICE.type
        kwargs = kwargs | {"device": HOST}
    args, kwargs = tree_map(
        lambda value: value.held if isinstance(value, OnDevice) else value, (args, kwargs)
    )
    result = op(*args, **kwargs)
    known = {id(value.held): value for value in operands if isinstance(value, OnDevice)}  # of work in place

    def placed(value: Any) -> Any:
        if not (ours and isinstance(value, Tensor)):
            return value
        return known[id(value)] if id(value) in known else OnDevice(value)

    return tree_map(placed, result)
