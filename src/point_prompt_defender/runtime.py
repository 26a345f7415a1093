"""Settings of the process, for programs that own it (the command line, worker processes), not for library use."""

from __future__ import annotations

import ctypes


def keep_pages() -> None:
    """Ask glibc to keep freed memory: decoding's buffers are large, and fresh pages cost more than the arithmetic."""
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 1 << 30)  # M_TRIM_THRESHOLD
    except OSError:  # another C library
        pass
