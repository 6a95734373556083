"""The weather of Jena (2021 paper, section 3.3 and appendix A.3) as sequences, and a stand-in.

The measurements are not ours to ship: `read_weather` reads the file that everybody uses, whose rows
lie ten minutes apart, and `make_weather` makes a synthetic series of the same kind. From either,
`weather_sequences` takes every third row and cuts sequences of 80 steps of five features, each
standardised. The paper does not say how it split this series (for its first task it trained on 90 %
and tested on the rest). Here the first 80 % of the sequences are for training, the next 10 % for
validation and the last 10 % for evaluation: whole blocks of time, because neighbours in time are
alike and a random choice would show the test to the training. Training and validation together
are as much as 90 %.
"""

from __future__ import annotations

import csv
import datetime
import io
import itertools
import math
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from jumpy_mbrl.checks import check_count
from jumpy_mbrl.data.seeds import SPLITS, Split, check_split

Array = NDArray[np.float64]

FEATURES = ("day", "year", "temperature", "pressure", "density")

DAY = 86_400.0
"""Seconds."""
YEAR = 365.2425 * DAY
"""Seconds of a mean Gregorian year."""

_DATE = "Date Time"
_COLUMNS = ("T (degC)", "p (mbar)", "rho (g/m**3)")
_LIMITS = ((-60.0, 60.0), (800.0, 1100.0), (800.0, 1800.0))
"""Beyond these a value cannot have been measured at Jena; -9999 is how the file marks none."""
_DRY_AIR = 287.05
"""Specific gas constant of dry air, J/(kg K)."""
_CLOCK_NOISE = 0.5
_LARGEST = 2**30
"""Bytes of a .csv file in a .zip; the real one has 43 million."""
SOURCE = (
    "the real file is at https://storage.googleapis.com/tensorflow/tf-keras-datasets/"
    "jena_climate_2009_2016.csv.zip (unpack it or give the .zip as it is), measured by the Max "
    "Planck Institute for Biogeochemistry (https://www.bgc-jena.mpg.de/wetter/)"
)
"""Where people get the file; the end of every message about one."""


@dataclass(frozen=True, eq=False)
class Weather:
    """Measurements in order of time, on a clock that may pause.

    `ValueError` for other shapes, times that do not ascend, or values that are no weather.

    Attributes:
        time: (n,) seconds since 1970, strictly ascending, n at least 2. The file names no time
            zone; its times are taken as they stand, as if they were UTC.
        values: (n, 3) temperature in degC, pressure in mbar, density in g/m^3.
    """

    time: Array
    values: Array

    def __post_init__(self) -> None:
        n = self.time.size
        if self.time.shape != (n,) or self.values.shape != (n, 3) or n < 2:
            raise ValueError(
                "expected time of shape (n,) and values of shape (n, 3), n at least 2, got "
                f"{self.time.shape} and {self.values.shape}"
            )
        steps = np.diff(self.time)
        wrong = np.flatnonzero(~(np.isfinite(steps) & (steps > 0)))
        if len(wrong):
            raise ValueError(
                f"expected times to be finite and to ascend, got {self.time[wrong[0]]} and then "
                f"{self.time[wrong[0] + 1]} at index {wrong[0] + 1}"
            )
        _check_limits(self.values, lambda index, column: f"at index {index}")

    def __len__(self) -> int:
        return len(self.time)


