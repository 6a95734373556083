"""The page on the environments: its pictures are made by the script, and its examples run."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jumpy_mbrl.commands import main
from jumpy_mbrl.lab import pictures

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "environments.md"


def linked() -> set[str]:
    pages = (PAGE, PAGE.with_name("architecture.md"))
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    return set(re.findall(r"\(images/([^)]+)\)", text))


def test_the_pages_show_every_picture_that_is_made_and_no_other(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert main.run("make-pictures", ["--out", str(out)]) == 0
    made = {path.name: path for path in out.iterdir()}
    assert set(made) == linked()
    assert {path.name for path in (ROOT / "docs" / "images").iterdir()} >= linked()
    for path in made.values():
        assert path.stat().st_size < 150_000
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert len(picture.convert("RGB").getcolors(2**24) or []) > 4  # not empty


def test_pictures_are_drawn_the_same_each_time() -> None:
    for kind in pictures.KINDS:
        first, second = (pictures.draw("Billiards2D-v0", kind) for _ in range(2))
        np.testing.assert_array_equal(first, second)


def test_pixels_are_enlarged_and_nothing_else() -> None:
    small = np.random.default_rng(0).integers(0, 256, (28, 28, 1), dtype=np.uint8)
    large = pictures.enlarge(small, 256)
    assert large.shape == (252, 252, 3)
    np.testing.assert_array_equal(large[4::9, 4::9], np.broadcast_to(small, (28, 28, 3)))


@pytest.mark.filterwarnings("default")  # of other packages, in the example with SB3
def test_the_examples_of_the_page_run() -> None:
    failed, tried = doctest.testfile(str(PAGE), module_relative=False)
    assert tried > 10
    assert failed == 0
