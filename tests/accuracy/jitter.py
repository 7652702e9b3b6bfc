"""MNIST with shifted copies of its training images, for set-ups that were published with jitter.

    python -m tests.accuracy.jitter mnist-jitter.npz
    lab data add mnist-jitter mnist-jitter.npz

Every copy is moved by up to 2 pixels each way, as in Nøkland & Eidnes (2019), who draw the shifts anew in every epoch.
Shifted copies of an image may fall on both sides of the validation split, so its accuracy says nothing here; the test
images are untouched.
"""

from __future__ import annotations

import sys

import numpy as np

from lab.datasets.sources import load

COPIES = 5
REACH = 2


def shifted(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each image of N×H×W×C moved by its own draw of up to `REACH` pixels up, down, left and right; zeros come in."""
    height, width = images.shape[1:3]
    padded = np.pad(images, [(0, 0), (REACH, REACH), (REACH, REACH), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(1, 2))
    down, right = rng.integers(0, 2 * REACH + 1, (2, len(images)))
    return np.moveaxis(windows[np.arange(len(images)), down, right], 1, -1)


def main(path: str) -> None:
    data, rng = load("mnist"), np.random.default_rng(0)
    train_x = np.concatenate([shifted(data.train_x, rng) for _ in range(COPIES)])
    train_y = np.tile(data.train_y, COPIES)
    np.savez(path, train_x=train_x, train_y=train_y, test_x=data.test_x, test_y=data.test_y)


if __name__ == "__main__":
    main(sys.argv[1])
