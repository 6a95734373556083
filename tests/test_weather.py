"""The weather of Jena: files that cannot be trusted, fair parts, and a plausible stand-in."""

from __future__ import annotations

import datetime
import re
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jumpy_mbrl.data import weather
from jumpy_mbrl.data.seeds import SPLITS
from jumpy_mbrl.data.weather import (
    DAY,
    FEATURES,
    SOURCE,
    YEAR,
    Weather,
    make_weather,
    read_weather,
    weather_scaling,
    weather_sequences,
)

HEADER = [
    "Date Time", "p (mbar)", "T (degC)", "Tpot (K)", "Tdew (degC)", "rh (%)", "VPmax (mbar)",
    "VPact (mbar)", "VPdef (mbar)", "sh (g/kg)", "H2OC (mmol/mol)", "rho (g/m**3)", "wv (m/s)",
    "max. wv (m/s)", "wd (deg)",
]  # fmt: skip
DATE, PRESSURE, TEMPERATURE, DENSITY, WIND = 0, 1, 2, 11, 12


def synthetic(days: float, seed: int = 0) -> Weather:
    return make_weather(days, np.random.default_rng(seed))


def seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text + "+00:00").timestamp()


def table_of(weather: Weather) -> list[list[str]]:
    """The cells of the real file, header first, with its marks for no wind."""
    table = [list(HEADER)]
    for moment, (temperature, pressure, density) in zip(weather.time, weather.values, strict=True):
        cells = ["1.00"] * len(HEADER)
        date = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        cells[DATE] = date.strftime("%d.%m.%Y %H:%M:%S")
        cells[PRESSURE], cells[TEMPERATURE] = f"{pressure:.2f}", f"{temperature:.2f}"
        cells[DENSITY], cells[WIND] = f"{density:.2f}", "-9999.00"
        table.append(cells)
    return table


def write(path: Path, table: list[list[str]], end: str = "\n") -> Path:
    """Writes a table as the real file is: the header in quotes, the rest not."""
    lines = [",".join(f'"{name}"' for name in table[0]), *(",".join(row) for row in table[1:])]
    path.write_bytes((end.join(lines) + end).encode())
    return path


def ramp(days: float) -> Weather:
    """Weather that gets one degree warmer a day, so that a pause shows as a step."""
    weather = synthetic(days)
    values = weather.values.copy()
    values[:, 0] = -50 + (weather.time - weather.time[0]) / DAY
    return Weather(weather.time, values)


def without(weather: Weather, begin: float, end: float) -> Weather:
    """The weather without what was measured strictly between two moments."""
    keep = (weather.time <= begin) | (weather.time >= end)
    return Weather(weather.time[keep], weather.values[keep])


def restored(weather: Weather, part: Any, **options: Any) -> np.ndarray:
    """Sequences in their units."""
    scaling = weather_scaling(weather, **{k: v for k, v in options.items() if k != "stride"})
    return scaling.restore(weather_sequences(weather, part, **options))


# Reading


@pytest.fixture(scope="module")
def day() -> Weather:
    return synthetic(1)


Change = Callable[[list[list[str]]], object]


def put(row: int, column: int, text: str) -> Change:
    """A change of one cell; rows count from 1, the header."""
    return lambda table: table[row - 1].__setitem__(column, text)


def other_columns(table: list[list[str]]) -> None:
    table[:] = [
        ["rain (mm)", row[DENSITY], row[TEMPERATURE], row[DATE], row[PRESSURE]] for row in table
    ]


def repeat(table: list[list[str]]) -> None:
    other = [*table[50]]
    other[TEMPERATURE] = "33.00"
    table[91:91] = [*table[41:91], other]


@pytest.mark.parametrize("change", [len, other_columns, repeat])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_what_is_written_is_read(change: Change, end: str, day: Weather, tmp_path: Path) -> None:
    table = table_of(day)
    change(table)
    path = write(tmp_path / "jena.csv", table, end)
    if end == "\r\n":  # of other systems, with a mark and an empty line
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes() + b"\r\n")
    with zipfile.ZipFile(tmp_path / "jena.csv.zip", "w") as archive:
        archive.write(path, "folder/jena.csv")
        archive.writestr("__MACOSX/._jena.csv", b"\x00")
        archive.writestr("readme.txt", "hello")
    for source in (path, tmp_path / "jena.csv.zip"):
        read = read_weather(source)
        np.testing.assert_array_equal(read.time, day.time)
        np.testing.assert_allclose(read.values, day.values, atol=0.0051)
        assert read.time.dtype == read.values.dtype == np.float64


