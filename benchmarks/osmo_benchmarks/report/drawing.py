"""How plots are drawn: SVG whose colours follow the page that holds it, light or dark.

matplotlib knows no CSS variables: it draws with placeholder colours, which are then replaced.
"""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot as plt

INK, GRID = "#010203", "#040506"
SYSTEMS = {
    "legacy": ("#0a0b01", "#8a8f98", "#8f96a3"),
    "go": ("#0a0b02", "#c75000", "#ff8f3f"),
    "go-tuned": ("#0a0b03", "#009e73", "#2fd0a5"),
    "osmo-ws": ("#0a0b04", "#0072b2", "#5fb3f0"),
    "osmo-grpc": ("#0a0b05", "#b07d00", "#f2c14e"),
    "osmo-memory": ("#0a0b06", "#b3589a", "#e08bc6"),
    "osmo-other": ("#0a0b07", "#56b4e9", "#9fd3f5"),
}
"""By system: placeholder, and its colour on a light and on a dark page (after Okabe and Ito, to be
told apart with every kind of colour vision)."""
LINES = {
    "legacy": ":",
    "go": "--",
    "go-tuned": "-.",
    "osmo-ws": "-",
    "osmo-grpc": (0, (5, 1)),
    "osmo-memory": (0, (1, 1)),
    "osmo-other": (0, (3, 1, 1, 1)),
}
"""So that colour is not all that tells systems apart."""

METADATA = re.compile("<metadata>.*?</metadata>", re.DOTALL)
"""Names schemes on the network that a page without one has no use for."""

WIDTH, HEIGHT = 4.6, 3.0
"""Inches: narrow, so that text is readable where a phone shrinks it."""

SETTINGS: Any = {
    "font.size": 9.5,
    "font.family": "sans-serif",
    "svg.fonttype": "none",
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "lines.linewidth": 1.6,
}


def variables(theme: int) -> str:
    """The CSS variables of a theme; 0: light, 1: dark."""
    ink, grid, dim, page = (
        ("#1f2328", "#d4d8de", "#59636e", "#ffffff"),
        ("#e6e9ee", "#3c434d", "#9aa4b0", "#14181d"),
    )[theme]
    colours = "".join(f"--{name}:{values[1 + theme]};" for name, values in SYSTEMS.items())
    return f"--ink:{ink};--grid:{grid};--dim:{dim};--page:{page};{colours}"


def colour(system: str) -> str:
    """To draw a system with."""
    return SYSTEMS[system][0]


@contextmanager
def settings(name: str) -> Iterator[None]:
    """Draw the plot `name`: what it refers to by id is not found in another plot of the page."""
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": name}):
        yield


def svg(figure: Any) -> str:
    """The SVG element of a figure, which is closed."""
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None}
    )
    plt.close(figure)
    text = buffer.getvalue()
    text = METADATA.sub("", text[text.index("<svg") :]).strip()
    text = text.replace(INK, "var(--ink)").replace(GRID, "var(--grid)")
    for name, (placeholder, *_) in SYSTEMS.items():
        text = text.replace(placeholder, f"var(--{name})")
    return text.replace("DejaVu Sans", "system-ui, sans-serif").replace(
        "'Bitstream Vera Sans', ", ""
    )
