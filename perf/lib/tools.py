"""The tools compared, and how each is started: in its best configuration that does the same job, which is to make the
target like the source and to verify what can be verified. All are told of 16 objects under way, as Ropeway has on one
core, unless others cost them less."""

import pathlib
import re
import subprocess
import sys

from measure import ACCESS_KEY, REGION, SECRET_KEY, Failed

AWS_ENVIRONMENT = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": REGION}


class Tool:
    """A program to be measured. `cannot` gives the reason for each load it has no way to do."""

    name = ""
    notes = ""
    cannot = {}

    def __init__(self, options):
        self.peers = pathlib.Path(options.peers)

    def version(self):
        """What it says it is; fails with OSError where it is not installed."""
        return self.asked(self.program(), "--version")

    def program(self):
        raise NotImplementedError

    def command(self, load, endpoint, source, target):
        """(arguments, environment) of one run. A side is `s3://bucket/` or a directory with its slash."""
        raise NotImplementedError

    def copied(self, output):
        """Whether a run that had nothing to do says that it did something."""
        raise NotImplementedError

    def refuse(self, load):
        if load in self.cannot:
            raise Failed(self.cannot[load])

    @staticmethod
    def asked(*command):
        said = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=True)
        return said.stdout.splitlines()[0].strip()


class Ropeway(Tool):
    name = "ropeway"
    notes = "uploads, downloads and copies verified by CRC64NVME and ETag (MD5)"

    def __init__(self, options):
        super().__init__(options)
        self.binary = options.ropeway

    def program(self):
        return pathlib.Path(self.binary)

    def command(self, load, endpoint, source, target):
        command = [self.program(), "sync", source, target, "--cores", "1"]
        for side, place in (("source", source), ("target", target)):
            if place.startswith("s3://"):
                command += [f"--{side}-endpoint-url", endpoint]
        return command, AWS_ENVIRONMENT

    def copied(self, output):
        return not re.search(r"^0 objects, ", output, re.MULTILINE)


class S3sync(Tool):
    name = "s3sync"
    notes = "small objects verified by ETag (MD5), large ones by CRC64NVME, as is cheaper; payloads not signed; no tags"

    def program(self):
        return self.peers / "bin/s3sync"

    def version(self):
        return " ".join(super().version().split()[:2])

    def command(self, load, endpoint, source, target):
        command = [self.program(), source, target, "--show-no-progress", "--disable-color-tracing", "--disable-tagging"]
        for side, place in (("source", source), ("target", target)):
            if place.startswith("s3://"):
                command += [f"--{side}-endpoint-url", endpoint, f"--{side}-force-path-style"]
                command += [f"--{side}-region", REGION, f"--{side}-access-key", ACCESS_KEY]
                command += [f"--{side}-secret-access-key", SECRET_KEY]
        if target.startswith("s3://"):
            command += ["--disable-payload-signing"]
        if load.name == "up-large":
            command += ["--additional-checksum-algorithm", "CRC64NVME", "--disable-content-md5-header"]
        if load.name == "down-large":
            command += ["--enable-additional-checksum", "--disable-etag-verify"]
        if load.changes_nothing:
            # For its summary; where it copies, this would print a line for each object.
            command += ["-v"]
        return command, {}

    def copied(self, output):
        return "transferred_object=0 " not in output


class S5cmd(Tool):
    name = "s5cmd"
    notes = "by cp, which compares nothing, but for compare; downloads not verified; copies by the service (CopyObject)"

    def program(self):
        # Not the wheel's script, which would start Python first.
        found = sorted(self.peers.glob("venv/lib/python3*/site-packages/s5cmd/bin/s5cmd"))
        return found[0] if found else self.peers / "venv/bin/s5cmd"

    def version(self):
        return "s5cmd " + self.asked(self.program(), "version")

    def command(self, load, endpoint, source, target):
        # A bucket is listed with a pattern, or its key would be taken literally.
        source = f"{source}*" if source.startswith("s3://") else source
        command = [self.program(), "--endpoint-url", endpoint, "--numworkers", "16"]
        # Its sync costs three times its cp even where the target is empty.
        command += ["--log", "info", "sync"] if load.changes_nothing else ["--log", "error", "cp"]
        if load.tree == "large":
            command += ["--concurrency", "16", "--part-size", "8"]
        return [*command, source, target], AWS_ENVIRONMENT

    def copied(self, output):
        return bool(output.strip())


