"""What lies on disk: exact width, TrueType fonts, the same bytes every time, the table, and where it came from."""

import csv
import json
import re

import pytest
from tables import comparison, metrics, spectra

from lab.errors import LabError, UsageError
from lab.figures import layers, learning, similarity, spectrum
from lab.figures.save import save
from lab.figures.style import STYLES

ORIGIN = {"figure": "layers", "runs": ["bp-1", "fa-2"], "command": "lab figure layers bp fa"}


def drawn_layers(style=STYLES["neurips"]):
    return layers.draw(*comparison(seeds=3), style)


def test_pdf_has_the_exact_width_and_truetype_fonts(style, tmp_path):
    drawn = spectrum.draw(*spectra(layers=(("dense1", 20), ("dense2", 10))), style, 100)  # has text and mathematics
    data = save(drawn, tmp_path / "a.pdf", ORIGIN)[0].read_bytes()
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", data)
    assert float(box[1]) == pytest.approx(72 * style.width_in, abs=1e-3)
    assert b"/FontFile2" in data  # TrueType, embedded
    assert b"/Type3" not in data
    assert b"/CreationDate" not in data


def test_every_figure_is_the_same_bytes_each_time(tmp_path):
    makers = {
        "similarity.pdf": lambda: similarity.draw(*comparison(seeds=2, layers=("dense1",)), STYLES["icml"]),
        "layers.pdf": lambda: layers.draw(*comparison(seeds=3, layers=("dense1",)), STYLES["icml"]),
        "layers.svg": lambda: layers.draw(*comparison(seeds=3, layers=("dense1",)), STYLES["icml"]),
        "learning.pdf": lambda: learning.draw(metrics(layers=("dense1",)), STYLES["icml"]),
        "spectrum.pdf": lambda: spectrum.draw(*spectra(layers=(("dense1", 20),)), STYLES["icml"], 100),
    }
    for name, make in makers.items():
        first, second = (save(make(), tmp_path / f"{i}{name}", ORIGIN)[0] for i in range(2))
        assert first.read_bytes() == second.read_bytes()


def test_png_has_the_width_at_300_dots_per_inch(tmp_path):
    path, *_ = save(drawn_layers(), tmp_path / "a.png", ORIGIN)
    assert int.from_bytes(path.read_bytes()[16:20], "big") == 1650


def test_svg_keeps_text_as_text(tmp_path):
    path, *_ = save(drawn_layers(), tmp_path / "a.svg", ORIGIN)
    assert "within-class null</text>" in path.read_text()


def test_table_on_disk_is_the_table_drawn_bit_for_bit(tmp_path):
    pairs, rows = comparison(seeds=3)
    _, table, _ = save(similarity.draw(pairs, rows, STYLES["neurips"]), tmp_path / "a.pdf", ORIGIN)
    lines = list(csv.DictReader(table.read_text().splitlines()))
    assert [float(line["value"]) for line in lines] == pairs["value"].tolist()
    assert list(lines[0]) == list(pairs.columns)


def test_sidecar_says_where_the_figure_came_from(tmp_path):
    drawn = drawn_layers()
    files = save(drawn, tmp_path / "a.pdf", ORIGIN)
    assert [file.name for file in files] == ["a.pdf", "a.csv", "a.json"]
    note = json.loads(files[2].read_text())
    assert note.items() >= ORIGIN.items()
    assert note["caption"] == drawn.caption
    assert (note["style"], note["width_in"]) == ("neurips", 5.5)
    assert note["files"] == {"figure": "a.pdf", "table": "a.csv"}
    assert {"credit-lab", "matplotlib"} <= set(note["versions"])
    assert b"bp-1, fa-2" in files[0].read_bytes()


def test_nothing_half_written_is_left(tmp_path):
    save(drawn_layers(), tmp_path / "a.pdf", ORIGIN)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.pdf"]


def test_wrong_paths_are_one_line_each(tmp_path):
    with pytest.raises(UsageError, match=r"\.pdf, \.png, \.svg"):
        save(drawn_layers(), tmp_path / "a.jpg", ORIGIN)
    with pytest.raises(LabError, match="no folder") as missing:
        save(drawn_layers(), tmp_path / "none" / "a.pdf", ORIGIN)
    assert missing.value.exit_code == 1
    (tmp_path / "b.pdf").mkdir()
    with pytest.raises(LabError, match=r"cannot write .*b\.pdf") as refused:
        save(drawn_layers(), tmp_path / "b.pdf", ORIGIN)
    assert "\n" not in refused.value.message
    assert not (tmp_path / "none").exists()
