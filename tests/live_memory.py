"""The memory of the tensors that a piece of code makes: counted, so equal in every run."""

from typing import Any

from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class LiveMemory(TorchDispatchMode):
    """While it lasts: the bytes of all new tensors that are alive, their ``peak``, and the ``operations``."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.old: set[int] = set()
        self.peak = self.operations = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for value in tree_iter((args, kwargs)):  # what was there before is not counted
            if isinstance(value, Tensor) and id_of(value) not in self.alive:
                self.old.add(id_of(value))
        result = op(*args, **kwargs)
        for value in tree_iter(result):
            if isinstance(value, Tensor) and id_of(value) not in self.old:
                storage = value.untyped_storage()
                self.alive[id_of(value)] = StorageWeakRef(storage), storage.nbytes()
        self.alive = {key: one for key, one in self.alive.items() if not one[0].expired()}
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        self.operations += 1
        return result


def id_of(x: Tensor) -> int:
    return int(x.untyped_storage()._cdata)
