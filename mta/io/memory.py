"""Memory that is no longer needed, given back to the system.

The C library keeps what was freed for the next to ask: after a burst the process would stay as large as it ever was.
"""

import ctypes


def give_back() -> None:
    """Give back what is free. Milliseconds for some 100 MB, without the GIL; nothing where the C library is not GNU's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(ctypes.c_size_t(0))
