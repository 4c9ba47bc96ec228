//! Killed at any moment, and run again until it is done: the trees are the same, nothing was sent that the server had, and
//! nothing unfinished is left. Many runs, each by a seed that is printed; a failure names its seed, and
//! `ROPEWAY_KILL_SEEDS=17..18` runs that one alone.
//!
//! The client is killed when a relay has let a random number of bytes or requests pass, never after a time. What the relay
//! holds back at that moment is dropped with its connections, as a cable that is cut would do.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use support::cmd::Output;
use support::relay::Relay;
use support::tree::noise;
use support::{Cmd, Server, Tree};

const LARGE_FILES: u64 = 3;
const LARGE_BYTES: usize = 24 << 20;
const SMALL_FILES: u64 = 200;
const CUT: [&str; 4] = ["--multipart-chunksize", "5MiB", "--multipart-threshold", "5MiB"];

/// Kills in one seed, at most.
const KILLS_MAX: u64 = 3;

#[derive(Debug, Clone, Copy)]
enum Direction {
    Up,
    Down,
    Copy,
}

#[test]
#[ignore = "hundreds of runs; CI takes them in release"]
fn i6_killed_at_any_moment_and_run_again_it_completes_and_sends_nothing_twice() {
    let seeds = seeds();
    say(&format!("seeds {seeds:?}"));
    let home = Tree::new();
    let server = Serve::start(home.path());
    let mut content = BTreeMap::new();
    for number in 0..LARGE_FILES {
        content.insert(PathBuf::from(format!("{}/large{number}", number % 2)), noise(number, LARGE_BYTES));
    }
    for number in 0..SMALL_FILES {
        content.insert(PathBuf::from(format!("{}/small{number}", number % 7)), noise(number, number as usize * 40));
    }
    for (path, bytes) in &content {
        home.file(Path::new("source").join(path), bytes);
    }
    Cmd::sync(home.path(), "source", "s3://origin/").to(&server.server).args(CUT).expect(0);
    // A job is known by its service's address, so all runs go through one relay.
    let relay = Relay::before(&server.server);
    let mut kills = 0;
    for seed in seeds {
        kills += one_seed(seed, &home, &server, &relay, &content);
    }
    say(&format!("{kills} kills"));
}

/// As many kills as the seed says, then a run to the end. Returns the number of kills that came before the run was done.
fn one_seed(seed: u64, home: &Tree, server: &Serve, relay: &Relay, content: &BTreeMap<PathBuf, Vec<u8>>) -> u64 {
    let mut dice = fastrand::Rng::with_seed(seed);
    let direction = [Direction::Up, Direction::Down, Direction::Copy][seed as usize % 3];
    let (bucket, log_start) = (format!("target-{seed}"), server.log_bytes());
    let tree = Tree::new();
    let run = |at: &Server| {
        let (source, bucket_place) = (home.at("source"), format!("s3://{bucket}/"));
        let source = source.to_str().expect("UTF-8");
        let run = match direction {
            Direction::Up => Cmd::sync(tree.path(), source, &bucket_place).to(at),
            Direction::Down => Cmd::sync(tree.path(), "s3://origin/", "down").from(at),
            Direction::Copy => Cmd::sync(tree.path(), "s3://origin/", &bucket_place).from(at).to(at),
        };
        run.args(CUT).arg("--json").arg("--state-dir").arg(tree.at("state"))
    };
    let mut kills = 0;
    for _ in 0..dice.u64(1..=KILLS_MAX) {
        let bytes = LARGE_FILES * LARGE_BYTES as u64;
        match (dice.u8(..3), direction) {
            (0, _) => relay.hold_requests_after(dice.u64(..SMALL_FILES)),
            (_, Direction::Down) => relay.hold_answers_after(dice.u64(..bytes)),
            (_, Direction::Up) => relay.hold_uploads_after(dice.u64(..bytes)),
            (1, Direction::Copy) => relay.hold_answers_after(dice.u64(..bytes)),
            (_, Direction::Copy) => relay.hold_uploads_after(dice.u64(..bytes)),
        }
        let killed = kill_when_held(relay, run(&relay.server));
        relay.cut();
        relay.release();
        if !killed {
            break;
        }
        kills += 1;
    }
    let last = run(&relay.server).run();
    let context = format!("seed {seed}, {direction:?}, {kills} kills");
    assert_eq!(last.code, 0, "{context}: {}", last.stderr);
    match direction {
        Direction::Up | Direction::Copy => {
            let there = server.server.objects(&bucket, "");
            assert_eq!(there.len(), content.len(), "{context}");
            let same = |(path, bytes): (&PathBuf, &Vec<u8>)| there.get(path.to_str().expect("UTF-8")) == Some(bytes);
            assert!(content.iter().all(same), "{context}: the content differs");
            assert_eq!(server.server.open_uploads(&bucket), [""; 0], "{context}");
        }
        Direction::Down => {
            let names: Vec<_> =
                tree.names("down").into_iter().filter(|name| tree.at("down").join(name).is_file()).collect();
            assert_eq!(names, content.keys().cloned().collect::<Vec<_>>(), "{context}");
            assert!(tree.contents("down") == *content, "{context}: the content differs");
        }
    }
    assert_eq!(tree.names("state"), [""; 0].map(PathBuf::from), "{context}");
    let again = sent_again(&server.log_since(log_start));
    assert_eq!(again, [""; 0], "{context}");
    for key in server.server.keys(&bucket, "").iter().filter(|key| key.contains("large")) {
        server.server.request("DELETE", &format!("/{bucket}/{key}"), &[], b"").expect("deleting");
    }
    kills
}

