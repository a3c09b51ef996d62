"""The threshold as a PNG: what the UI shows beside the asset, and what lies beside the verdicts as `threshold.png`.

Drawn with Pillow, at three times its size and then made small, which is what smooths it: matplotlib would do the same
behind half a second of imports, in every scan. Only its font is taken.
"""

import io
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from gradsentry_lib.detection.entropy_threshold import Threshold

BINS = 60
INK, MUTED = "#1f2933", "#5f6c7b"
KEPT, SUSPECT, CURVE = "#7aa5d8", "#e07a5f", "#243b53"
KEPT_BAR, SUSPECT_BAR = "#9bbce2", "#e89b87"  # the same on white, a quarter see-through
LARGEST_RUG = 4_000  # rows drawn one by one below the axis
FINE = 3  # how much larger it is drawn
LEFT, TOP, WIDE, HIGH = 0.06, 0.18, 0.915, 0.68  # the plotting area, as shares of the picture
BELOW, ABOVE = 0.075, 1.22  # what the vertical axis shows, in heights of the highest


class _Canvas:
    """A drawing in the plot's own units: x from `low` to `high`, y in heights of the highest."""

    def __init__(self, width: int, low: float, high: float) -> None:
        from PIL import Image, ImageDraw

        self.size = (width * FINE, width * FINE // 2)
        self.unit = self.size[0] / 900  # a pixel of the picture at its usual width
        self.low, self.high = low, high
        self.image = Image.new("RGB", self.size, "white")
        self.draw: Any = ImageDraw.Draw(self.image)

    def x(self, value: float) -> float:
        return self.size[0] * (LEFT + WIDE * (value - self.low) / (self.high - self.low))

    def y(self, height: float) -> float:
        return self.size[1] * (TOP + HIGH * (ABOVE - height) / (ABOVE + BELOW))

    def text(self, x: float, y: float, text: str, colour: str, size: float, anchor: str, bold: bool = False) -> None:
        """At (x, y) of the canvas; `size` in pixels of the picture."""
        font = _font(round(size * self.unit), bold)
        self.draw.text((x, y), text, fill=colour, font=font, anchor=anchor)

    def line(self, points: list[tuple[float, float]], colour: str, width: float) -> None:
        self.draw.line(points, fill=colour, width=round(width * self.unit), joint="curve")

    def dot(self, value: float, height: float, radius: float, fill: str, edge: str) -> None:
        x, y, r = self.x(value), self.y(height), radius * self.unit
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill, outline=edge, width=round(1.4 * self.unit))

    def png(self) -> bytes:
        """With a palette of 64 colours: a third of the size, and no difference that one sees."""
        from PIL import Image

        small = self.image.resize((self.size[0] // FINE, self.size[1] // FINE), Image.Resampling.BOX)
        made = io.BytesIO()
        small.quantize(64, dither=Image.Dither.NONE).save(made, format="png", optimize=True)
        return made.getvalue()


@lru_cache(maxsize=16)
def _font(size: int, bold: bool) -> Any:
    from PIL import ImageFont

    found = find_spec("matplotlib")  # looked for, not imported
    if found is not None and found.origin is not None:
        fonts = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
        path = fonts / ("DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf")
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def threshold_png(entropies: np.ndarray, threshold: Threshold, width_px: int = 900) -> bytes:
    """Histogram, density, peaks and tau of one batch; under 50 kB at the default width, so that it fits in metadata.

    `entropies`: (N,) normalised entropies; NaN and infinite values are left out, as they were from the threshold.
    """
    values = np.asarray(entropies, dtype=np.float64)
    values = values[np.isfinite(values)]
    canvas = _Canvas(width_px, *axis_range(values))
    top = _bars(canvas, values, threshold)
    _axis(canvas)
    _marks(canvas, threshold, top)
    _rug(canvas, values, threshold.tau)
    title, subtitle = caption(threshold)
    canvas.text(canvas.x(canvas.low), 0.075 * canvas.size[1], title, INK, 17, "ls", bold=True)
    canvas.text(canvas.x(canvas.low), 0.135 * canvas.size[1], subtitle, MUTED, 13, "ls")
    return canvas.png()


def axis_range(values: np.ndarray) -> tuple[float, float]:
    """[0, 1], wider where (impossible) entropies lie outside."""
    return min(0.0, values.min(initial=0.0)), max(1.0, values.max(initial=1.0))


def histogram(values: np.ndarray, tau: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges (B + 1,) and densities (B,) of equal bins over [low, high], laid so that tau is an edge."""
    width = (high - low) / BINS
    edges = tau + width * np.arange(np.floor((low - tau) / width), np.ceil((high - tau) / width) + 1)
    counts, _ = np.histogram(values, bins=edges)
    return edges, counts / max(values.size, 1) / width


def caption(threshold: Threshold) -> tuple[str, str]:
    """Title and subtitle: how many rows lie above tau, and how tau was come by."""
    share = f" ({threshold.suspects / threshold.n:.1%})" if threshold.n else ""
    title = f"{threshold.suspects:,} of {threshold.n:,} scored rows{share} above τ = {threshold.tau:.3f}"
    how = {"valley": "Found", "fallback": "Fallback", "fixed": "Fixed"}[threshold.method]
    weak = "; weak evidence" if threshold.weak_evidence and threshold.method == "valley" else ""
    return title, f"{how}: {threshold.reason}{weak}"


def _bars(canvas: _Canvas, values: np.ndarray, threshold: Threshold) -> float:
    """The histogram, split in colour at tau, with the density over it. Returns the height of the highest."""
    edges, heights = histogram(values, threshold.tau, canvas.low, canvas.high)
    top = max(float(heights.max()), max(threshold.density, default=0.0), 1e-9)
    for left, right, height in zip(edges[:-1], edges[1:], heights / top, strict=True):
        if height > 0:
            near, far = canvas.x(max(left, canvas.low)), canvas.x(min(left + 0.92 * (right - left), canvas.high))
            colour = SUSPECT_BAR if left >= threshold.tau else KEPT_BAR
            canvas.draw.rectangle((near, canvas.y(height), max(near, far), canvas.y(0)), fill=colour)
    if threshold.grid:
        curve = zip(threshold.grid, threshold.density, strict=True)
        canvas.line([(canvas.x(x), canvas.y(height / top)) for x, height in curve], CURVE, 2.2)
    if not values.size:
        canvas.text(canvas.x(0.5), canvas.y(0.5), "no scored rows", MUTED, 17, "mm")
    return top


def _axis(canvas: _Canvas) -> None:
    floor, left, right = canvas.y(-BELOW), canvas.x(canvas.low), canvas.x(canvas.high)
    canvas.line([(left, floor), (right, floor)], MUTED, 1)
    for tick in np.arange(np.ceil(canvas.low * 5), np.floor(canvas.high * 5) + 1) / 5:
        canvas.line([(canvas.x(tick), floor), (canvas.x(tick), floor + 5 * canvas.unit)], MUTED, 1)
        canvas.text(canvas.x(tick), floor + 8 * canvas.unit, f"{tick:.1f}", MUTED, 12, "ma")
    canvas.text((left + right) / 2, floor + 27 * canvas.unit, "normalised spectral entropy", MUTED, 13, "ma")


def _marks(canvas: _Canvas, threshold: Threshold, top: float) -> None:
    """tau as a broken line, every peak as a dot, the valley's density where it was found."""
    x, start, end = canvas.x(threshold.tau), canvas.y(ABOVE), canvas.y(0)
    for at in np.arange(start, end, 9 * canvas.unit):
        canvas.line([(x, at), (x, min(at + 5 * canvas.unit, end))], INK, 1.6)
    labels = [
        ("rt", -8, "below τ", "#2f6cae", threshold.tau > 0.1),
        ("lt", 8, "above τ", "#b5462a", threshold.tau < 0.9),
    ]
    for anchor, offset, text, colour, fits in labels:
        if fits:
            canvas.text(x + offset * canvas.unit, start + 4 * canvas.unit, text, colour, 13, anchor)
    for peak in threshold.peaks:
        outer = peak.x in (threshold.left_peak, threshold.right_peak)
        canvas.dot(peak.x, peak.height / top, 4.5 if outer else 2.5, CURVE, CURVE)
    if threshold.valley is not None:
        height = float(np.interp(threshold.valley, threshold.grid, threshold.density))
        canvas.dot(threshold.valley, height / top, 4.5, "white", CURVE)


def _rug(canvas: _Canvas, values: np.ndarray, tau: float) -> None:
    """One tick a row below the axis, so that a handful of suspects beside a thousand clean rows is seen."""
    if values.size > LARGEST_RUG:  # evenly over the sorted rows: the same picture in any order
        values = np.sort(values)[np.linspace(0, values.size - 1, LARGEST_RUG).astype(int)]
    for rows, colour in ((values[values <= tau], KEPT), (values[values > tau], SUSPECT)):
        for value in rows:
            x = canvas.x(value)
            canvas.line([(x, canvas.y(-0.02)), (x, canvas.y(-0.06))], colour, 1)
