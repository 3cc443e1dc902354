"""Tasks in parallel processes with one thread each; the processes end with the program."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from typing import Any, TypeVar

import torch

R = TypeVar("R")


def spread(work: Callable[..., R], tasks: Sequence[tuple[Any, ...]], jobs: int) -> Iterator[R]:
    """``work(*task)`` of every task, in the order in which they end; with one job, in this process, in order.

    After Ctrl-C the processes end at once.
    """
    if jobs == 1:
        yield from (work(*task) for task in tasks)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), spawn, torch.set_num_threads, (1,)) as pool:
        with _not_interrupted():
            futures = [pool.submit(work, *task) for task in tasks]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
                process.join()
            raise


@contextmanager
def _not_interrupted() -> Iterator[None]:
    """Processes that start here ignore Ctrl-C; each would print a traceback."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