@dataclass(frozen=True, eq=False)
class Scaling:
    """How features are standardised, and how to get back, for instance to degC.

    Attributes:
        mean: (5,) of each of `FEATURES`.
        std: (5,) of each of `FEATURES`, positive.
    """

    mean: Array
    std: Array

    def standardise(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Features (..., 5), or `ValueError`, to mean 0 and standard deviation 1 in training."""
        return ((_check_features(features) - self.mean) / self.std).astype(np.float32)

    def restore(self, features: NDArray[np.floating]) -> Array:
        """Standardised features (..., 5), or `ValueError`, to their units."""
        return _check_features(features) * self.std + self.mean


def read_weather(path: str | os.PathLike[str]) -> Weather:
    """Reads `jena_climate_2009_2016.csv`, or the .zip it comes in.

    The columns are found by their names and only four are read, so files of other years and with
    other columns beside them do. Blocks of rows that occur twice (there are two in the real file)
    are read once: of rows with the same time the first is kept. Pauses (there are five) stay.

    `ValueError` if the file is missing, or is not such a file: a column is missing, a row has too
    many or too few cells, a cell is no date or number, a value cannot have been measured, or time
    goes back to a moment not seen before. Rows are counted as an editor counts lines: the header is
    row 1. Each message ends with `SOURCE`.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ValueError(
                f"expected the weather of Jena as a .csv or .zip file, but there is no {path}"
            )
        with _open_csv(path) as stream:
            return _parse(stream, path)
    except csv.Error as error:
        problem = f"expected comma-separated values in {path}, got: {error}"
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        problem = f"expected a .zip file that can be unpacked as {path}, got: {error}"
    except ValueError as error:
        problem = str(error)
    raise ValueError(f"{problem}; {SOURCE}")


def make_weather(days: float, rng: np.random.Generator) -> Weather:
    """Makes synthetic weather: not measured, but of the same kind, for tests and demonstrations.

    Temperature has a yearly and a daily cycle (wider in summer) and noise of days. Fronts,
    smooth random waves of a day or two, move pressure one way and temperature the other. Density
    is that of dry air by the ideal gas law. The clock is the real file's, without its pauses: every
    ten minutes from 2009-01-01 00:10. The same generator with fewer days gives the first of them.

    `ValueError` unless `days` are finite and at least two steps.
    """
    if not math.isfinite(days) or round(days * 144) < 2:
        raise ValueError(f"expected days to be finite and at least 2 / 144 (two steps), got {days}")
    count = round(days * 144)
    time = _seconds("01.01.2009 00:10:00") + 600.0 * np.arange(count, dtype=np.float64)
    noise = rng.standard_normal((count, 4))
    front = _wave(noise[:, 0], hours=36, smooth=6)
    season = -np.cos(2 * np.pi * (time / YEAR - 20 / 365))
    afternoon = np.cos(2 * np.pi * (time / DAY - 15 / 24))
    temperature = (
        9.5
        + 9.0 * season
        + (3.5 + 1.5 * season) * afternoon
        - 2.5 * front
        + 3.0 * _wave(noise[:, 1], hours=60, smooth=3)
        + 0.3 * _wave(noise[:, 2], hours=1, smooth=0.2)
    )
    pressure = 989.0 + 7.0 * front + 4.0 * _wave(noise[:, 3], hours=120, smooth=6)
    density = 1e5 * pressure / (_DRY_AIR * (temperature + 273.15))
    return Weather(time, np.stack([temperature, pressure, density], axis=1))


def weather_sequences(
    weather: Weather,
    part: Split,
    length: int = 80,
    minutes: int = 30,
    stride: int | None = None,
) -> NDArray[np.float32]:
    """Cuts one part of a series into standardised sequences (n, length, 5), in order of time.

    The features are `FEATURES`: sines of the time with the frequencies of a day and of a year, then
    temperature, pressure and density. No sequence holds a pause of the clock. The bounds between
    the parts and the scaling do not depend on `stride`, and no row is in two parts.

    Args:
        weather: what was measured or made.
        part: "train" (the first 80 % of the sequences), "validation" (10 %) or "evaluation" (the
            last 10 %).
        length: steps of a sequence.
        minutes: from one step to the next, a multiple of the clock's own step.
        stride: steps from the start of a sequence to the start of the next; `length` (None) puts
            them end to end, less lets them overlap, which is for training.

    `ValueError` for an unknown part, numbers out of range, or a series too short to give each part
    a sequence.
    """
    rows = _rows(weather.time, part, length, minutes, length if stride is None else stride)
    return weather_scaling(weather, length, minutes).standardise(_features(weather))[rows]


def weather_scaling(weather: Weather, length: int = 80, minutes: int = 30) -> Scaling:
    """The means and standard deviations by which `weather_sequences` standardises every part.

    They are those of the training sequences (end to end) alone. Arguments and errors as there;
    `ValueError` also for a feature that does not vary over the training part.
    """
    rows = _rows(weather.time, "train", length, minutes, length)
    features = _features(weather)[rows.reshape(-1)]
    mean, std = features.mean(axis=0), features.std(axis=0)
    still = np.flatnonzero(std <= 1e-9 * np.maximum(1.0, np.abs(mean)))
    if len(still):
        raise ValueError(
            f"expected every feature to vary over the training part, but {FEATURES[still[0]]!r} is "
            f"always {mean[still[0]]:.6g}; give a longer series or fewer minutes"
        )
    return Scaling(mean, std)


@contextmanager
def _open_csv(path: Path) -> Iterator[TextIO]:
    """The file as text; of a .zip the only .csv in it."""
    if path.suffix.lower() != ".zip":
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive:
        # Macs add a folder of their own, with a file of the same name.
        names = [n for n in archive.namelist() if n.endswith(".csv") and "__MACOSX" not in n]
        if len(names) != 1:
            raise ValueError(f"expected one .csv file in {path}, got {names or archive.namelist()}")
        size = archive.getinfo(names[0]).file_size
        if size > _LARGEST:
            raise ValueError(
                f"expected at most {_LARGEST:,} bytes, many times the weather of Jena, in the .csv "
                f"file in {path}, got {size:,}; unpack it, if that is what it holds"
            )
        with (
            archive.open(names[0]) as packed,
            io.TextIOWrapper(packed, "utf-8-sig", errors="replace", newline="") as stream,
        ):
            yield stream


def _parse(stream: TextIO, path: Path) -> Weather:
    """The series in a file, by the names of its columns."""
    reader = csv.reader(stream)
    header = next(reader, [])
    names = (_DATE, *_COLUMNS)
    missing = [name for name in names if name not in header]
    if missing:
        raise ValueError(
            f"expected the columns {missing} in row 1 (the header) of {path}, got "
            f"{str(header)[:300]}"
        )
    kinds = {_DATE: (_seconds, "a date as dd.mm.yyyy HH:MM:SS")}
    columns = [(n, header.index(n), *kinds.get(n, (float, "a number"))) for n in names]
    lines: list[int] = []
    table: list[list[float]] = []
    for cells in reader:
        if not cells:
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"expected {len(header)} cells, as in the header, in row {reader.line_num} of "
                f"{path}, got {len(cells)}; the file may be cut off"
            )
        numbers = []
        for name, place, read, what in columns:
            try:
                numbers.append(read(cells[place]))
            except ValueError:
                where = f"in row {reader.line_num}, column {name!r} of {path}"
                raise ValueError(f"expected {what} {where}, got {cells[place]!r}") from None
        lines.append(reader.line_num)
        table.append(numbers)
    time, *rest = np.array(table, np.float64).reshape(-1, 4).T
    values = np.stack(rest, axis=1)
    _check_limits(
        values, lambda n, column: f"in row {lines[n]}, column {_COLUMNS[column]!r} of {path}"
    )
    # Rows later than all before them are kept; the others have to repeat a time already kept.
    later = np.ones(len(time), dtype=bool)
    later[1:] = time[1:] > np.maximum.accumulate(time)[:-1]
    stray = np.flatnonzero(~later & ~np.isin(time, time[later]))
    if len(stray):
        moment = np.datetime64(int(time[stray[0]]), "s")
        raise ValueError(
            f"expected a time that is later than all before it, or repeats one, in row "
            f"{lines[stray[0]]}, column {_DATE!r} of {path}, got {moment}; sort the rows"
        )
    if later.sum() < 2:
        raise ValueError(
            f"expected at least 2 rows of different times in {path}, got {later.sum()}"
        )
    return Weather(time[later], values[later])