/// Starts a run and kills it when its bytes are held back. False if it came to its end before.
fn kill_when_held(relay: &Relay, run: Cmd) -> bool {
    let child = run.spawn();
    let (id, ended) = (child.id(), relay.give_up());
    let waiting = std::thread::spawn(move || {
        let output = Output::of(child);
        ended();
        output
    });
    // A run that is held cannot have ended, so the number is still its own.
    let held = relay.wait_until_held();
    if held {
        let line = format!("kill -KILL {id}");
        assert!(Command::new("sh").args(["-c", &line]).status().expect("a shell").success());
    }
    let output = waiting.join().expect("the thread only waits");
    assert!(held || output.code == 0, "{}", output.stderr);
    held
}

/// Parts that were sent although the server had them and had said so: `ListParts` was asked after they were stored.
fn sent_again(log: &[String]) -> Vec<String> {
    let mut requests: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    let mut stored: BTreeSet<(String, String)> = BTreeSet::new();
    let mut told: BTreeSet<(String, String)> = BTreeSet::new();
    let mut again = Vec::new();
    for line in log {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            [number, "begin", method, target] => {
                requests.insert(number, (method, target));
                let (upload, part) = (parameter(target, "uploadId"), parameter(target, "partNumber"));
                match (method, upload, part) {
                    ("GET", Some(upload), None) => told.extend(stored.iter().filter(|it| it.0 == upload).cloned()),
                    ("PUT", Some(upload), Some(part)) if told.contains(&(upload.clone(), part.clone())) => {
                        again.push(line.clone());
                    }
                    _ => {}
                }
            }
            [number, "end", "200"] => {
                if let Some(("PUT", target)) = requests.get(number)
                    && let (Some(upload), Some(part)) = (parameter(target, "uploadId"), parameter(target, "partNumber"))
                {
                    stored.insert((upload, part));
                }
            }
            [_, "end", _] => {}
            _ => panic!("a line that the log does not have: {line}"),
        }
    }
    again
}

fn parameter(target: &str, name: &str) -> Option<String> {
    let (_, query) = target.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')).map(str::to_owned)
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `ROPEWAY_KILL_SEEDS=FIRST..END`, else the first 200.
fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("ROPEWAY_KILL_SEEDS") else { return 0..200 };
    let (first, end) = text.split_once("..").expect("FIRST..END");
    first.parse().expect("a number")..end.parse().expect("a number")
}

/// `ropeway serve` in a process of its own.
struct Serve {
    child: Child,
    server: Server,
    log: PathBuf,
}

impl Serve {
    fn start(directory: &Path) -> Serve {
        let log = directory.join("requests.log");
        let mut child = Command::new(env!("CARGO_BIN_EXE_ropeway"))
            .args(["serve", "--memory", "--listen", "127.0.0.1:0", "--access-key", "key", "--log-requests"])
            .arg(&log)
            .env("ROPEWAY_SECRET_ACCESS_KEY", "a-secret-for-tests")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("its first line");
        let endpoint = line.trim().strip_prefix("listening on ").expect("its address").to_owned();
        let word = |text: &str| text.to_owned();
        let server =
            Server::known(endpoint, word("key"), word("a-secret-for-tests"), word("us-east-1"), word("embedded"));
        Serve { child, server, log }
    }

    fn log_bytes(&self) -> u64 {
        std::fs::metadata(&self.log).map_or(0, |facts| facts.len())
    }

    fn log_since(&self, start: u64) -> Vec<String> {
        let text = std::fs::read(&self.log).expect("the log");
        String::from_utf8_lossy(&text[start as usize..]).lines().map(str::to_owned).collect()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_part_counts_as_sent_again_only_if_the_server_had_told_of_it() {
    let log = |lines: &[&str]| sent_again(&lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
    let part = "1 begin PUT /b/k?partNumber=1&uploadId=u";
    let once_more = "3 begin PUT /b/k?partNumber=1&uploadId=u";
    let listed = "2 begin GET /b/k?uploadId=u";
    assert_eq!(log(&[part, "1 end 200", listed, "2 end 200", once_more]), [once_more]);
    assert_eq!(log(&[part, listed, "1 end 200", once_more]), [""; 0], "it came while the question was on its way");
    assert_eq!(log(&[part, "1 end 400", listed, once_more]), [""; 0]);
    assert_eq!(log(&[part, "1 end 200", listed, "3 begin PUT /b/k?partNumber=1&uploadId=v"]), [""; 0]);
}
