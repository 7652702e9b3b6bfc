"""All pairs at once give what each pair alone gives, in whatever memory, and clean up after themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probes import PROBES
from probes.all_pairs import SCRATCH, Shelf, _blockwise, all_pairs, bytes_of, prepare_all, products
from probes.probe import PairProbe, ProbeError, Undefined

PAIR_PROBES = sorted(name for name, make in PROBES.items() if isinstance(make(), PairProbe))
WHOLE, TIGHT = 2**30, 2**16


def representations(n=60, m=5):
    """Related representations of different widths; the last is constant."""
    shared = np.random.default_rng(0).standard_normal((n, 4))
    made = []
    for seed in range(m - 1):
        rng = np.random.default_rng(seed + 1)
        made.append(np.maximum(shared @ rng.standard_normal((4, 6 + seed)) + rng.standard_normal((n, 6 + seed)), 0))
    return [*made, np.ones((n, 3))]


def one_by_one(probe, prepared):
    values = [[probe.value(x, y) for y in prepared] for x in prepared]
    return np.array([[np.nan if isinstance(v, Undefined) else v for v in row] for row in values])


@pytest.mark.parametrize("memory", [WHOLE, TIGHT])
@pytest.mark.parametrize("name", PAIR_PROBES)
def test_all_pairs_are_what_each_pair_gives(name, memory, tmp_path):
    """To 1e-12: sums of a few thousand products in another order. TIGHT holds no two representations beside a block, so
    they go through the disk in groups."""
    probe = PROBES[name]()
    prepared = [probe.prepare(X) for X in representations()]
    found = all_pairs(probe, iter(prepared), memory=memory, folder=tmp_path)
    np.testing.assert_allclose(found, one_by_one(probe, prepared), rtol=1e-12, atol=1e-12)
    assert np.isnan(found[-1]).all()
    assert np.isfinite(found[:-1, :-1]).all()
    assert not list(tmp_path.iterdir())


def test_little_memory_really_uses_the_disk_and_small_blocks(tmp_path):
    probe = PROBES["debiased-cka"]()
    prepared = [probe.prepare(np.random.default_rng(seed).standard_normal((300, 20))) for seed in range(4)]
    with Shelf(iter(prepared), 100_000, tmp_path) as shelf:
        assert shelf.full
        assert len(list(tmp_path.glob("*/*.npy"))) == 6  # two arrays each; the first alone fits
        np.testing.assert_array_equal(shelf[3].arrays[0], prepared[3].arrays[0])
    assert not list(tmp_path.iterdir())
    blocks = []
    counted = probe._replace(matrix=lambda p, rows, columns: blocks.append(rows) or probe.matrix(p, rows, columns))
    products(counted, prepared, memory=2 * 8 * 4 * 300 * 50)
    assert {rows.stop - rows.start for rows in blocks} == {50}


@pytest.mark.parametrize("name", ["debiased-cka", "linear-cka", "mutual-knn", "rsa"])
def test_an_accelerator_computes_the_same(name):
    """Its path, run by JAX on this machine's processor in float64."""
    probe = PROBES[name]()
    prepared = [probe.prepare(X) for X in representations()[:-1]]
    with jax.enable_x64(True):
        for right in (None, prepared[2:]):
            found = np.asarray(_blockwise(jnp, probe, prepared, right, TIGHT))
            np.testing.assert_allclose(found, _blockwise(np, probe, prepared, right, TIGHT), rtol=1e-12)


def test_what_cannot_be_compared_is_refused_before_anything_is_computed(tmp_path):
    probe = PROBES["debiased-cka"]()
    prepared = [probe.prepare(np.random.default_rng(0).standard_normal((n, 5))) for n in (40, 40, 41)]
    with pytest.raises(ProbeError, match="40 and 41 rows"):
        all_pairs(probe, prepared, memory=TIGHT, folder=tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_error_while_preparing_leaves_no_files(tmp_path):
    probe = PROBES["debiased-cka"]()
    arrays = [np.random.default_rng(0).standard_normal((60, 5)), np.full((60, 5), np.nan)]
    with pytest.raises(ProbeError, match="non-finite"):
        all_pairs(probe, prepare_all(probe, arrays), memory=1, folder=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("memory", "at_once"), [(1, 1), (2 * SCRATCH * 40**2, 2), (2**30, 3)])
def test_preparing_keeps_the_order_and_never_more_than_memory_allows(memory, at_once, monkeypatch):
    monkeypatch.setattr("probes.all_pairs.CORES", 3)
    probe = PROBES["rsa"]()
    arrays = [np.random.default_rng(i).standard_normal((40, 5)) for i in range(7)]
    taken = []
    made = prepare_all(probe, (taken.append(i) or X for i, X in enumerate(arrays)), memory)
    for i, (X, found) in enumerate(zip(arrays, made, strict=True)):
        assert len(taken) - i <= at_once
        np.testing.assert_array_equal(found.arrays[0], probe.prepare(X).arrays[0])


@pytest.mark.parametrize(
    ("text", "size"), [("3GB", 3 * 10**9), ("512MiB", 2**29), ("1.5 gb", 15 * 10**8), ("2000000", 2 * 10**6)]
)
def test_amounts_of_memory(text, size):
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "3TB", "1KB", "nan"])
def test_what_is_no_amount_of_memory_is_refused(text):
    with pytest.raises(ProbeError, match=r"GB|MiB"):
        bytes_of(text)
