"""The loads of DESIGN.md §7: what lies where, who is run on it, and how it is known that the work was done."""

import contextlib
import dataclasses
import os
import re
import shutil

from measure import Failed, measure, serving
from tools import Ropeway

GIB = 1 << 30
SMALL_BYTES = 10 << 10
# Older than any upload: listings cut times to seconds, in which a file just made would be newer than its object.
MODIFIED_UNIX_S = 1_700_000_000


@dataclasses.dataclass(frozen=True)
class Load:
    name: str
    title: str
    limit: float  # The most CPU that DESIGN.md allows Ropeway, in `unit`.
    unit: str
    tree: str  # Where the files lie that it begins with.

    @property
    def changes_nothing(self):
        return self.name == "compare"


LOADS = {
    load.name: load
    for load in (
        Load("up-small", "upload 10,000 x 10 KiB", 30, "µs/object", "small"),
        Load("up-large", "upload 2 x 1 GiB", 0.40, "s/GiB", "large"),
        Load("down-small", "download 10,000 x 10 KiB", 55, "µs/object", "small"),
        Load("down-large", "download 2 x 1 GiB", 0.40, "s/GiB", "large"),
        Load("copy-small", "S3 to S3, 10,000 x 10 KiB", 50, "µs/object", "small"),
        Load("compare", "compare 1,000,000 with 1,000,000", 2.5, "µs/pair", "keys"),
    )
}


class Sizes:
    """How much of each load there is at a scale."""

    def __init__(self, scale):
        self.small_count = max(10, int(10_000 * scale))
        self.large_bytes = max(1 << 20, int(GIB * scale))
        self.large_count = 2
        self.keys = max(1_000, int(1_000_000 * scale))

    def of(self, tree):
        """(objects, bytes) of a tree."""
        return {
            "small": (self.small_count, SMALL_BYTES * self.small_count),
            "large": (self.large_count, self.large_bytes * self.large_count),
            "keys": (self.keys, 0),
        }[tree]


def make_trees(work, sizes, loads):
    """The sources, of bytes that no compression or sparse file could shorten."""
    trees = {LOADS[load].tree for load in loads}
    if "small" in trees:
        content = os.urandom(SMALL_BYTES + sizes.small_count)
        make_files(work / "small", sizes.small_count, lambda index: content[index : index + SMALL_BYTES])
    if "large" in trees:
        (work / "large").mkdir()
        block = os.urandom(1 << 20)
        for index in range(sizes.large_count):
            with open(work / "large" / f"{index}.bin", "wb") as file:
                for start in range(0, sizes.large_bytes, len(block)):
                    file.write(block[: sizes.large_bytes - start])
            os.utime(file.name, (MODIFIED_UNIX_S, MODIFIED_UNIX_S))
    if "keys" in trees:
        make_files(work / "keys", sizes.keys, lambda index: b"")


def make_files(directory, count, content):
    for index in range(count):
        path = f"{directory}/{index // 1000:04}"
        if index % 1000 == 0:
            os.makedirs(path)
        with open(f"{path}/object-{index:08}.bin", "wb") as file:
            file.write(content(index))
        os.utime(file.name, (MODIFIED_UNIX_S, MODIFIED_UNIX_S))


class Stage:
    """A load made ready on a server of its own, on which the tools then take turns. What a tool has uploaded or copied
    goes with its server or lies in a bucket of its own, so every tool finds the target empty."""

    def __init__(self, options, work, sizes, load):
        self.options, self.work, self.load = options, work, load
        self.objects, self.bytes = sizes.of(load.tree)
        self.ropeway = Ropeway(options)
        self.servers = contextlib.ExitStack()
        self.endpoint, self.copies = None, 0
        if load.name in ("down-small", "down-large", "copy-small"):
            self.endpoint = self.servers.enter_context(serving(options))
            self.seed("source")
        elif load.name == "compare":
            self.endpoint = self.servers.enter_context(serving(options))
            self.seed("source")
            self.seed("target")

    def close(self):
        self.servers.close()

    def seed(self, bucket):
        """Fills a bucket before anything is measured."""
        self.do(self.ropeway, self.endpoint, self.tree(), f"s3://{bucket}/")

    def run(self, tool, instrument=(), flags=()):
        """One process of `tool` from its start to its end, checked; what it cost."""
        tool.refuse(self.load.name)
        kind = self.load.name.split("-")[0]
        if kind == "up":
            with serving(self.options) as endpoint:
                measured = self.do(tool, endpoint, self.tree(), "s3://target/", instrument, flags)
                self.expect_equal(endpoint, self.tree(), "s3://target/")
        elif kind == "down":
            down = self.work / "down"
            down.mkdir()
            try:
                measured = self.do(tool, self.endpoint, "s3://source/", f"{down}/", instrument, flags)
                self.expect_files(down)
            finally:
                shutil.rmtree(down)
        elif kind == "copy":
            self.copies += 1
            target = f"s3://copy-{self.copies}/"
            measured = self.do(tool, self.endpoint, "s3://source/", target, instrument, flags)
            self.expect_equal(self.endpoint, "s3://source/", target)
        else:
            measured = self.do(tool, self.endpoint, "s3://source/", "s3://target/", instrument, flags)
            if tool.copied(measured["output"]):
                raise Failed(f"it copied, though both sides are the same:\n{measured['output'][-500:]}")
        return {"objects": self.objects, "bytes": self.bytes, **measured}

    def tree(self):
        return f"{self.work / self.load.tree}/"

    def do(self, tool, endpoint, source, target, instrument=(), flags=()):
        command, environment = tool.command(self.load, endpoint, source, target)
        return measure(self.options, self.work, [*instrument, *command, *flags], environment)

    def expect_equal(self, endpoint, source, target):
        """Everything arrived: Ropeway would find nothing to do."""
        left = self.do(self.ropeway, endpoint, source, target, flags=["--dry-run"])["output"]
        if not re.search(rf"\b0 objects, .* would be copied; {self.objects} skipped, .*\b0 failed", left):
            raise Failed(f"it ended well, but not everything arrived; a {left.strip().splitlines()[-1]}")

    def expect_files(self, down):
        objects, size_bytes = 0, 0
        for directory, _, files in os.walk(down):
            objects += len(files)
            size_bytes += sum(os.path.getsize(f"{directory}/{file}") for file in files)
        if (objects, size_bytes) != (self.objects, self.bytes):
            raise Failed(f"it ended well, but {objects} files of {size_bytes} bytes arrived")