def _seconds(text: str) -> float:
    """dd.mm.yyyy HH:MM:SS to seconds since 1970; a `ValueError` for anything else."""
    date, _, clock = text.partition(" ")
    return _moment(date, "%d.%m.%Y") + _moment(clock, "%H:%M:%S") - _moment("00", "%H")


@cache
def _moment(text: str, form: str) -> float:
    """A file of years has few different dates and times of day, and parsing one is slow."""
    moment = datetime.datetime.strptime(text, form)
    return moment.replace(tzinfo=datetime.UTC).timestamp()


def _check_limits(values: Array, where: Callable[[int, int], str]) -> None:
    """Raises `ValueError` for the first value outside its limits, NaN included."""
    low, high = np.array(_LIMITS).T
    for index, column in np.argwhere(~((values >= low) & (values <= high))).tolist():
        raise ValueError(
            f"expected {FEATURES[2 + column]} to be in [{low[column]:g}, {high[column]:g}] "
            f"{where(index, column)}, got {values[index, column]:g}"
        )


def _wave(noise: Array, hours: float, smooth: float) -> Array:
    """An Ornstein-Uhlenbeck process of variance 1 that forgets in `hours`, smoothed over `smooth`.

    `noise` is (n,) standard normal, one number for each ten minutes.
    """
    keep, slow = math.exp(-1 / (6 * hours)), math.exp(-1 / (6 * smooth))
    shocks = noise * math.sqrt(1 - keep**2)
    shocks[0] = noise[0]
    rough = itertools.accumulate(shocks.tolist(), lambda state, shock: keep * state + shock)
    wave = itertools.accumulate(rough, lambda state, value: slow * state + (1 - slow) * value)
    left = (1 - slow) * (1 + keep * slow) / ((1 + slow) * (1 - keep * slow))  # of the variance
    return np.fromiter(wave, np.float64, len(noise)) / math.sqrt(left)


