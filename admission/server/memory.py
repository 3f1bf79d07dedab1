"""Gives memory back after a flood: glibc keeps what large reviews and many connections had, until it is told."""

import asyncio
import ctypes
from typing import Final

EVERY_SECONDS: Final = 60.0

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc alone has it


async def give_back(every: float = EVERY_SECONDS) -> None:
    """Gives back what is free, for ever; a moment's work where there is nothing."""
    while _trim is not None:
        await asyncio.sleep(every)
        _trim(0)
