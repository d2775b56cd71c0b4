"""What a benchmark says: a row, the table on the screen, the file that programs read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

from msgspec import Struct, json

OUT = Path(__file__).parent / "out" / "latest.json"


class Row(Struct, frozen=True):
    """`ratio` is figure / baseline. The budget is about the ratio, or about the figure where it names a unit."""

    name: str
    figure: float
    unit: str
    baseline: float
    ratio: float
    budget: str
    holds: bool


def most(name: str, unit: str, figure: float, baseline: float, limit: float) -> Row:
    ratio = figure / baseline
    return Row(name, figure, unit, baseline, ratio, f"≤ {limit:g} ×", ratio <= limit)


def least(name: str, unit: str, figure: float, baseline: float, limit: float) -> Row:
    ratio = figure / baseline
    return Row(name, figure, unit, baseline, ratio, f"≥ {limit:g} ×", ratio >= limit)


def flat(name: str, unit: str, figure: float, baseline: float) -> Row:
    """Within ten per cent of the baseline."""
    ratio = figure / baseline
    return Row(name, figure, unit, baseline, ratio, "1 ± 0.1 ×", 0.9 <= ratio <= 1.1)


def below(name: str, unit: str, figure: float, baseline: float, limit: float) -> Row:
    """A budget of the figure itself."""
    return Row(name, figure, unit, baseline, figure / baseline, f"≤ {limit:g} {unit}", figure <= limit)


def beside(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """One figure for each of two sides that took turns. The ratio of the two is the median of the rounds' ratios: both
    halves of a round met the same machine."""
    base = median(theirs)
    return base * median(a / b for a, b in zip(ours, theirs, strict=True)), base


def line(row: Row) -> str:
    figures = f"{number(row.figure):>9} {row.unit:<8} {number(row.baseline):>9} {row.ratio:>7.2f}"
    return f"{row.name:<74} {figures}  {row.budget:<9} {'holds' if row.holds else 'DOES NOT HOLD'}"


HEADER = f"{'':<74} {'figure':>9} {'':<8} {'baseline':>9} {'ratio':>7}  budget"


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def write(rows: Iterable[Row], to: Path = OUT) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_bytes(json.format(json.encode(list(rows)), indent=2) + b"\n")