def test_the_first_row_of_the_real_file(tmp_path: Path) -> None:
    first = "01.01.2009 00:10:00,996.52,-8.02,265.40,-8.90,93.30,3.33,3.11,0.22,1.94,3.12,1307.75"
    rows = [f"{first},1.03,1.75,152.30".split(",") for _ in range(2)]
    rows[1][DATE] = "31.12.2016 23:50:01"
    weather = read_weather(write(tmp_path / "jena.csv", [HEADER, *rows]))
    assert weather.time.tolist() == [seconds("2009-01-01T00:10:00"), seconds("2016-12-31T23:50:01")]
    assert weather.values.tolist() == [[-8.02, 996.52, 1307.75]] * 2


def test_a_missing_file_is_described(tmp_path: Path) -> None:
    for path in (tmp_path / "jena.csv", tmp_path):
        with pytest.raises(ValueError, match=f"there is no {re.escape(str(path))};") as error:
            read_weather(path)
        assert "tf-keras-datasets/jena_climate_2009_2016.csv.zip" in str(error.value)
        assert "https://www.bgc-jena.mpg.de/wetter/" in str(error.value)
        assert "unpack it" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put(1, TEMPERATURE, "T"), r"columns \['T \(degC\)'\] in row 1 \(the header\)"),
        (
            lambda table: table.clear() or table.append([]),
            r"columns \['Date Time', 'T .*, 'p .*, 'rho .*got \[\]",
        ),
        (
            lambda table: table[6].pop(),
            "expected 15 cells.* in row 7 of .*, got 14; the file may be cut off; the real file",
        ),
        (put(9, PRESSURE, "abc"), r"a number in row 9, column 'p \(mbar\)' of .*, got 'abc'"),
        (put(3, DATE, "2009-01-01 00:20:00"), "date as dd.* in row 3, column 'Date Time' .*'2009-"),
        (put(3, DATE, "31.02.2009 00:20:00"), "date as dd.mm.yyyy .* got '31.02.2009 00:20:00'"),
        (put(5, TEMPERATURE, "-9999.00"), r"temperature to be in \[-60, 60\] in row 5, column 'T"),
        (put(5, PRESSURE, "9999"), r"pressure to be in \[800, 1100\] in row 5, .*, got 9999"),
        (put(5, DENSITY, "nan"), r"density to be in \[800, 1800\] in row 5, column 'rho.*got nan"),
        (
            put(8, DATE, "01.01.2009 00:25:00"),
            "later .* in row 8, column .Date.*got 2009-01-01T00:25:00; sort",
        ),
        (put(3, DATE, "31.12.2008 00:00:00"), "in row 3, .* got 2008-12-31T00:00:00; sort"),
        (lambda table: table.__delitem__(slice(2, None)), "at least 2 rows .* got 1"),
    ],
)
def test_a_malformed_file_is_refused(
    change: Change, message: str, day: Weather, tmp_path: Path
) -> None:
    table = table_of(day)
    change(table)
    path = write(tmp_path / "jena.csv", table)
    with pytest.raises(ValueError, match=message) as error:
        read_weather(path)
    assert str(path) in str(error.value)
    assert str(error.value).endswith(f"; {SOURCE}") and str(error.value).count("http") == 2


