"""Settings of the process and its workers, for programs that own them (the command line), not for library use."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

from .errors import PPDError


def keep_pages() -> None:
    """Ask glibc to keep freed memory: decoding's buffers are large, and fresh pages cost more than the arithmetic."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    except OSError:  # another C library
        pass


@contextmanager
def worker_pool(jobs: int, start: Callable[..., None], *args: Any) -> Iterator[ProcessPoolExecutor]:
    """A pool of single-threaded processes; left by an exception, it ends what is under way at once.

    Args:
        jobs: how many processes.
        start: called with `args` in each process before any task.
        args: for `start`.

    Raises:
        PPDError: a process died.
    """
    context = get_context("spawn")  # a forked torch hangs on its threads
    executor = ProcessPoolExecutor(jobs, context, initializer=_start_worker, initargs=(start, args))
    try:
        with _no_interrupts():
            for _ in range(jobs):  # while none has started up yet, each task starts another process
                executor.submit(os.getpid)
        yield executor
    except BrokenProcessPool:
        raise PPDError(
            "A worker process died, perhaps for want of memory; go on with the same command, --resume where it has "
            "that, and fewer --jobs."
        ) from None
    except BaseException:
        for process in list((executor._processes or {}).values()):
            process.terminate()
        raise
    finally:
        executor.shutdown()


def in_order(workers: ProcessPoolExecutor, work: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """What `work` gives for each task, in the order of the tasks."""
    # Not `map`: where it is interrupted it cancels the other tasks, which a pool that ends at once can't cope with.
    for future in [workers.submit(work, task) for task in tasks]:
        yield future.result()


def _start_worker(start: Callable[..., None], args: tuple[Any, ...]) -> None:
    import torch

    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    keep_pages()
    start(*args)


def _leave_with_parent() -> None:
    """A parent that is killed can't end its pool; without this the processes would wait for ever."""
    parent = parent_process()
    assert parent is not None, "not in a pool's process"
    parent.join()
    os._exit(1)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Processes that are started inside ignore ctrl-C from their first moment: it is the parent's to handle."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may change what signals do
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
