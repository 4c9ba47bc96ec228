//! What this machine allows, found by trying, and why not, in words that name the remedy. A ring that can be created may
//! still be refused its operations by a seccomp filter, so the probe does a no-op and a read, not only a setup.

use crate::runtime::Backend;

/// What the machine allows.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Whether io_uring works here; if not, the reason and the remedy as a sentence without a full stop.
    pub uring: Result<(), String>,
    /// See [`memory_limit_bytes`].
    pub memory_limit_bytes: Option<u64>,
    /// See [`open_files_limit`].
    pub open_files_limit: Option<u64>,
}

/// Which backend the user asked for (`--io`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IoChoice {
    /// The ring where it works, else the pool.
    #[default]
    Auto,
    /// The ring or nothing.
    Uring,
    /// The pool even where the ring works.
    Pool,
    /// glommio's executors or nothing.
    Glommio,
}

/// Asks the machine. Takes some tens of microseconds.
pub fn probe() -> Probe {
    Probe { uring: try_ring(), memory_limit_bytes: memory_limit_bytes(), open_files_limit: open_files_limit() }
}

/// Settles the backend of a run: what was chosen and, when the choice fell back to the pool, why.
///
/// # Errors
/// A sentence for the user when `--io uring` or `--io glommio` was asked for and the machine, or this build, refuses.
pub fn choose(requested: IoChoice) -> Result<(Backend, Option<String>), String> {
    settle(requested, try_ring)
}

/// glommio, if this build has it and its executors start here.
#[cfg(all(target_os = "linux", feature = "glommio"))]
fn try_glommio() -> Result<Backend, String> {
    match try_ring().and_then(|()| crate::file::try_glommio().map_err(|error| error.to_string())) {
        Ok(()) => Ok(Backend::Glommio),
        Err(reason) => Err(format!("glommio was asked for and does not work here: {reason}")),
    }
}

#[cfg(not(all(target_os = "linux", feature = "glommio")))]
fn try_glommio() -> Result<Backend, String> {
    Err("glommio was asked for and this ropeway was built without it; build it on Linux with `--features glommio`, or \
         choose another `--io`"
        .into())
}

fn settle(
    requested: IoChoice,
    try_ring: impl FnOnce() -> Result<(), String>,
) -> Result<(Backend, Option<String>), String> {
    match requested {
        IoChoice::Pool => Ok((Backend::Pool, None)),
        IoChoice::Glommio => Ok((try_glommio()?, None)),
        IoChoice::Uring => match try_ring() {
            Ok(()) => Ok((Backend::Uring, None)),
            Err(reason) => Err(format!("io_uring was asked for and does not work here: {reason}")),
        },
        IoChoice::Auto => match try_ring() {
            Ok(()) => Ok((Backend::Uring, None)),
            Err(reason) => Ok((Backend::Pool, Some(reason))),
        },
    }
}

#[cfg(target_os = "linux")]
fn try_ring() -> Result<(), String> {
    let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    ring::turn_once().map_err(|error| explain(&error, disabled.trim()))
}

#[cfg(not(target_os = "linux"))]
fn try_ring() -> Result<(), String> {
    Err("io_uring exists on Linux alone".into())
}

/// The likely cause of a refused ring. `disabled` is what `/proc/sys/kernel/io_uring_disabled` says, empty if nothing.
#[cfg(target_os = "linux")]
fn explain(error: &std::io::Error, disabled: &str) -> String {
    use rustix::io::Errno;
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) if disabled == "2" => {
            "the system forbids it to everybody (sysctl kernel.io_uring_disabled=2); set it to 0 to allow it".into()
        }
        Some(Errno::PERM | Errno::ACCESS) if disabled == "1" => {
            "the system allows it to a privileged group alone (sysctl kernel.io_uring_disabled=1); set it to 0, or join \
             the group named by kernel.io_uring_group"
                .into()
        }
        Some(Errno::PERM | Errno::ACCESS) => {
            "a security filter forbids it (EPERM), as containers do by default; run with a seccomp profile that allows \
             io_uring_setup, io_uring_enter and io_uring_register, for instance `--security-opt seccomp=unconfined`"
                .into()
        }
        Some(Errno::NOSYS) => {
            "the kernel does not offer it (ENOSYS); it needs Linux 5.6 or newer with CONFIG_IO_URING, and a sandbox such \
             as gVisor hides it"
                .into()
        }
        Some(Errno::NOMEM) => {
            "the limit of locked memory is too small for a ring (ENOMEM); raise it with `ulimit -l` or LimitMEMLOCK="
                .into()
        }
        Some(Errno::MFILE | Errno::NFILE) => {
            "no file descriptor is left for a ring; raise the limit with `ulimit -n` or LimitNOFILE=".into()
        }
        Some(Errno::INVAL) => "the kernel is too old for the operations needed (EINVAL); it needs Linux 5.6".into(),
        _ => format!("a test ring failed: {error}"),
    }
}