class Rclone(Tool):
    name = "rclone"
    notes = (
        "uploads verified by Content-MD5, downloads of small objects by MD5, of large ones not; copies between two "
        "remotes, through the client"
    )

    def program(self):
        return self.peers / "venv/bin/rclone"

    def version(self):
        return self.asked(self.program(), "version")

    def command(self, load, endpoint, source, target):
        environment = {"RCLONE_CONFIG": "/dev/null"}
        # Two remotes, as between two services: of one it would ask the service to copy.
        for remote in ("LEFT", "RIGHT"):
            for name, value in {
                "TYPE": "s3",
                "PROVIDER": "Other",
                "ENDPOINT": endpoint,
                "REGION": REGION,
                "ACCESS_KEY_ID": ACCESS_KEY,
                "SECRET_ACCESS_KEY": SECRET_KEY,
                "FORCE_PATH_STYLE": "true",
                "NO_CHECK_BUCKET": "true",
                "NO_HEAD": "true",
                "CHUNK_SIZE": "8Mi",
                "UPLOAD_CUTOFF": "8Mi",
                "UPLOAD_CONCURRENCY": "16",
                "DISABLE_CHECKSUM": "true",
            }.items():
                environment[f"RCLONE_CONFIG_{remote}_{name}"] = value
        source, target = (
            f"{remote}:{place.removeprefix('s3://')}" if place.startswith("s3://") else place
            for remote, place in (("left", source), ("right", target))
        )
        command = [self.program(), "copy", source, target, "--transfers", "16", "--checkers", "16", "--fast-list"]
        # By MD5, which listings show: a modification time would be asked for with one more request for each object.
        command += ["--checksum", "--multi-thread-streams", "16", "--multi-thread-cutoff", "8Mi", "--stats", "0", "-v"]
        return command, environment

    def copied(self, output):
        return "Copied" in output


class AwsCS3(Tool):
    name = "aws-c-s3"
    notes = "by perf/lib/crt.py, whose Python is part of its cost; CRC64NVME sent, and asked for on the way back"
    cannot = {
        "copy-small": "its Python binding has no copy between buckets",
        "compare": "it has no listing to compare",
    }

    def program(self):
        return self.peers / "venv/bin/python"

    def version(self):
        return "aws-c-s3 by awscrt " + self.asked(self.program(), "-c", "import awscrt; print(awscrt.__version__)")

    def command(self, load, endpoint, source, target):
        return [self.program(), "-S", str(pathlib.Path(__file__).with_name("crt.py")), endpoint, source, target], {
            **AWS_ENVIRONMENT,
            "PYTHONPATH": str(next(self.peers.glob("venv/lib/python3*/site-packages"))),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


TOOLS = (Ropeway, S3sync, S5cmd, Rclone, AwsCS3)


def find_tools(options):
    """The tools wished for that are there, and for each other one why it is not."""
    present, absent = [], {}
    for kind in TOOLS:
        if kind.name not in options.only:
            continue
        tool = kind(options)
        try:
            tool.version()
        except (OSError, subprocess.CalledProcessError) as error:
            absent[tool.name] = f"not installed ({error}); perf/peers installs it"
        else:
            present.append(tool)
    if not present:
        reasons = "; ".join(f"{name}: {why}" for name, why in absent.items())
        sys.exit(f"error: no tool is there to be measured: {reasons}")
    return present, absent
