"""Fixtures of the data tests: a data folder of their own, MNIST read once, small stand-ins for what is fetched."""

from dataclasses import replace

import pytest
from stand_ins import small_idx_set

from lab.datasets.sources import load
from lab.datasets.table import DATASETS


@pytest.fixture(autouse=True)
def data_home(tmp_path, monkeypatch):
    """No test may see, or write to, the data folder of whoever runs it."""
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(autouse=True)
def no_system_sets(monkeypatch):
    source = DATASETS["fashion-mnist"]
    monkeypatch.setitem(DATASETS, "fashion-mnist", replace(source, system_folder=None))


@pytest.fixture(scope="session")
def mnist():
    return load("mnist")


@pytest.fixture
def fashion(monkeypatch, tmp_path):
    return small_idx_set(monkeypatch, tmp_path / "downloads", "fashion-mnist")


@pytest.fixture
def kmnist(monkeypatch, tmp_path):
    return small_idx_set(monkeypatch, tmp_path / "downloads", "kmnist", hashed=False)
