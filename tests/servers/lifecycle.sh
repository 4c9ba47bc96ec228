# What every server of this folder does alike, sourced by the scripts beside it: find a port, start a process that can be
# found again, wait for it with a bound, and stop it. A process is known by its pid file, which it writes itself before it
# becomes the server, so even a start that is killed half-way leaves nothing that the next start cannot find. A pid file
# alone is not believed: numbers are used again, so the process must also name this run's directory in its arguments.
#
# Expects `dir`, the absolute directory of this run. Pid files are in `$dir/run`, logs in `$dir/log`.
# shellcheck shell=bash disable=SC2154

# How long one server may take from its start to its first answer. A cold start of the slowest takes about ten seconds on
# two idle cores; the rest is for machines that are busy with a build.
WAIT_TENTHS_MAX=1800

# How long a server may take to end before it is killed. Nothing it holds is needed afterwards.
STOP_TENTHS_MAX=50

say() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

# Ends the run with a reason and the end of every log, since on a build machine nobody can look afterwards.
fail() {
    say "$*"
    local log
    for log in "$dir"/log/*.log; do
        [[ -s $log ]] || continue
        printf -- '--- the end of %s\n' "$log" >&2
        tail -n 25 "$log" >&2
    done
    stop_started
    exit 1
}

# Prints a loopback port that nobody listens on. It stays below 32768, where the kernel begins to hand out ports for
# outgoing connections, so none is taken between this look and the server's own bind.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 12000))
        if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            printf '%s\n' "$port"
            return
        fi
    done
}

# start_process NAME COMMAND...: runs the command apart from this terminal, holding neither our stdin nor our stdout: the
# caller reads our stdout to its end.
start_process() {
    local name=$1
    shift
    (
        printf '%s\n' "$BASHPID" >"$dir/run/$name.pid"
        exec setsid "$@" </dev/null >>"$dir/log/$name.log" 2>&1
    ) &
}

# Prints the process id of NAME if that process runs and is ours.
running_pid() {
    local pid
    pid=$(cat "$dir/run/$1.pid" 2>/dev/null) || return 1
    [[ -n $pid ]] || return 1
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$dir/" || return 1
    printf '%s\n' "$pid"
}

# wait_until NAME SENTENCE COMMAND...: asks until the command succeeds. Gives up at once when NAME has died.
wait_until() {
    local name=$1 sentence=$2 tenths
    shift 2
    for ((tenths = 0; tenths < WAIT_TENTHS_MAX; tenths++)); do
        if "$@" >/dev/null 2>&1; then
            return
        fi
        # A process that has only just been forked has not yet its own arguments, hence the second look below.
        if ((tenths > 10)) && ! running_pid "$name" >/dev/null; then
            fail "$name ended before $sentence"
        fi
        sleep 0.1
    done
    fail "waited $((WAIT_TENTHS_MAX / 10)) s in vain: not yet $sentence"
}

# Whether an HTTP server on this loopback port answers a request at all; any status will do.
http_answers() {
    local status
    exec 3<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET / HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$1" >&3
    read -r -t 5 status <&3 || status=
    exec 3>&-
    [[ $status == HTTP/1.* ]]
}

# Ends every process that a start in this directory left behind, and forgets its pid file.
stop_started() {
    local file name pid tenths
    for file in "$dir"/run/*.pid; do
        [[ -e $file ]] || continue
        name=$(basename "$file" .pid)
        if pid=$(running_pid "$name"); then
            kill -TERM "$pid" 2>/dev/null || true
        fi
    done
    for file in "$dir"/run/*.pid; do
        [[ -e $file ]] || continue
        name=$(basename "$file" .pid)
        for ((tenths = 0; tenths < STOP_TENTHS_MAX; tenths++)); do
            running_pid "$name" >/dev/null || break
            sleep 0.1
        done
        if pid=$(running_pid "$name"); then
            kill -KILL "$pid" 2>/dev/null || true
        fi
        rm -f "$file"
    done
}

# Prints what a test needs to reach the server, as assignments that a shell can evaluate.
print_assignments() {
    local server=$1 port=$2 access_key=$3 secret_key=$4
    printf 'ROPEWAY_TEST_ENDPOINT=http://127.0.0.1:%s\n' "$port"
    printf 'ROPEWAY_TEST_ACCESS_KEY=%s\n' "$access_key"
    printf 'ROPEWAY_TEST_SECRET_KEY=%s\n' "$secret_key"
    printf 'ROPEWAY_TEST_REGION=us-east-1\n'
    printf 'ROPEWAY_TEST_SERVER=%s\n' "$server"
}
