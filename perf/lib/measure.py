"""One process on one core, from its start to its end: CPU, wall time, peak memory. And the server it talks to."""

import contextlib
import os
import re
import resource
import subprocess
import threading
import time

ACCESS_KEY, SECRET_KEY, REGION = "perf", "perf-secret", "us-east-1"


class Failed(Exception):
    """A tool could not do a load; the text is the reason."""


def measure(options, work, command, environment):
    """Runs `command` on the client's core.

    Raises Failed if it does not end well. `output` is what it printed on both streams; the text, not an event for every
    object, which would charge the client for printing them.
    """
    with open(work / "output", "wb") as output:
        pinned = ["taskset", "-c", str(options.client_core), *command]
        begun = time.monotonic()
        process = subprocess.Popen(
            pinned, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**base_environment(), **environment}
        )
        with peak_sampled(process.pid) as peak:
            _, status, usage = os.wait4(process.pid, 0)
            wall_s = time.monotonic() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
    text = (work / "output").read_text(errors="replace")
    if process.returncode != 0:
        raise Failed(f"{' '.join(map(str, command))} ended with {process.returncode}: {text[-500:].strip()}")
    # The kernel's maximum begins with what the process was before its exec, this interpreter. Below that only the
    # samples can tell, if the process lived long enough for one.
    own_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    peak_kib = peak[0] if peak[0] and usage.ru_maxrss <= own_kib else usage.ru_maxrss
    return {
        "user_s": usage.ru_utime,
        "system_s": usage.ru_stime,
        "rss_mib": peak_kib / 1024,
        "wall_s": wall_s,
        "output": text,
    }


def base_environment():
    """Nothing of the caller's that could configure a tool."""
    return {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}


@contextlib.contextmanager
def peak_sampled(pid):
    """The process's high-water mark in KiB, looked at 100 times a second."""
    peak, ended = [0], threading.Event()

    def sample():
        while not ended.wait(0.01):
            try:
                with open(f"/proc/{pid}/status") as status:
                    found = re.search(r"VmHWM:\s+(\d+)", status.read())
            except OSError:
                return
            if found:
                peak[0] = max(peak[0], int(found.group(1)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield peak
    finally:
        ended.set()
        sampler.join()


@contextlib.contextmanager
def serving(options):
    """Ropeway's memory server on a core of its own, at a port that the system chose; yields its endpoint."""
    command = ["taskset", "-c", str(options.server_core), options.server, "serve", "--memory", "--threads", "1"]
    command += ["--listen", "127.0.0.1:0", "--access-key", ACCESS_KEY, "--secret-access-key", SECRET_KEY]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        for line in server.stdout:
            found = re.search(r"http://127\.0\.0\.1:\d+", line)
            if found:
                # What it says later must not fill the pipe and stop it.
                threading.Thread(target=server.stdout.read, daemon=True).start()
                break
        else:
            raise SystemExit("error: the server ended before it said where it listens")
        yield found.group(0)
    finally:
        server.kill()
        server.wait()