def test_an_archive_of_far_more_than_the_weather_is_not_unpacked(
    day: Weather, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "jena.csv.zip"
    text = table_of(day)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(write(tmp_path / "jena.csv", text), "jena.csv")
    size = (tmp_path / "jena.csv").stat().st_size
    monkeypatch.setattr(weather, "_LARGEST", size)
    read_weather(path)
    monkeypatch.setattr(weather, "_LARGEST", size - 1)
    monkeypatch.setattr(weather, "_parse", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ValueError, match=rf"at most {size - 1:,} bytes, .* got {size:,}; unpack"):
        read_weather(path)


def test_files_that_cannot_be_used(day: Weather, tmp_path: Path) -> None:
    text, path = write(tmp_path / "jena.csv", table_of(day)), tmp_path / "jena.csv.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(text, "jena.csv")
    whole = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    zips = r"\.zip file that can be unpacked .*"
    for source, content, message in (
        (path, path.read_bytes(), r"one .csv file in .*, got \['readme.txt'\]"),
        (path, whole[: len(whole) // 2], zips),
        (path, whole[:100] + bytes(50) + whole[150:], zips),
        # A stray quote.
        (
            text,
            text.read_bytes() + b'"' + b"x" * 200_000,
            "comma-separated values in .*field lim.*",
        ),
    ):
        source.write_bytes(content)
        with pytest.raises(ValueError, match=f"{message}; the real file is at"):
            read_weather(source)


# The stand-in


@pytest.fixture(scope="module")
def years() -> Weather:
    return synthetic(4 * 365.25)


def test_the_stand_in_is_like_the_measured_weather(years: Weather) -> None:
    """Measured at Jena 2009-2016: 9.45 +- 8.42 degC and 989.2 +- 8.4 mbar."""
    assert len(years) == 4 * 365.25 * 144
    assert years.time[0] == seconds("2009-01-01T00:10:00")
    assert np.all(np.diff(years.time) == 600)
    np.testing.assert_allclose(years.values.mean(axis=0)[:2], [9.45, 989.2], atol=1.0)
    np.testing.assert_allclose(years.values.std(axis=0)[:2], [8.42, 8.36], rtol=0.1)
    temperature, pressure, density = years.values.T
    assert density.min() > 1000 and density.max() < 1500
    kilograms = 100 * pressure / (287.05 * (temperature + 273.15))  # of an ideal gas
    np.testing.assert_allclose(density, 1000 * kilograms, rtol=1e-12)
    assert np.diff(pressure).std() < 0.15  # mbar in ten minutes
    weekly = years.time % YEAR // (7 * DAY)  # the season is taken out week by week
    weeks = [weekly == week for week in range(52)]
    against = [np.corrcoef(temperature[week], pressure[week])[0, 1] for week in weeks]
    assert np.mean(against) < -0.2


def test_the_generator_alone_decides() -> None:
    first, again, other = synthetic(3, 5), synthetic(3, 5), synthetic(3, 6)
    np.testing.assert_array_equal(first.values, again.values)
    assert not np.isin(other.values, first.values).any()
    np.testing.assert_array_equal(synthetic(1.5, 5).values, first.values[:216])


@pytest.mark.parametrize("days", [0.0, -1.0, 1 / 144, np.nan, np.inf])
def test_no_weather_is_too_short(days: float) -> None:
    with pytest.raises(ValueError, match="days to be finite and at least 2 / 144"):
        synthetic(days)


# Sequences


@pytest.fixture(scope="module")
def month() -> Weather:
    """18 whole sequences: 14, 2 and 2."""
    return synthetic(31)


def test_parts_are_consecutive_and_every_step_is_half_an_hour(month: Weather) -> None:
    parts = [restored(month, part) for part in SPLITS]
    assert [part.shape for part in parts] == [(14, 80, 5), (2, 80, 5), (2, 80, 5)]
    rows = np.concatenate(parts).reshape(-1, 5)
    np.testing.assert_allclose(rows[:, 2:], month.values[: 18 * 80 * 3 : 3], rtol=1e-6, atol=1e-5)


def test_training_is_standardised_and_scaling_is_undone(month: Weather) -> None:
    rows = weather_sequences(month, "train").reshape(-1, 5)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(rows.std(axis=0), 1, atol=1e-5)
    scaling = weather_scaling(month)
    assert scaling.mean.shape == scaling.std.shape == (len(FEATURES),)
    features = np.random.default_rng(0).normal(scaling.mean, scaling.std, (3, 7, 5))
    again = scaling.restore(scaling.standardise(features))
    np.testing.assert_allclose(again, features, rtol=1e-6, atol=1e-5)


def test_nothing_of_the_other_parts_leaks_into_training(month: Weather) -> None:
    values = month.values.copy()
    values[14 * 80 * 3 :] = [40.0, 1050.0, 1100.0]
    changed = Weather(month.time, values)
    for stride in (80, 1):
        np.testing.assert_array_equal(
            weather_sequences(changed, "train", stride=stride),
            weather_sequences(month, "train", stride=stride),
        )
    evaluation = restored(changed, "evaluation")
    np.testing.assert_allclose(evaluation[..., 2:], [[[40, 1050, 1100]] * 80] * 2, rtol=1e-5)


def test_overlapping_sequences_stay_in_their_part() -> None:
    weather = ramp(31)
    parts = [restored(weather, part, stride=1) for part in SPLITS]
    assert len(parts[0]) == 14 * 80 - 79
    np.testing.assert_allclose(parts[0][1:, :-1, 0], parts[0][:-1, 1:, 0], atol=1e-6)
    for earlier, later in pairwise(parts):
        assert later[..., 2].min() - earlier[..., 2].max() == pytest.approx(1 / 48, abs=1e-4)
    sparse = restored(weather, "train", stride=200)
    np.testing.assert_allclose(sparse, restored(weather, "train", stride=1)[::200], rtol=1e-6)


def test_no_sequence_holds_a_pause() -> None:
    whole = ramp(31)
    start = whole.time[0]
    # Ten minutes are missing on day 2, sixteen hours on day 9, and one row stands alone on day 20.
    weather = without(whole, start + 2 * DAY, start + 2 * DAY + 1200)
    weather = without(weather, start + 9 * DAY, start + 9.6 * DAY)
    weather = without(weather, start + 20 * DAY, start + 20.5 * DAY)
    weather = without(weather, start + 20.5 * DAY, start + 21 * DAY)
    for stride in (80, 1, 7):
        rows = np.concatenate([restored(weather, part, stride=stride) for part in SPLITS])
        np.testing.assert_allclose(np.diff(rows[..., 2]), 1 / 48, atol=1e-4)
    # 289, 1007, 1498, 1 and 1440 rows without a pause: 97, 336, 500, 1 and 480 half hours.
    assert sum(len(weather_sequences(weather, part)) for part in SPLITS) == 1 + 4 + 6 + 0 + 6


def test_other_lengths_and_steps(month: Weather) -> None:
    hourly = restored(month, "train", length=24, minutes=60)
    assert hourly.shape == (24, 24, 5)
    rows = hourly.reshape(-1, 5)
    expected = month.values[: len(rows) * 6 : 6]
    np.testing.assert_allclose(rows[:, 2:], expected, rtol=1e-6, atol=1e-5)
    assert len(weather_sequences(month, "validation", length=1, minutes=10)) == 446


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"part": "test"}, "unknown split 'test', expected one of"),
        ({"length": 0}, "length to be an integer of at least 1, got 0"),
        ({"minutes": 25}, "multiple of the clock's step, 10 minutes, got 25"),
        ({"minutes": 5}, "multiple of the clock's step, 10 minutes, got 5"),
        ({"stride": 0}, "stride to be an integer of at least 1, got 0"),
        ({"length": 249}, "at least 6 sequences of 249 steps without a pause.*, got 5; give a lon"),
        ({"length": 10_000}, "at least 6 sequences of 10000 steps .* got 0"),
        ({"minutes": 1440, "length": 2}, "'day' is always 0.0436194; give a longer series"),
    ],
)
def test_impossible_sequences_are_refused(
    options: dict[str, Any], message: str, month: Weather
) -> None:
    with pytest.raises(ValueError, match=message):
        weather_sequences(month, **{"part": "train", **options})


@pytest.mark.parametrize("count", range(6, 30))
def test_six_sequences_are_enough_for_every_part(count: int) -> None:
    lengths = [len(weather_sequences(synthetic(count / 12), part, length=4)) for part in SPLITS]
    assert sum(lengths) == count
    assert min(lengths) >= 1
    assert lengths[0] == int(0.8 * count + 1e-9)
