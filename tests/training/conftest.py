"""A small data set of the user's own, stores, and a cache of compiled programs that ends with the session."""

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from lab.datasets.user_sets import add
from lab.request import Wish, make_request
from runs import Store


@pytest.fixture(scope="session", autouse=True)
def compiled_once(tmp_path_factory):
    """Runs of one request compile the same programs; `XDG_CACHE_HOME` hands the cache to commands in a subprocess."""
    home = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        settings = {
            "jax_compilation_cache_dir": str(home / "credit-lab" / "compiled"),
            "jax_persistent_cache_min_compile_time_secs": 0.0,
            "jax_persistent_cache_min_entry_size_bytes": 0,
        }
        before = {name: getattr(jax.config, name) for name in settings}
        for name, value in settings.items():
            jax.config.update(name, value)
        yield
        for name, value in before.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()


@pytest.fixture(scope="session", autouse=True)
def blobs(tmp_path_factory):
    """The data set `blobs`: three clusters in eight dimensions, 72 training rows of which 12 are for validation."""
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    arrays = {}
    for half, n in (("train", 72), ("test", 30)):
        y = np.arange(n) % 3
        arrays |= {f"x_{half}": (np.eye(3, 8)[y] + 0.3 * rng.normal(size=(n, 8))).astype(np.float32), f"y_{half}": y}
    np.savez(folder / "made.npz", **arrays)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_DATA", str(folder / "kept"))
        add("blobs", folder / "made.npz")
        yield folder / "kept"


@pytest.fixture(autouse=True)
def precision_as_before():
    """`train` sets the precision of matrix products for the whole process."""
    before = jax.config.jax_default_matmul_precision
    yield
    jax.config.update("jax_default_matmul_precision", before)


@pytest.fixture
def ask():
    """A request on the small data set: six batches of ten per epoch."""

    def ask(**said):
        small = {"data": "blobs", "arch": "mlp(6,5)", "optimizer": "adam(0.01)", "epochs": 3, "batch": 10, "seeds": "2"}
        return make_request(Wish(**small | said), [])

    return ask


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "results")