def _features(weather: Weather) -> Array:
    """(n, 5) in their units."""
    day, year = (np.sin(2 * np.pi * weather.time / period) for period in (DAY, YEAR))
    return np.column_stack([day, year, weather.values])


def _rows(time: Array, part: Split, length: int, minutes: int, stride: int) -> NDArray[np.intp]:
    """The rows of every sequence of a part, (n, length)."""
    check_split(part)
    for name, value in {"length": length, "minutes": minutes, "stride": stride}.items():
        check_count(name, value)
    runs = _runs(time, minutes)
    # Parts begin where one of their sequences begins.
    starts = _windows(runs, length, length)[:, 0]
    n = len(starts)
    counts = [0, 8 * n // 10, 9 * n // 10, n]
    if any(begin == end for begin, end in itertools.pairwise(counts)):
        raise ValueError(
            f"expected a series of at least 6 sequences of {length} steps without a pause, so that "
            f"each part gets one, got {n}; give a longer series or a smaller length"
        )
    number = SPLITS.index(part)
    low = starts[counts[number]]
    high = starts[counts[number + 1]] if number < 2 else np.iinfo(np.intp).max
    return _windows([run[(run >= low) & (run < high)] for run in runs], length, stride)


def _runs(time: Array, minutes: int) -> list[NDArray[np.intp]]:
    """The stretches without a pause: for each, the indices of its rows `minutes` apart."""
    steps = np.diff(time)
    step = float(np.median(steps))
    every = round(60 * minutes / step)
    if abs(every * step - 60 * minutes) > _CLOCK_NOISE:
        raise ValueError(
            f"expected minutes to be a multiple of the clock's step, {step / 60:g} minutes, got "
            f"{minutes}"
        )
    breaks = np.flatnonzero(np.abs(steps - step) > _CLOCK_NOISE) + 1
    ends = [0, *breaks.tolist(), len(time)]
    return [np.arange(begin, end, every) for begin, end in itertools.pairwise(ends)]


def _windows(runs: list[NDArray[np.intp]], length: int, stride: int) -> NDArray[np.intp]:
    """The rows of every sequence, (n, length)."""
    found = [np.zeros((0, length), dtype=np.intp)]
    found += [sliding_window_view(run, length)[::stride] for run in runs if len(run) >= length]
    return np.concatenate(found)


def _check_features(features: NDArray[Any]) -> NDArray[Any]:
    if features.shape[-1:] != (len(FEATURES),):
        raise ValueError(
            f"expected features of shape (..., {len(FEATURES)}), got {tuple(features.shape)}"
        )
    return features
