"""The threshold as a PNG: what the UI shows beside the asset, and what lies beside the verdicts as `threshold.png`."""

import io

import numpy as np

from gradsentry_lib.detection.entropy_threshold import Threshold

BINS = 60
INK, MUTED, GRID = "#1f2933", "#5f6c7b", "#e4e7eb"
KEPT, SUSPECT, CURVE = "#7aa5d8", "#e07a5f", "#243b53"
LARGEST_RUG = 4_000  # rows drawn one by one below the axis


def threshold_png(entropies: np.ndarray, threshold: Threshold, width_px: int = 900) -> bytes:
    """Histogram, density, peaks and tau of one batch; under 50 kB at the default width, so that it fits in metadata.

    `entropies`: (N,) normalised entropies; NaN and infinite values are left out, as they were from the threshold.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    values = np.asarray(entropies, dtype=np.float64)
    values = values[np.isfinite(values)]
    figure = Figure(figsize=(9, 4.5), dpi=width_px / 9, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.06, 0.14, 0.915, 0.68))
    low, high = axis_range(values)
    top = _bars(axes, values, threshold, low, high)
    _marks(axes, threshold, top)
    _rug(axes, values, threshold.tau, top)
    axes.set(xlim=(low, high), ylim=(-0.075 * top, 1.22 * top), yticks=[])
    axes.set_xlabel("normalised spectral entropy", color=MUTED, fontsize=11)
    axes.set_ylabel("density of rows", color=MUTED, fontsize=11)
    axes.tick_params(colors=MUTED, labelsize=10)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    title, subtitle = caption(threshold)
    figure.text(0.06, 0.925, title, color=INK, fontsize=14, weight="bold", parse_math=False)
    figure.text(0.06, 0.86, subtitle, color=MUTED, fontsize=11, parse_math=False)
    return _png(figure)


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


def _bars(axes, values: np.ndarray, threshold: Threshold, low: float, high: float) -> float:
    """The histogram, split in colour at tau, with the density over it. Returns the height of the highest."""
    edges, heights = histogram(values, threshold.tau, low, high)
    colours = [SUSPECT if edge >= threshold.tau else KEPT for edge in edges[:-1]]
    width = edges[1] - edges[0]
    axes.bar(edges[:-1], heights, width=width * 0.92, align="edge", color=colours, alpha=0.75, linewidth=0)
    axes.plot(threshold.grid, threshold.density, color=CURVE, linewidth=1.8)
    if not values.size:
        axes.text(0.5, 0.5, "no scored rows", color=MUTED, fontsize=14, ha="center", transform=axes.transAxes)
    return float(max(heights.max(), *threshold.density, 1e-9) if threshold.density else max(heights.max(), 1e-9))


def _marks(axes, threshold: Threshold, top: float) -> None:
    """tau as a line, every peak as a dot, the valley's density where it was found."""
    axes.axvline(threshold.tau, ymin=0.075 / 1.295, color=INK, linewidth=1.4, linestyle=(0, (4, 3)))
    labels = [
        ("right", -6, "below τ", "#2f6cae", threshold.tau > 0.1),
        ("left", 6, "above τ", "#b5462a", threshold.tau < 0.9),
    ]
    for side, offset, text, colour, fits in labels:
        if fits:
            place = {"xytext": (offset, -10), "textcoords": "offset points", "ha": side}
            axes.annotate(text, (threshold.tau, 1.22 * top), color=colour, fontsize=11, **place)
    for peak in threshold.peaks:
        outer = peak.x in (threshold.left_peak, threshold.right_peak)
        axes.plot(peak.x, peak.height, "o", color=CURVE, markersize=7 if outer else 4, zorder=3)
    if threshold.valley is not None:
        height = float(np.interp(threshold.valley, threshold.grid, threshold.density))
        axes.plot(threshold.valley, height, "o", color="white", markeredgecolor=CURVE, markersize=7, zorder=3)


def _rug(axes, values: np.ndarray, tau: float, top: float) -> None:
    """One tick a row below the axis, so that a handful of suspects beside a thousand clean rows is seen."""
    if values.size > LARGEST_RUG:  # evenly over the sorted rows: the same picture in any order
        values = np.sort(values)[np.linspace(0, values.size - 1, LARGEST_RUG).astype(int)]
    for rows, colour in ((values[values <= tau], KEPT), (values[values > tau], SUSPECT)):
        axes.vlines(rows, -0.06 * top, -0.02 * top, color=colour, linewidth=0.8, alpha=0.8)


def _png(figure) -> bytes:
    """PNG with a palette of 64 colours: a third of the size, and no difference that one sees."""
    from PIL import Image

    raw = io.BytesIO()
    figure.savefig(raw, format="png")
    small = io.BytesIO()
    Image.open(raw).convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
    return small.getvalue()
