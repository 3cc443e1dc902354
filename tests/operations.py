"""Operations of torch with one possible result, on any device that follows IEEE 754."""

from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

EXACT = {  # of IEEE 754, of integers, and copies
    "add", "sub", "mul", "div", "sqrt", "abs", "neg", "copysign", "copy", "bitwise_and", "bitwise_xor",
    "bitwise_right_shift", "view", "empty", "empty_like", "detach", "slice", "select", "_to_copy",
}  # fmt: skip


class OnlyExact(TorchDispatchMode):
    """An operation with a result that libraries may round in several ways is an error.

    Among them are fused ones, as addcmul, and a sum with a factor other than 1 and -1.
    """

    def __init__(self, more: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.allowed = EXACT | more
        self.count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = op.overloadpacket.__name__.rstrip("_")
        if name not in self.allowed or abs(kwargs.get("alpha", 1)) != 1:
            raise AssertionError(f"devices may round {op} in several ways")
        self.count += 1
        return op(*args, **kwargs)