#[cfg(target_os = "linux")]
mod ring {
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;

    use io_uring::{IoUring, opcode, types};
    use rustix::fs::{MemfdFlags, memfd_create};

    /// Builds a small ring and runs one no-op and one file read through it.
    pub(super) fn turn_once() -> io::Result<()> {
        const CONTENT: &[u8; 8] = b"ropeway\n";
        let mut file = std::fs::File::from(memfd_create("ropeway-probe", MemfdFlags::CLOEXEC)?);
        file.write_all(CONTENT)?;
        let mut buffer = [0u8; CONTENT.len()];
        let mut ring: IoUring = crate::runtime::ring_settings().build(2)?;
        let no_op = opcode::Nop::new().build().user_data(0);
        let read = opcode::Read::new(types::Fd(file.as_raw_fd()), buffer.as_mut_ptr(), CONTENT.len() as u32)
            .build()
            .user_data(1);
        for entry in [&no_op, &read] {
            // SAFETY: `buffer` and `file` are declared before `ring`, so they outlive it on every way out of this
            // function, and its drop closes the ring, which ends its operations. `buffer` is not touched until both
            // completions have been read.
            unsafe { ring.submission().push(entry) }.map_err(|_| io::Error::other("the ring has no room"))?;
        }
        let mut answered = 0;
        while answered < 2 {
            match ring.submit_and_wait(2 - answered) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            for completion in ring.completion() {
                answered += 1;
                if completion.result() < 0 {
                    return Err(io::Error::from_raw_os_error(-completion.result()));
                }
            }
        }
        drop(ring);
        if &buffer == CONTENT { Ok(()) } else { Err(io::Error::other("a read through the ring returned wrong bytes")) }
    }
}

/// The memory this process may use: the least limit of its cgroup and the cgroups above it, and never more than the
/// machine has. `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn memory_limit_bytes() -> Option<u64> {
    let physical = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(total_memory_bytes);
    let membership = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = cgroup_limit_bytes(std::path::Path::new("/sys/fs/cgroup"), &membership);
    [physical, limit].into_iter().flatten().min()
}

/// The memory this process may use. `None`: this system does not say.
#[cfg(not(target_os = "linux"))]
pub fn memory_limit_bytes() -> Option<u64> {
    None
}

/// The most memory this process has had in RAM so far. `None` where the system does not say.
#[cfg(target_os = "linux")]
pub fn peak_memory_bytes() -> Option<u64> {
    kibibytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// The most memory this process has had in RAM so far. `None`: this system does not say.
#[cfg(not(target_os = "linux"))]
pub fn peak_memory_bytes() -> Option<u64> {
    None
}

#[cfg(target_os = "linux")]
fn total_memory_bytes(meminfo: &str) -> Option<u64> {
    kibibytes(meminfo, "MemTotal:")
}

/// The bytes in a line of `/proc` such as `MemTotal:  16384 kB`.
#[cfg(target_os = "linux")]
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The least memory limit on the way from this process's cgroup to the root of the hierarchy. `membership` is the text
/// of `/proc/self/cgroup`: lines `0::/path` (version 2) and `5:memory:/path` (version 1).
#[cfg(target_os = "linux")]
fn cgroup_limit_bytes(mount: &std::path::Path, membership: &str) -> Option<u64> {
    let mut least: Option<u64> = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let (top, limit_file) = match controllers {
            "" => (mount.to_path_buf(), "memory.max"),
            names if names.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // A container may see its host's group path without the directories: the walk up then reaches the mount
        // itself, which is the container's own group.
        for ancestor in std::path::Path::new(group.trim_start_matches('/')).ancestors() {
            let text = std::fs::read_to_string(top.join(ancestor).join(limit_file)).unwrap_or_default();
            // "max" (version 2) is no number and so no limit; version 1 says 2^63 less a page.
            if let Ok(limit) = text.trim().parse::<u64>() {
                least = Some(least.map_or(limit, |known| known.min(limit)));
            }
        }
    }
    least
}

/// How many files and sockets this process may have open at once (the soft limit). `None` when there is no limit.
#[cfg(unix)]
pub fn open_files_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// Lets this process have as many files and sockets open as the system allows it at most: the usual soft limit of 1,024 is
/// kept for programs that use `select`, and a dozen cores need more. What is not granted shows later, object by object.
#[cfg(unix)]
pub fn raise_open_files_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit on open files stays as it is");
        }
    }
}

