"""Plots of what benches have measured: SVG that is the same for the same data."""

import io

import matplotlib

import tables

matplotlib.use("svg")
# No date, and identifiers that do not change from run to run; text stays text.
matplotlib.rcParams.update({"svg.hashsalt": "mvm", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
                            "axes.spines.right": False})
METADATA = {"Date": None, "Creator": None}
ROW_INCHES, MARGIN_INCHES, WIDTH_INCHES = 0.3, 1.1, 8

from matplotlib import pyplot, ticker


def plot(section_tables):
    """All tables of a section, one below the other."""
    heights = [len(table["rows"]) * ROW_INCHES + MARGIN_INCHES for table in section_tables]
    figure, axes = pyplot.subplots(len(section_tables), 1, figsize=(WIDTH_INCHES, sum(heights)), squeeze=False,
                                   layout="constrained", gridspec_kw={"height_ratios": heights})
    for table, axis in zip(section_tables, axes[:, 0]):
        (ratios if table["peer"] else bars)(table, axis)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="svg", metadata=METADATA)
    pyplot.close(figure)
    return drawn.getvalue().decode()


def label(row):
    return f"{row['row']}, {row['unit']}" + (" (more is better)" if tables.more_is_better(row["unit"]) else "")


def rows_of(table, axis):
    rows = table["rows"]
    axis.set_yticks(range(len(rows)), [label(row) for row in rows])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    return rows


def ratios(table, axis):
    """Each side's median of the peer's, and from which to which round it goes."""
    rows, sides = rows_of(table, axis), tables.sides_of(table)
    for number, side in enumerate(sides):
        points = []
        for place, row in enumerate(rows):
            peers, figures = tables.median(row, table["peer"]), row["figures"].get(side)
            if peers and figures and min(figures) > 0:
                middle, low, high = (figure / peers for figure in (tables.median(row, side), min(figures), max(figures)))
                points.append((middle, place + (number - (len(sides) - 1) / 2) * 0.15, middle - low, high - middle))
        if points:
            x, y, below, above = zip(*points)
            axis.errorbar(x, y, xerr=[below, above], fmt="o", markersize=4, linewidth=1, label=side)
    axis.axvline(1, color="0.6", linewidth=0.8)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    axis.xaxis.set_minor_formatter(ticker.NullFormatter())
    axis.set_xlabel(f"of {table['peer']}")
    axis.set_title(table["title"], loc="left")
    axis.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))


def bars(table, axis):
    """Medians of tables without a peer, with the shortest and the longest round."""
    rows, (own,) = rows_of(table, axis), table["own"]
    medians = [tables.median(row, own) for row in rows]
    spread = [[middle - min(row["figures"][own]) for middle, row in zip(medians, rows)],
              [max(row["figures"][own]) - middle for middle, row in zip(medians, rows)]]
    axis.barh(range(len(rows)), medians, xerr=spread, height=0.6, color="0.75", error_kw={"linewidth": 1})
    axis.set_title(table["title"], loc="left")
