"""Looks into Ropeway alone: its instructions, its system calls, and its peak memory against what it was allowed. The
figures of perf/run's table are taken without them."""

import re
import shutil

from loads import LOADS, Sizes, Stage, make_trees


def memory(options, work, sizes, ropeway):
    """{load: {size: peak in MiB}}: one run for each."""
    peaks = {}
    for name in options.loads:
        stage = Stage(options, work, sizes, LOADS[name])
        peaks[name] = {size: stage.run(ropeway, flags=["--memory", size])["rss_mib"] for size in options.memory}
        stage.close()
    return peaks


def syscalls(options, work, sizes, ropeway):
    """{load: strace's summary, with the calls for one object in front}, of the loads of small objects."""
    found = {}
    for name in options.loads:
        if LOADS[name].tree != "small":
            continue
        stage = Stage(options, work, sizes, LOADS[name])
        summary = work / "strace"
        counter = ["strace", "-f", "-c", "-S", "calls", "-U", "calls,errors,name", "-o", str(summary)]
        stage.run(ropeway, instrument=counter)
        stage.close()
        lines = []
        for line in summary.read_text().splitlines():
            call = re.match(r"\s*(\d+)\s", line)
            lines.append(f"{int(call.group(1)) / stage.objects:10.3f} {line}" if call else f"{'':10} {line}")
        lines[0] = f"{'per object':10}" + lines[0][10:]
        found[name] = "\n".join(lines) + "\n"
    return found


def per_object(summary):
    """The calls for one object in all, from a summary of `syscalls`."""
    return float(re.search(r"^\s*([\d.]+) .*\btotal$", summary, re.MULTILINE).group(1))


def instructions(options, work, ropeway):
    """{load: user-space instructions of one object, MiB or pair}: two runs of different size, so that the start of the
    process cancels out. The pool backend stands in for the ring, which valgrind does not know."""
    counts = {}
    for name in options.loads:
        totals, units = [], []
        for index, scale in enumerate((0.02, 0.06)):
            sizes = Sizes(scale)
            sizes.keys = (10_000, 40_000)[index]
            tree = work / f"instructions-{name}-{index}"
            tree.mkdir()
            make_trees(tree, sizes, [name])
            stage = Stage(options, tree, sizes, LOADS[name])
            file = tree / "callgrind.out"
            stage.run(
                ropeway,
                instrument=["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}"],
                flags=["--io", "pool"],
            )
            stage.close()
            counted = re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.MULTILINE)
            totals.append(int(counted.group(1)))
            objects, size_bytes = sizes.of(LOADS[name].tree)
            units.append(size_bytes / (1 << 20) if LOADS[name].tree == "large" else objects)
            shutil.rmtree(tree)
        counts[name] = (totals[1] - totals[0]) / (units[1] - units[0])
    return counts