/// This system has no such limit.
#[cfg(not(unix))]
pub fn raise_open_files_limit() {}

/// How many files and sockets this process may have open at once. `None`: this system has no such limit.
#[cfg(not(unix))]
pub fn open_files_limit() -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_falls_back_only_when_it_may() {
        let works = || Ok(());
        let fails = || Err("a filter forbids it".to_owned());
        assert_eq!(settle(IoChoice::Auto, works), Ok((Backend::Uring, None)));
        assert_eq!(settle(IoChoice::Uring, works), Ok((Backend::Uring, None)));
        assert_eq!(settle(IoChoice::Pool, works), Ok((Backend::Pool, None)));
        assert_eq!(settle(IoChoice::Auto, fails), Ok((Backend::Pool, Some("a filter forbids it".into()))));
        assert_eq!(settle(IoChoice::Pool, fails), Ok((Backend::Pool, None)));
        assert_eq!(
            settle(IoChoice::Uring, fails).unwrap_err(),
            "io_uring was asked for and does not work here: a filter forbids it"
        );
    }

    #[cfg(not(feature = "glommio"))]
    #[test]
    fn glommio_is_refused_where_it_is_not_built_in() {
        let said = settle(IoChoice::Glommio, || Ok(())).unwrap_err();
        assert!(said.contains("--features glommio"), "{said}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn each_refusal_names_its_remedy() {
        use rustix::io::Errno;
        let table = [
            (Errno::PERM, "2", "kernel.io_uring_disabled=2"),
            (Errno::PERM, "1", "kernel.io_uring_group"),
            (Errno::PERM, "0", "seccomp"),
            (Errno::PERM, "", "seccomp"),
            (Errno::NOSYS, "", "Linux 5.6"),
            (Errno::NOMEM, "0", "ulimit -l"),
            (Errno::MFILE, "0", "ulimit -n"),
            (Errno::IO, "0", "a test ring failed"),
        ];
        for (errno, disabled, words) in table {
            let said = explain(&errno.into(), disabled);
            assert!(said.contains(words), "{errno:?}: {said}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_least_limit_of_all_ancestors_counts() {
        let mount = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = mount.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("memory.max", "max\n");
        write("slice/memory.max", "1000\n");
        write("slice/job/memory.max", "4000\n");
        assert_eq!(cgroup_limit_bytes(mount.path(), "0::/slice/job\n"), Some(1000));
        assert_eq!(cgroup_limit_bytes(mount.path(), "0::/\n"), None);
        assert_eq!(cgroup_limit_bytes(mount.path(), "0::/not/seen/here\n"), None);
        write("memory/docker/memory.limit_in_bytes", "700\n");
        assert_eq!(cgroup_limit_bytes(mount.path(), "4:cpu:/x\n5:hugetlb,memory:/docker\n0::/slice\n"), Some(700));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_machine_has_memory_and_files() {
        assert_eq!(total_memory_bytes("MemTotal:        8048 kB\nMemFree: 1 kB\n"), Some(8048 * 1024));
        assert!(memory_limit_bytes().unwrap() > 1 << 20);
        assert!(open_files_limit().is_none_or(|limit| limit > 16));
    }
}
