"""The page's two charts as SVG. Colours and type come from the page's style sheet, so they follow light and dark."""

from collections.abc import Callable, Iterable

import numpy as np
from markupsafe import Markup

from gradsentry_lib.detection.entropy_threshold import Threshold
from gradsentry_lib.report.contents import Points
from gradsentry_lib.report.plot import axis_range, histogram

WIDTH, HEIGHT = 640, 360
TOP, BOTTOM = 40, 300  # the plotting area, in units of the view box
LARGEST_CLOUD = 3_000  # rows drawn in the scatter
SINGULAR_VALUES = 16


def distribution_svg(entropies: np.ndarray, threshold: Threshold) -> Markup:
    """Histogram of the batch's entropies with the density, its peaks and tau. `entropies`: (N,)."""
    values = entropies[np.isfinite(entropies)]
    low, high = axis_range(values)
    edges, heights = histogram(values, threshold.tau, low, high)
    top = max(heights.max(), max(threshold.density, default=0.0), 1e-9)

    def x(value: float) -> float:
        return 16 + (WIDTH - 32) * (value - low) / (high - low)

    def y(density: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * density / top

    parts = [
        _bar(x(max(left, low)), y(height), x(min(right, high)), "cut" if left >= threshold.tau else "keep")
        for left, right, height in zip(edges[:-1], edges[1:], heights, strict=True)
        if height > 0
    ]
    parts.append(_ticks((0.0, 0.2, 0.4, 0.6, 0.8, 1.0), x, "normalised spectral entropy"))
    if threshold.grid:
        curve = zip(threshold.grid[::4], threshold.density[::4], strict=True)  # 250 points are smooth enough
        parts.append(_line(((x(a), y(b)) for a, b in curve), "curve"))
    parts += [_dot(x(peak.x), y(peak.height), "peak") for peak in threshold.peaks]
    parts.append(_tau_upright(x(threshold.tau), threshold.tau))
    return _svg(parts, f"Histogram of spectral entropy with the threshold at {threshold.tau:.3f}")


def length_svg(points: Points, tau: float | None) -> Markup:
    """Answer length against entropy, one dot a row, under the bound ln min(T, 16) / ln 16 that no row can pass."""
    shown = sample_points(points)
    tokens = np.maximum(points.supervised_tokens[shown], 1)
    entropy = points.entropy[shown]
    removed = points.removed[shown].astype(bool)
    longest = max(int(tokens.max(initial=1)), 2 * SINGULAR_VALUES)

    def x(length: float) -> float:
        return 52 + (WIDTH - 68) * float(np.log(length) / np.log(longest))

    def y(value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * min(max(value, 0.0), 1.0)

    bound = [(t, np.log(min(t, SINGULAR_VALUES)) / np.log(SINGULAR_VALUES)) for t in (*range(1, 17), longest)]
    parts = [_line(((x(t), y(h)) for t, h in bound), "bound")]
    lengths = [t for t in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384) if t <= longest]
    parts.append(
        _ticks(lengths if len(lengths) < 9 else lengths[::2], x, "supervised tokens in the answer", 52, whole=True)
    )
    for value in (0, 0.5, 1):
        parts.append(
            Markup('<text class="tick" x="44" y="{}" text-anchor="end">{}</text>').format(_n(y(value) + 5), value)
        )
    for mask, kind in ((~removed, "keep"), (removed, "cut")):
        dots = (f"M{_n(x(t))} {_n(y(h))}h0" for t, h in zip(tokens[mask], entropy[mask], strict=True))
        parts.append(Markup('<path class="dots {}" d="{}"/>').format(kind, "".join(dots)))
    if tau is not None:
        parts.append(Markup('<path class="tau" d="M52 {0}H{1}"/>').format(_n(y(tau)), WIDTH - 16))
        parts.append(_label(56, y(tau) - 7, f"τ {tau:.3f}", "start"))
    return _svg(parts, "Answer length in tokens against spectral entropy, one dot a row")


def sample_points(points: Points) -> np.ndarray:
    """Positions of the scored rows to draw: all, or a fixed sample that keeps half its room for removed rows."""
    scored = np.flatnonzero(np.isfinite(points.entropy))
    if scored.size <= LARGEST_CLOUD:
        return scored
    removed = points.removed[scored].astype(bool)
    draw = np.random.default_rng(0)
    some = _some(scored[removed], max(LARGEST_CLOUD // 2, LARGEST_CLOUD - int(np.count_nonzero(~removed))), draw)
    return np.sort(np.concatenate([some, _some(scored[~removed], LARGEST_CLOUD - some.size, draw)]))


def _some(positions: np.ndarray, size: int, draw: np.random.Generator) -> np.ndarray:
    return positions if positions.size <= size else draw.choice(positions, size, replace=False)


def _svg(parts: Iterable[Markup], label: str) -> Markup:
    frame = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(WIDTH, HEIGHT, label, Markup("").join(parts))


def _bar(left: float, top: float, right: float, kind: str) -> Markup:
    bar = '<rect class="bar {}" x="{}" y="{}" width="{}" height="{}"/>'
    return Markup(bar).format(kind, _n(left), _n(top), _n(max(right - left - 0.8, 0.2)), _n(BOTTOM - top))


def _line(points: Iterable[tuple[float, float]], kind: str) -> Markup:
    return Markup('<path class="{}" d="M{}"/>').format(kind, "L".join(f"{_n(a)} {_n(b)}" for a, b in points))


def _dot(x: float, y: float, kind: str) -> Markup:
    return Markup('<circle class="{}" cx="{}" cy="{}" r="5"/>').format(kind, _n(x), _n(y))


def _label(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="label" x="{}" y="{}" text-anchor="{}">{}</text>').format(_n(x), _n(y), anchor, text)


def _tau_upright(x: float, tau: float) -> Markup:
    anchor, shift = ("start", 7) if x < WIDTH * 0.7 else ("end", -7)
    line = Markup('<path class="tau" d="M{} 12V{}"/>').format(_n(x), BOTTOM)
    return line + _label(x + shift, 26, f"τ {tau:.3f}", anchor)


def _ticks(
    values: Iterable[float], x: Callable[[float], float], title: str, left: int = 16, whole: bool = False
) -> Markup:
    """The horizontal axis: a line, a number at each tick (the outer ones kept inside the picture), a title."""
    parts = [Markup('<path class="axis" d="M{} {}H{}"/>').format(left, BOTTOM + 0.5, WIDTH - 16)]
    for value in values:
        anchor = "start" if x(value) < 20 else "end" if x(value) > WIDTH - 20 else "middle"
        text = Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>')
        parts.append(text.format(_n(x(value)), BOTTOM + 22, anchor, value if whole else f"{value:.1f}"))
    parts.append(
        Markup('<text class="title" x="{}" y="{}" text-anchor="middle">{}</text>').format(WIDTH / 2, HEIGHT - 10, title)
    )
    return Markup("").join(parts)


def _n(value: float) -> str:
    """A coordinate with one decimal."""
    return f"{value:.1f}".removesuffix(".0")
