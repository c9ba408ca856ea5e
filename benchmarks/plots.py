"""Bar charts as SVG, written by hand: medians as bars, least and most of the rounds as whiskers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from benchmarks.figures import Figure, Unit

COLOURS = {"ours": "#2563a8", "stock": "#b0b7c0", "node": "#5f9e53", "c": "#d8a23a"}
WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 92, 12, 56, 34
GROUP_GAP = 0.25


@dataclass(frozen=True)
class Scale:
    """A logarithmic axis from `low` to `high`, both powers of ten."""

    low: float
    high: float

    @classmethod
    def over(cls, figures: Sequence[Figure]) -> Scale:
        """Return the axis of these figures, with what is not above 0 at its foot and what is infinite at its top."""
        values = [
            value for figure in figures for value in (figure.median, figure.low, figure.high) if 0 < value < math.inf
        ]
        least, most = (min(values), max(values)) if values else (1.0, 10.0)
        low = math.floor(math.log10(least * 0.9))
        return cls(10.0**low, 10.0 ** max(low + 1, math.ceil(math.log10(most))))

    def y(self, value: float) -> float:
        """Return how far down a value is drawn."""
        share = math.log10(min(max(value, self.low), self.high) / self.low) / math.log10(self.high / self.low)
        return TOP + (1 - share) * (HEIGHT - TOP - BOTTOM)

    def ticks(self) -> list[float]:
        """Return the powers of ten on the axis."""
        decades = round(math.log10(self.high / self.low))
        return [self.low * 10**index for index in range(decades + 1)]


def bars(title: str, unit: Unit, cases: Sequence[str], figures: Mapping[tuple[str, str], Figure]) -> str:
    """Return the chart of one metric; `figures` are by case and peer."""
    scale = Scale.over(list(figures.values()))
    peers = [peer for peer in COLOURS if any(found == peer for _, found in figures)]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img" aria-label="{escape(title)}">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(LEFT, 20, title, "start", size=15),
        *_legend(peers),
        *(part for tick in scale.ticks() for part in _tick(scale, tick, unit)),
        *(part for index, case in enumerate(cases) for part in _group(scale, index, len(cases), case, peers, figures)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _text(x: float, y: float, text: str, anchor: str, size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="#222">{escape(text)}</text>'


def _legend(peers: Sequence[str]) -> list[str]:
    parts = []
    for index, peer in enumerate(peers):
        x = LEFT + 80 * index
        parts.append(f'<rect x="{x}" y="31" width="12" height="12" fill="{COLOURS[peer]}"/>')
        parts.append(_text(x + 17, 41, peer, "start"))
    return parts


def _tick(scale: Scale, value: float, unit: Unit) -> list[str]:
    y = scale.y(value)
    return [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e3e6ea"/>',
        _text(LEFT - 8, y + 4, unit.write(value), "end"),
    ]


def _group(
    scale: Scale,
    index: int,
    groups: int,
    case: str,
    peers: Sequence[str],
    figures: Mapping[tuple[str, str], Figure],
) -> list[str]:
    width = (WIDTH - LEFT - RIGHT) / groups
    left = LEFT + index * width
    bar = min(60.0, width * (1 - GROUP_GAP) / max(1, len(peers)))
    start = left + (width - bar * len(peers)) / 2
    parts = [_text(left + width / 2, HEIGHT - 12, case, "middle")]
    for place, peer in enumerate(peers):
        if (figure := figures.get((case, peer))) is not None:
            parts += _bar(scale, start + place * bar, bar, COLOURS[peer], figure)
    return parts


def _bar(scale: Scale, x: float, width: float, colour: str, figure: Figure) -> list[str]:
    top, foot, middle = scale.y(figure.median), float(HEIGHT - BOTTOM), x + width / 2
    return [
        f'<rect x="{x + 1:.1f}" y="{top:.1f}" width="{width - 2:.1f}" height="{foot - top:.1f}" fill="{colour}"/>',
        f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{scale.y(figure.low):.1f}" y2="{scale.y(figure.high):.1f}" '
        'stroke="#333" stroke-width="1.5"/>',
    ]
