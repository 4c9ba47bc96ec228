"""What was measured: the tables for people, and every run in raw.csv."""

import csv
import datetime
import os
import pathlib
import platform
import re
import statistics
import subprocess
import sys

import instruments
from loads import GIB, LOADS

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
COLUMNS = ["round", "load", "tool", "objects", "bytes", "user_s", "system_s", "wall_s", "rss_mib", "load_average"]


class Taken:
    """Everything that one call of perf/run measured."""

    def __init__(self, options, tools, absent):
        self.options, self.tools = options, tools
        self.rows = []
        self.memory, self.syscalls, self.instructions = {}, {}, {}
        self.load_average = os.getloadavg()[0]
        self.failures = {(name, load): reason for name, reason in absent.items() for load in options.loads}

    def add(self, number, measured, tool, load):
        row = {"round": number, "load": load, "tool": tool.name, "load_average": os.getloadavg()[0], **measured}
        self.rows.append({name: row[name] for name in COLUMNS})

    def fail(self, tool, load, reason):
        self.failures[tool.name, load] = reason

    def has_failed(self, tool, load):
        return (tool.name, load) in self.failures

    def text(self):
        """The tables, in Markdown."""
        parts = [self.cpu_table(), "CPU of the tools, as multiples of Ropeway's, is in brackets.", self.own_table()]
        if self.memory:
            parts += ["Peak resident MiB against `--memory`:", self.memory_table()]
        if self.failures:
            parts += ["Without a figure:", "\n".join(self.reasons())]
        return "\n\n".join(part for part in parts if part)

    def cpu_table(self):
        """CPU of every tool at every load, with peak memory: the comparison."""
        head = ["load", "must reach", *(tool.name for tool in self.tools)]
        lines = [head, ["---"] * len(head)]
        for name in self.options.loads:
            load = LOADS[name]
            own = self.median_cpu("ropeway", name)
            cells = [f"{load.title}, {load.unit}", f"≤ {load.limit:g}"]
            for tool in self.tools:
                cpu = self.median_cpu(tool.name, name)
                if cpu is None:
                    cells.append("–")
                    continue
                times = f" ({cpu / own:.1f}x)" if own and tool.name != "ropeway" else ""
                peak = max(row["rss_mib"] for row in self.of(tool.name, name))
                cells.append(f"**{shown(cpu, load)}**{times}, {peak:.0f} MiB")
            lines.append(cells)
        return table(lines)

    def own_table(self):
        """More about each figure: how it spreads, what of it is the kernel's, and wall time."""
        head = ["load", "tool", "CPU, lowest to highest", "of it system", "wall s", "wall / Ropeway's", "instructions"]
        lines = [head, ["---"] * len(head)]
        for name in self.options.loads:
            for tool in self.tools:
                rows = self.of(tool.name, name)
                if not rows:
                    continue
                load = LOADS[name]
                figures = [cpu(row, load) for row in rows]
                wall = statistics.median(row["wall_s"] for row in rows)
                own = [row["wall_s"] for row in self.of("ropeway", name)]
                counted = self.instructions.get(name) if tool.name == "ropeway" else None
                per = "MiB" if load.tree == "large" else load.unit.split("/")[1]
                lines.append(
                    [
                        load.title,
                        tool.name,
                        f"{shown(min(figures), load)} to {shown(max(figures), load)}",
                        shown(statistics.median(row["system_s"] / units(row, load) for row in rows), load),
                        f"{wall:.2f}",
                        f"{wall / statistics.median(own):.1f}" if own else "–",
                        f"{counted:,.0f} / {per}" if counted else "–",
                    ]
                )
        return table(lines)

    def memory_table(self):
        sizes = self.options.memory
        lines = [["load", *(f"--memory {size}" for size in sizes)], ["---"] * (len(sizes) + 1)]
        for name, peaks in self.memory.items():
            lines.append([LOADS[name].title, *(f"{peaks[size]:.0f}" for size in sizes)])
        return table(lines)

    def reasons(self):
        for (tool, load), reason in sorted(self.failures.items()):
            yield f"* {tool}, {load}: {' '.join(reason.split())}"

    def of(self, tool, load):
        return [row for row in self.rows if (row["tool"], row["load"]) == (tool, load)]

    def median_cpu(self, tool, load):
        rows = self.of(tool, load)
        return statistics.median(cpu(row, LOADS[load]) for row in rows) if rows else None

    def save(self, root):
        """Writes perf/results/DATE-MACHINE/ and returns its name."""
        machine = re.sub(r"[^a-z0-9]+", "-", processor().lower()).strip("-")[:40]
        folder = root / "perf/results" / f"{datetime.date.today()}-{machine}"
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / "raw.csv", "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            for row in self.rows:
                rounded = {name: round(value, 6) if isinstance(value, float) else value for name, value in row.items()}
                writer.writerow(rounded)
        for load, summary in self.syscalls.items():
            (folder / f"syscalls-{load}.txt").write_text(summary)
        (folder / "README.md").write_text(self.readme())
        return folder.relative_to(root)

    def readme(self):
        options = self.options
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        calls = [f"{instruments.per_object(text):.2f} for {load}" for load, text in self.syscalls.items()]
        tools = "\n".join(f"* {tool.name}: {tool.version()}; {tool.notes}" for tool in self.tools)
        lines = [
            f"# {datetime.date.today()}, {processor()}",
            f"Commit {commit.stdout.strip()}, Linux {platform.release().split('-')[0]}, {os.cpu_count()} cores, load "
            f"average {self.load_average:.1f} before and {os.getloadavg()[0]:.1f} after.\nClient on core "
            f"{options.client_core}, memory server on core {options.server_core}, plain HTTP, sources and downloads in "
            f"{options.work}.\nMedian of {options.rounds} rounds in which the tools take turns, scale "
            f"{options.scale:g}. CPU is user and system time of\nthe client process. Every single run is in raw.csv. "
            "Taken with\n"
            f"`perf/run {' '.join(flags_of_interest())}`.",
            f"The tools are started as perf/lib/tools.py says:\n\n{tools}",
            self.text(),
        ]
        if calls:
            lines.append(f"System calls for one object (syscalls-*.txt): {', '.join(calls)}.")
        if self.instructions:
            lines.append("Instructions are those of user space, counted by callgrind with `--io pool`.")
        return "\n\n".join(lines) + "\n"


def units(row, load):
    """What a row's seconds are divided by."""
    return row["bytes"] / GIB if load.unit == "s/GiB" else row["objects"] / 1e6


def cpu(row, load):
    return (row["user_s"] + row["system_s"]) / units(row, load)


def shown(figure, load):
    return f"{figure:.{2 if load.limit < 10 else 1}f}"


def table(lines):
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def flags_of_interest():
    """The command line without what is true of this machine alone."""
    local = ("--ropeway", "--server", "--peers", "--work", "/")
    return [argument for argument in sys.argv[1:] if not argument.startswith(local)]


def processor():
    with open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()
