"""The sets the lab knows by name: where they officially come from and how a right file is told from a wrong one."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class File:
    """One official file. `name` as published; `md5` of the file as published; `sha256` of what it decompresses to.

    shape: of the uint8 array within, for IDX files; None for an archive.
    """

    name: str
    url: str
    md5: str
    sha256: str | None = None
    shape: tuple[int, ...] | None = None

    @property
    def plain_name(self) -> str | None:
        """The name without `.gz`, for files that are also usable decompressed (IDX); None for an archive."""
        return None if self.shape is None else self.name.removesuffix(".gz")


@dataclass(frozen=True)
class Source:
    """A known data set. `train` and `test` count examples; `shape` is `(H, W, C)` of one.

    files: IDX sets list train images, train labels, test images, test labels, in this order.
    system_folder: where an operating-system package installs the same files, when one does.
    """

    name: str
    title: str
    licence: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    files: tuple[File, ...]
    packaged: bool = False
    system_folder: Path | None = None


def _idx_files(base: str, md5: tuple[str, ...], sha256: tuple[str | None, ...]) -> tuple[File, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    shapes = ((60000, 28, 28), (60000,), (10000, 28, 28), (10000,))
    return tuple(
        File(f"{name}-ubyte.gz", f"{base}{name}-ubyte.gz", m, s, shape)
        for name, m, s, shape in zip(names, md5, sha256, shapes, strict=True)
    )


_KNOWN = (
    Source(
        "mnist",
        "handwritten digits",
        "commonly given as CC BY-SA 3.0; see MNIST-ATTRIBUTION.md",
        60000,
        10000,
        (28, 28, 1),
        10,
        _idx_files(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            (
                "f68b3c2dcbeaaa9fbdd348bbdeb94873",
                "d53e105ee54ea40749a09fcbcd1e9432",
                "9fb629c4189551a2d022fa330f9573f3",
                "ec29112dd5afa0611ce80d1b7f02629c",
            ),
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
        ),
        packaged=True,
    ),
    Source(
        "fashion-mnist",
        "photographs of clothing",
        "MIT",
        60000,
        10000,
        (28, 28, 1),
        10,
        _idx_files(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            (
                "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
                "25c81989df183df01b3e8a0aad5dffbe",
                "bef4ecab320f06d8554ea6380940ec79",
                "bb300cfdad3c16e7a12a480ee83cd310",
            ),
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        system_folder=Path("/usr/share/datasets/fashion-mnist"),
    ),
    Source(
        "kmnist",
        "handwritten cursive Japanese",
        "CC BY-SA 4.0",
        60000,
        10000,
        (28, 28, 1),
        10,
        _idx_files(
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            (
                "bdb82020997e1d708af4cf47b453dcf7",
                "e144d726b3acfaa3e44228e80efcd344",
                "5c965bf0a639b31b8f53240b1b52f4d7",
                "7320c461ea6c1c855c0b718fb2a4b134",
            ),
            (None, None, None, None),
        ),
    ),
    Source(
        "cifar10",
        "small colour photographs",
        "none stated by its authors",
        50000,
        10000,
        (32, 32, 3),
        10,
        (
            File(
                "cifar-10-python.tar.gz",
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "c58f30108f718f92721af3b95e74349a",
            ),
        ),
    ),
)

DATASETS: dict[str, Source] = {source.name: source for source in _KNOWN}
"""Known sets by name, in the order in which they are listed."""
