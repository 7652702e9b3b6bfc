"""JAX as the lab uses it: which device, and where compiled programs are kept between commands."""

from __future__ import annotations

import os
from pathlib import Path

from lab.errors import LabError


def cache_folder() -> Path:
    """The user's cache folder for the lab, by the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "credit-lab"


def prepare(device: str | None = None) -> None:
    """Point JAX at a device and at the persistent compilation cache. Call before anything is computed.

    Raises:
        LabError: JAX finds no such device.
    """
    import jax

    if device:
        # Set before JAX looks for devices, so that a broken driver of another kind is never touched.
        jax.config.update("jax_platforms", {"gpu": "cuda"}.get(device, device))
    # Full float32 products wherever nothing else is asked; training lowers it for itself where --precision says so.
    jax.config.update("jax_default_matmul_precision", "highest")
    jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "compiled"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    try:
        jax.devices()
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise LabError(
            f"JAX finds no {device or 'device'} here ({reason}); leave --device out, or install JAX for it"
        ) from None


def memory() -> int:
    """Bytes of memory of the device that JAX computes on; of the machine, where the device does not say."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
