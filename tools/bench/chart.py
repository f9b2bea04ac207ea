"""The chart of the page: a few measures, each system a bar."""
# pyright: reportMissingImports=false, reportMissingModuleSource=false

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.catalog import CATALOG
from bench.results import Report
from bench.rows import Figures, Row, figure, number, rows

__all__ = ["draw"]

_COLORS = {"ours": "#2563eb", "floor": "#9ca3af"}
_PEER = "#d97706"


def draw(report: Report, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9})
    from matplotlib import pyplot

    figures = report.figures()
    panels = [row for row in _chosen(report.sizes) if any(figure(figures, key, row.path) for key in figures)]
    drawing, axes = pyplot.subplots(
        (len(panels) + 1) // 2, 2, figsize=(10, 2.4 * ((len(panels) + 1) // 2)), squeeze=False
    )
    flat = [axis for line in axes for axis in line]
    for axis, row in zip(flat, panels, strict=False):
        _panel(axis, row, figures)
    for axis in flat[len(panels) :]:
        axis.set_visible(False)
    drawing.tight_layout()
    drawing.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(drawing)


def _chosen(sizes: dict[str, Any]) -> list[Row]:
    """One row of each kind: five steps, the most at once, the longest history."""
    wanted = {
        ("single_ms", str(sizes["lengths"][len(sizes["lengths"]) // 2])),
        ("at_once", str(sizes["at_once"][-1]), "per_second"),
        ("per_second",),
        ("resume_ms", str(sizes["histories"][-1])),
        ("at_once_counts", "statements"),
        ("at_once", str(sizes["at_once"][-1]), "cpu_ms"),
    }
    return [row for row in rows(sizes) if row.path in wanted]


def _panel(axis: Any, row: Row, figures: Figures) -> None:
    values = {key: figure(figures, key, row.path) for key in CATALOG if key in figures}
    bars = {key: value for key, value in values.items() if value}
    names = [CATALOG[key].title for key in bars]
    colors = [_COLORS.get(key.partition("-")[0], _PEER) for key in bars]
    drawn = axis.barh(names, list(bars.values()), color=colors)
    axis.bar_label(drawn, labels=[number(value) for value in bars.values()], padding=3)
    axis.set_xscale("log")
    axis.set_xlim(min(bars.values()) / 2, max(bars.values()) * 4)
    axis.invert_yaxis()
    better = "more is better" if row.more_is_better else "less is better"
    axis.set_title(f"{row.title}{f', {row.unit}' if row.unit else ''} ({better})", fontsize=9)
    axis.spines[["top", "right"]].set_visible(False)
