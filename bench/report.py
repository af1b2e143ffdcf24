"""The documents that `bench/run` writes: docs/benchmarks.md, and blocks of the README, of the data in docs/benchmarks/."""

import json, re

import tables

BLOCK = re.compile(r"(<!-- bench/run: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# Of each section's tables, the rows that the README tells: what they are called there.
CHIEF = [
    ("boot-common", "Starts", "first output", "start to first output, a kernel as others configure it"),
    ("boot", "Starts", "first output", "start to first output, mvm's kernel"),
    ("boot-common", "Starts", "memory then", "memory then, a kernel as others configure it"),
    ("boot-common", "Starts", "memory 8 s later", "memory 8 s later, a kernel as others configure it"),
    ("density", "Many machines", "each of 50, all", "memory for each of 50 idle machines"),
    ("fs", "Files", "store: cold walk", "files of the store: a cold walk"),
    ("fs", "Files", "store: cold read", "files of the store: all read, cold"),
    ("fs", "Requests to the file server", "store of 4000 nodes: walk", "requests of a cold walk of 4,000 nodes"),
    ("fs", "Files", "share: git status, cold", "`git status` on a share, cold"),
    ("net", "Networks", "nginx, no file", "nginx"),
    ("net", "Networks", "TCP to the machine", "TCP to a machine"),
    ("net", "Networks", "TCP from the machine", "TCP from a machine"),
    ("blk", "Volumes", "random 4 KiB read", "random 4 KiB reads of a volume"),
    ("blk", "Volumes", "4 KiB write, each with fdatasync", "4 KiB writes, each with a flush"),
    ("exec", "Commands in a machine", "one after the other", "`mvm exec` of a program"),
    ("stop", "Stops", "asked to end", "a stop"),
    ("compose", "Several services", "no check, until up", "`mvm up` of ten services"),
    ("rebuild", "Edits", "edit to the answer", "from an edit of a Nix expression to the answer of its service"),
    ("rebuild", "Edits", "evaluation", "of that, evaluation"),
    ("rebuild", "Edits", "build", "of that, build"),
    ("rebuild", "Edits", "start to the answer", "of that, the machine's start until it answers"),
    ("emulator", "The emulated host", "the emulated host starts", "without hardware KVM: a first command, until its first output"),
    ("emulator", "The emulated host", "it runs", "the same, a next command"),
]
INTRODUCTION = """# Benchmarks

`bench/run` has written this file, its plots and the README's table, of what it has measured; every figure of every round is in
[benchmarks/](benchmarks/), and each bench tells what it does by `bench/NAME --help`. Figures are medians. Where there is no
hardware KVM everything runs in the emulated host: there ratios and counts hold, milliseconds do not. All programs that it runs
are at the same addresses each time, since QEMU would translate them anew at others, at which no processor takes time.
"""


def markdown(cells, align):
    heads, lines = cells
    rows = [heads, [align] * len(heads), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def markdown_table(table):
    heads, lines = tables.cells(table)
    units = [line.pop() for line in lines]
    named = [[f"{line[0]}, {unit}", *line[1:]] for line, unit in zip(lines, units)]
    return markdown((heads[:-1], named), "---")


def common(data):
    """What is told once: facts that are the same in all sections."""
    facts = [section["host"] for section in data.values() if "host" in section]
    return {key: value for key, value in (facts[0] if facts else {}).items() if all(other.get(key) == value for other in facts)}


def listed(facts):
    return "".join(f"- {key}: {value}\n" for key, value in facts.items())


def section(name, title, data, told):
    """A section's part of docs/benchmarks.md."""
    if data is None:
        return f"\n## {title}\n\nNot measured yet: `bench/run --only {name}`.\n"
    if "failed" in data:
        return f"\n## {title}\n\nIt failed on {data['host']['date']}: {data['failed']}\n"
    text = f"\n## {title}\n\n`bench/run --only {name}`"
    own = {key: value for key, value in data["host"].items() if key not in told}
    text += ", " + ", ".join(f"{key}: {value}" for key, value in own.items()) + "\n" if own else "\n"
    for table in data["tables"]:
        heading = f"\n### {table['title']}\n" if len(data["tables"]) > 1 else ""
        text += f"{heading}\n{table['about']} Held equal: {table['held']}\n\n{markdown_table(table)}"
    return text + f"\n![{title}, as a plot](benchmarks/{name}.svg)\n"


def document(titles, data):
    """All of docs/benchmarks.md."""
    told = common(data)
    parts = [section(name, title, data.get(name), told) for name, title in titles.items()]
    return f"{INTRODUCTION}\n{listed(told)}{''.join(parts)}"


def chief_cells(data):
    heads, lines = ["", "ratio", "mvm", "beside it"], []
    for name, title, row, called in CHIEF:
        measured = [table for table in data.get(name, {}).get("tables", []) if table["title"] == title]
        rows = [(table, line) for table in measured for line in table["rows"] if line["row"] == row]
        for table, line in rows:
            lines += chief_lines(called, table, line)
    return heads, lines


def chief_lines(called, table, line):
    """A line for each of the sides that are mvm's; they differ in how the store comes, which shares have no part in."""
    peer = table["peer"]
    for own in table["own"][:1] if line["row"].startswith("share: ") else table["own"]:
        ours = f"{tables.shown(tables.median(line, own))} {line['unit']}"
        beside = f"{peer}: {tables.shown(tables.median(line, peer))}" if peer else ""
        part = called if own == table["own"][0] else f"the same, {own}"
        yield [part, tables.shown_ratio(tables.ratio(line, own, peer)) if peer else "", ours, beside]


def blocks(text, data):
    """The text with each marked block made anew."""
    made = {"figures": markdown(chief_cells(data), "---"), "host": listed(common(data))}
    return BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n{found[3]}", text)


def dumped(data):
    """A section's data as its file has it: figures with as many digits as count."""
    def rounded(value):
        if isinstance(value, float):
            return float(f"{value:.5g}")
        if isinstance(value, dict):
            return {key: rounded(each) for key, each in value.items()}
        return [rounded(each) for each in value] if isinstance(value, list) else value
    return json.dumps(rounded(data), indent=1, ensure_ascii=False) + "\n"
