"""What a bench has measured: tables of figures, as text for those who run it alone and as JSON for `bench/run`.

A table has a title, what its rows are (`about`), what was held equal, its sides, of which those that are `own` are set
against one that is the `peer`, and rows: a name, a unit, and the figures of each side, one of each round."""

import json, statistics

NAME_WIDTH = 34


def table(title, about, held, rows, own=("mvm",), peer=None):
    """A table of {(row, unit): {side: [figures]}}."""
    listed = [{"row": row, "unit": unit, "figures": figures} for (row, unit), figures in rows.items()]
    return {"title": title, "about": about, "held": held, "own": list(own), "peer": peer, "rows": listed}


def sides_of(table):
    """All sides, in the order in which rows name them."""
    return list(dict.fromkeys(side for row in table["rows"] for side in row["figures"]))


def more_is_better(unit):
    return unit.endswith("/s") or unit == "IOPS"


def median(row, side):
    """None of a side that has no such figure."""
    figures = row["figures"].get(side)
    return statistics.median(figures) if figures else None


def ratio(row, own, peer):
    ours, theirs = median(row, own), median(row, peer)
    return ours / theirs if ours is not None and theirs else None


def shown(figure):
    """With three digits that count."""
    if figure is None:
        return "–"
    if figure == round(figure) or figure >= 100:
        return f"{figure:.0f}"
    return f"{figure:.1f}" if figure >= 10 else f"{figure:.2f}" if figure >= 1 else f"{figure:.3f}"


def shown_ratio(value):
    return "–" if value is None else f"{value:.2f}"


def cells(table):
    """Heads, and a line of cells for each row: ratios first, which count on any host."""
    peer, sides = table["peer"], sides_of(table)
    compared = [own for own in table["own"] if peer]
    heads = ["", *(f"{own} of {peer}" for own in compared), *sides, "unit"]
    lines = []
    for row in table["rows"]:
        ratios = [shown_ratio(ratio(row, own, peer)) for own in compared]
        lines.append([row["row"], *ratios, *(shown(median(row, side)) for side in sides), row["unit"]])
    return heads, lines


def print_table(table):
    heads, lines = cells(table)
    print(f"{table['title']}: {table['about']}\nHeld equal: {table['held']}")
    for name, *others in [heads, *lines]:
        print(f"{name:{NAME_WIDTH}}" + "".join(f"{cell:>{max(len(head), 8) + 2}}" for cell, head in zip(others, heads[1:])))


def tell(measured, as_json):
    """Prints what a bench has measured."""
    if as_json:
        print(json.dumps({"tables": measured}))
        return
    for each in measured:
        print_table(each)


def add_argument(parser):
    parser.add_argument("--json", action="store_true", help="print every figure as JSON")
