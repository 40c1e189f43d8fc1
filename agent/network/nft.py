"""nftables through libnftables: text commands, one transaction a call, in the namespace of the opening thread."""

from __future__ import annotations

import ctypes
import threading

from cluster.errors import Failed, Unavailable

_LIBRARY = "libnftables.so.1"
_WITH_HANDLES = 1 << 3


class Nftables:
    """One kept context, for a fresh one reads the whole ruleset first. Opened and used in the node's namespace."""

    def __init__(self) -> None:
        try:
            library = ctypes.CDLL(_LIBRARY)
        except OSError as error:
            raise Unavailable(
                f"{_LIBRARY} cannot be loaded: {error}", hint="install the package libnftables1"
            ) from error
        library.nft_ctx_new.restype = ctypes.c_void_p
        library.nft_ctx_new.argtypes = [ctypes.c_uint32]
        library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
        for name in ("nft_ctx_free", "nft_ctx_buffer_output", "nft_ctx_buffer_error"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
            getattr(library, name).restype = ctypes.c_char_p
        self._library = library
        self._lock = threading.Lock()
        self._context: int | None = library.nft_ctx_new(0)
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)

    def run(self, commands: str, *, handles: bool = False) -> str:
        """Do all of the commands or none, and return what they print, with the numbers of rules if told.

        Raises Failed with nft's own message.
        """
        with self._lock:
            self._library.nft_ctx_output_set_flags(self._context, _WITH_HANDLES if handles else 0)
            failed = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
            printed: bytes = self._library.nft_ctx_get_output_buffer(self._context) or b""
            errors: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b""
        if failed:
            raise Failed(f"nftables refused: {errors.decode(errors='replace').strip()}")
        return printed.decode()

    def close(self) -> None:
        with self._lock:
            if self._context is not None:
                self._library.nft_ctx_free(self._context)
                self._context = None
