//! What goes wrong on the wire and under our hands, each fault played by a scripted server. The names say which row of the
//! short list, or which case of the catalogue, a test is about.

mod support;

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use support::cmd::Output;
use support::model::{Model, Object, crc64nvme, list_document};
use support::scripted::{Answer, Exchange, Gate, Request, Scripted};
use support::tree::noise;
use support::{Cmd, Tree};

/// What a server does wrong.
type Fault = fn(&mut Exchange<'_>) -> io::Result<()>;

const MIB: usize = 1 << 20;

/// Beyond the multipart threshold of [`sync`]: three parts, the last one short.
const LARGE: usize = 10 * MIB + 4321;

fn sync(tree: &Tree, source: &str, target: &str) -> Cmd {
    Cmd::sync(tree.path(), source, target)
        .env("ROPEWAY_JSON", "true")
        .env("ROPEWAY_CORES", "1")
        .env("ROPEWAY_MULTIPART_THRESHOLD", "5MiB")
        .env("ROPEWAY_MULTIPART_CHUNKSIZE", "5MiB")
        .env("ROPEWAY_AWS_MAX_ATTEMPTS", "4")
        .env("ROPEWAY_INITIAL_BACKOFF_MILLISECONDS", "1")
}

fn up(server: &Scripted, tree: &Tree) -> Cmd {
    sync(tree, "source", "s3://bucket/").to(&server.server)
}

fn down(server: &Scripted, tree: &Tree) -> Cmd {
    sync(tree, "s3://bucket/", "target").from(&server.server)
}

/// A server whose bucket holds these.
fn holding(objects: &[(&str, &[u8])]) -> Scripted {
    let server = Scripted::start();
    for (key, content) in objects {
        server.model().objects.insert((*key).to_owned(), Object::new(*content));
    }
    server
}

fn content(server: &Scripted, key: &str) -> Option<Vec<u8>> {
    server.model().objects.get(key).map(|object| object.content.clone())
}

/// The bucket holds exactly what the file does. Said without the content, which is large.
#[track_caller]
fn assert_same(server: &Scripted, key: &str, expected: &[u8]) {
    let found = content(server, key).unwrap_or_else(|| panic!("no object `{key}`"));
    assert!(found == expected, "`{key}`: {} bytes are not the {} expected", found.len(), expected.len());
}

/// The directory holds this one file and nothing else, no temporary one either.
#[track_caller]
fn assert_only(tree: &Tree, directory: &str, name: &str, expected: &[u8]) {
    let contents = tree.contents(directory);
    assert_eq!(contents.keys().map(|path| path.to_str().unwrap()).collect::<Vec<_>>(), [name]);
    assert!(contents.values().next().unwrap() == expected, "`{name}` is not what it should be");
}

#[track_caller]
fn assert_says(output: &Output, words: &str) {
    assert!(output.stderr.contains(words), "`{words}` is not in:\n{}\n{}", output.stderr, output.stdout);
}

/// Plays one way of failing for every request of an operation.
fn always(
    server: &Scripted,
    operation: &str,
    key: &str,
    script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
) {
    server.on(operation, key).play(script);
}

// Row 1: a source that ends early.

#[test]
fn row_01_a_file_that_shrinks_is_sent_anew_and_its_first_upload_never_completed() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    let path = tree.at("source/f");
    server.on("UploadPart", "f").query("partNumber", "1").times(1).play(move |exchange| {
        std::fs::File::options().write(true).open(&path)?.set_len(7 * MIB as u64)?;
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let output = up(&server, &tree).args(["--max-parallel-uploads", "1"]).expect(0);
    assert_eq!(output.count("transferred_bytes"), 7 * MIB as u64);
    assert_same(&server, "f", &noise(1, LARGE)[..7 * MIB]);
    let completed: Vec<_> = server.requests_of("CompleteMultipartUpload");
    assert_eq!(completed.iter().map(|request| request.query("uploadId")).collect::<Vec<_>>(), ["upload-2"]);
    assert_eq!(server.requests_of("AbortMultipartUpload").len(), 1);
}

#[test]
fn row_01_a_file_that_shrinks_each_time_fails_and_leaves_nothing() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE)).file("source/g", "fine");
    let path = tree.at("source/f");
    always(&server, "UploadPart", "f", move |exchange| {
        let file = std::fs::File::options().write(true).open(&path)?;
        file.set_len(file.metadata()?.len() - MIB as u64)?;
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let output = up(&server, &tree).args(["--max-parallel-uploads", "1"]).expect(1);
    assert_says(&output, "`f`: the source changed while it was being read: it ends at byte");
    assert_eq!(content(&server, "f"), None);
    assert_eq!(content(&server, "g").as_deref(), Some(&b"fine"[..]));
    assert_eq!((server.requests_of("CompleteMultipartUpload").len(), server.model().uploads.len()), (0, 0));
}

#[test]
fn row_01_a_file_that_grows_or_is_rewritten_is_never_a_mixture() {
    for grow in [true, false] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, LARGE));
        let path = tree.at("source/f");
        server.on("UploadPart", "f").query("partNumber", "1").times(1).play(move |exchange| {
            std::fs::write(&path, noise(2, LARGE + if grow { MIB } else { 0 }))?;
            let answer = exchange.perform()?;
            exchange.answer(&answer)
        });
        up(&server, &tree).args(["--max-parallel-uploads", "1"]).expect(0);
        assert_same(&server, "f", &noise(2, LARGE + if grow { MIB } else { 0 }));
        assert_eq!(server.requests_of("CompleteMultipartUpload").len(), 1);
    }
}

#[test]
fn row_01_an_object_that_ends_early_is_not_written_to_another_bucket() {
    for size in [1_000, LARGE] {
        let source = holding(&[("k", &noise(1, size))]);
        let (target, tree) = (Scripted::start(), Tree::new());
        always(&source, "GetObject", "k", short_with_fin);
        let output = sync(&tree, "s3://one/", "s3://two/").from(&source.server).to(&target.server).expect(1);
        assert_eq!((output.count("failed_objects"), output.count("transferred_objects")), (1, 0));
        assert_eq!(target.requests_of("PutObject").len() + target.requests_of("CompleteMultipartUpload").len(), 0);
        assert_eq!((content(&target, "k"), target.model().uploads.len()), (None, 0));
    }
}

// Row 2: a short body with a clean end.

fn short_with_fin(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let answer = exchange.perform()?;
    exchange.send(answer.head())?;
    exchange.send(&answer.body[..answer.body.len() - 1])?;
    exchange.fin()
}

/// Content-Length agrees with the body, and both are short.
fn short_and_consistent(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let mut answer = exchange.perform()?;
    answer.body.pop();
    exchange.answer(&answer)
}

/// The body has no declared length and ends with the connection.
fn short_without_length(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let mut answer = exchange.perform()?;
    answer.body.pop();
    let head = String::from_utf8(answer.head()).expect("text");
    exchange.send(head.replace("content-length", "x-length").replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"))?;
    exchange.send(&answer.body)?;
    exchange.fin()
}

fn short_and_chunked(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let mut answer = exchange.perform()?;
    answer.body.pop();
    answer = answer.header("transfer-encoding", "chunked");
    exchange.send(answer.head())?;
    exchange.send(format!("{:x}\r\n", answer.body.len()))?;
    exchange.send(&answer.body)?;
    exchange.send("\r\n0\r\n\r\n")
}

fn reset_half_way(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let answer = exchange.perform()?;
    exchange.send(answer.head())?;
    exchange.send(&answer.body[..answer.body.len() / 2])?;
    exchange.reset()
}

fn reset(exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.reset()
}

fn flipped_byte(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let mut answer = exchange.perform()?;
    let last = answer.body.len() - 1;
    answer.body[last] ^= 1;
    exchange.answer(&answer)
}

const WAYS_TO_SPOIL_A_BODY: [(&str, Fault); 6] = [
    ("short_with_fin", short_with_fin),
    ("short_and_consistent", short_and_consistent),
    ("short_without_length", short_without_length),
    ("short_and_chunked", short_and_chunked),
    ("reset_half_way", reset_half_way),
    ("flipped_byte", flipped_byte),
];

#[test]
fn rows_02_and_09_a_body_that_is_not_whole_is_never_in_place_and_the_old_file_stays() {
    for (name, spoil) in WAYS_TO_SPOIL_A_BODY {
        for size in [1_000, LARGE] {
            for etag_is_md5 in [true, false] {
                // An opaque ETag proves nothing, so here the length alone has to tell; a flipped byte cannot be told.
                if name == "flipped_byte" && !etag_is_md5 {
                    continue;
                }
                let (server, tree) = (holding(&[("k", &noise(1, size))]), Tree::new());
                if !etag_is_md5 {
                    server.model().objects.get_mut("k").unwrap().etag = "\"opaque\"".to_owned();
                }
                tree.file("target/k", "the old file");
                always(&server, "GetObject", "k", spoil);
                let output = down(&server, &tree).run();
                assert_eq!(output.code, 1, "{name} {size} {etag_is_md5}: {}", output.stderr);
                assert_only(&tree, "target", "k", b"the old file");
                assert!(server.requests_of("GetObject").len() > 1, "{name}: it is tried again");
            }
        }
    }
}

#[test]
fn row_02_a_body_that_is_whole_at_the_second_try_is_taken() {
    for (name, spoil) in WAYS_TO_SPOIL_A_BODY {
        for size in [1_000, LARGE] {
            let (server, tree) = (holding(&[("k", &noise(1, size))]), Tree::new());
            server.on("GetObject", "k").times(1).play(spoil);
            let output = down(&server, &tree).run();
            assert_eq!(output.code, 0, "{name} {size}: {}", output.stderr);
            assert_only(&tree, "target", "k", &noise(1, size));
        }
    }
}

// Row 3: success that is none.

#[test]
fn row_03_an_error_under_200_on_complete_is_tried_again() {
    let bodies: [&[u8]; 6] = [
        b"<Error><Code>InternalError</Code><Message>m</Message></Error>",
        b"  \n <?xml version=\"1.0\"?><Error><Code>SlowDown</Code><Message>m</Message></Error>",
        b"",
        b"<html><body>Sign in to the wireless network</body></html>",
        b"<CompleteMultipartUploadResult><ETag>&quot;d41d8cd98f00b204e9800998ecf8427e-3&quot;</ETag>",
        b"<?xml version=\"1.0\"?><Result>ok</Result>",
    ];
    for body in bodies {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, LARGE));
        server.on("CompleteMultipartUpload", "f").times(2).answer(Answer::xml("").body(body));
        up(&server, &tree).expect(0);
        assert_same(&server, "f", &noise(1, LARGE));
        assert_eq!(server.requests_of("CompleteMultipartUpload").len(), 3, "{}", String::from_utf8_lossy(body));

        let server = Scripted::start();
        server.on("CompleteMultipartUpload", "f").answer(Answer::xml("").body(body));
        let output = up(&server, &tree).arg("--no-resume").expect(1);
        assert_eq!(output.count("transferred_objects"), 0);
        assert_eq!((content(&server, "f"), server.model().uploads.len()), (None, 0), "nothing is left behind");
    }
}

#[test]
fn row_03_an_unreadable_answer_of_a_completion_that_took_place_is_reconciled() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    server.on("CompleteMultipartUpload", "f").play(|exchange| {
        exchange.perform()?;
        exchange.answer(&Answer::xml("<html>proxy</html>"))
    });
    let output = up(&server, &tree).expect(0);
    assert_eq!(output.count("transferred_objects"), 1);
    assert_same(&server, "f", &noise(1, LARGE));
}

#[test]
fn row_03_an_error_under_200_is_an_error_of_uploads_too() {
    let bodies = ["<Error><Code>InternalError</Code><Message>m</Message></Error>", "<html>Sign in</html>"];
    for (size, operation) in [(1_000, "PutObject"), (LARGE, "UploadPart"), (LARGE, "CreateMultipartUpload")] {
        for body in bodies {
            let (server, tree) = (Scripted::start(), Tree::new());
            tree.file("source/f", noise(1, size));
            server.on(operation, "f").answer(Answer::xml(body));
            let output = up(&server, &tree).expect(1);
            assert_eq!((output.count("failed_objects"), content(&server, "f")), (1, None), "{operation} {body}");
        }
    }
}

#[test]
fn row_03_blanks_before_the_answer_of_a_completion_are_not_a_failure() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    server.on("CompleteMultipartUpload", "f").play(|exchange| {
        let answer = exchange.perform()?.header("transfer-encoding", "chunked");
        exchange.send(answer.head())?;
        for _ in 0..50 {
            exchange.send("1\r\n \r\n")?;
        }
        exchange.send(format!("{:x}\r\n", answer.body.len()))?;
        exchange.send(&answer.body)?;
        exchange.send("\r\n0\r\n\r\n")
    });
    let output = up(&server, &tree).expect(0);
    assert_eq!(output.count("retries"), 0);
}

// Row 4: an object that is replaced between two ranged reads.

#[test]
fn row_04_every_range_names_the_version_and_a_replaced_object_is_read_anew() {
    let (server, tree) = (holding(&[("k", &noise(1, LARGE))]), Tree::new());
    server.on("GetObject", "k").times(1).play(|exchange| {
        let answer = exchange.perform()?;
        exchange.model().objects.insert("k".to_owned(), Object::new(noise(2, LARGE)));
        exchange.answer(&answer)
    });
    down(&server, &tree).args(["--max-parallel-uploads", "1"]).expect(0);
    assert_only(&tree, "target", "k", &noise(2, LARGE));
    let ranges: Vec<_> =
        server.requests_of("GetObject").into_iter().filter(|request| request.header("range").is_some()).collect();
    assert!(ranges.len() >= 4);
    assert!(ranges.iter().all(|request| request.header("if-match").is_some()));
}

#[test]
fn row_04_an_object_that_shrinks_between_its_listing_and_its_head_is_read_anew() {
    for size in [0, 5] {
        let (server, tree) = (holding(&[("k", &noise(1, LARGE))]), Tree::new());
        server.on("HeadObject", "k").times(1).play(move |exchange| {
            exchange.model().objects.insert("k".to_owned(), Object::new(noise(2, size)));
            let answer = exchange.perform()?;
            exchange.answer(&answer)
        });
        down(&server, &tree).expect(0);
        assert_only(&tree, "target", "k", &noise(2, size));
    }
}

#[test]
fn row_04_an_object_that_is_replaced_each_time_is_reported_as_changing() {
    let (server, tree) = (holding(&[("k", &noise(1, LARGE))]), Tree::new());
    let seed = Arc::new(Mutex::new(1));
    always(&server, "GetObject", "k", move |exchange| {
        let answer = exchange.perform()?;
        let mut seed = seed.lock().unwrap();
        *seed += 1;
        exchange.model().objects.insert("k".to_owned(), Object::new(noise(*seed, LARGE)));
        exchange.answer(&answer)
    });
    let output = down(&server, &tree).args(["--max-parallel-uploads", "1"]).expect(1);
    assert_says(&output, "the source changed while it was being read");
    assert!(tree.contents("target").is_empty());
}

// Row 5: the answer of a completion is lost.

fn complete_and_reset(exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.perform()?;
    exchange.reset()
}

#[test]
fn row_05_a_lost_answer_is_success_if_the_object_bears_our_token() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    server.on("CompleteMultipartUpload", "f").times(1).play(complete_and_reset);
    let output = up(&server, &tree).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("verified_etag")), (1, 1));
    assert!(!server.requests_of("HeadObject").is_empty(), "it looked");
    assert_same(&server, "f", &noise(1, LARGE));
}

#[test]
fn row_05_a_lost_answer_is_no_success_if_another_object_stands_there() {
    for foreign in [
        // Ours by its length, another's by its token.
        Object::new(noise(9, LARGE)).with("x-amz-meta-ropeway-token", "another"),
        Object::new(noise(9, LARGE)),
    ] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, LARGE));
        // Each start of the object fares the same.
        always(&server, "CompleteMultipartUpload", "f", move |exchange| {
            exchange.perform()?;
            exchange.model().objects.insert("f".to_owned(), foreign.clone());
            exchange.reset()
        });
        let output = up(&server, &tree).arg("--no-resume").expect(1);
        assert_eq!(output.count("transferred_objects"), 0);
        assert_says(&output, "`f`: target side: CompleteMultipartUpload of `s3://bucket/f`");
        assert_same(&server, "f", &noise(9, LARGE));
        // The upload went with its completion: it is asked for once more, and nothing is said of it.
        assert_eq!((server.requests_of("AbortMultipartUpload").len(), output.count("warnings")), (1, 0));
    }
}

#[test]
fn row_05_a_lost_answer_is_no_success_if_no_object_stands_there() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    always(&server, "CompleteMultipartUpload", "f", |exchange| {
        exchange.read_body()?;
        let id = exchange.request.query("uploadId").to_owned();
        exchange.model().uploads.remove(&id);
        exchange.reset()
    });
    up(&server, &tree).expect(1);
    assert_eq!(content(&server, "f"), None);
}

// Row 7: listings that cannot be trusted.

fn page(keys: &[&str], next: Option<&str>) -> Answer {
    let object = Object::new("x");
    Answer::xml(list_document(keys.iter().map(|key| (*key, &object)), next))
}

#[test]
fn row_07_a_listing_out_of_order_is_noticed_and_sorted() {
    for (first, second) in [(vec!["b", "a"], None), (vec!["b", "c"], Some("a")), (vec!["a", "a"], None)] {
        let (server, tree) = (holding(&[("a", b"x"), ("b", b"x"), ("c", b"x")]), Tree::new());
        if let Some(second) = second {
            server.on("ListObjectsV2", "").query("continuation-token", "t").answer(page(&[second], None));
        }
        server.on("ListObjectsV2", "").query("max-keys", "1000").answer(page(&first, second.map(|_| "t")));
        let output = down(&server, &tree).args(["--list-threads", "1"]).expect(3);
        assert_says(&output, "the source does not list in key order");
        let mut keys: Vec<_> = first.into_iter().chain(second).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(output.count("transferred_objects"), keys.len() as u64);
        let read: Vec<_> = server.requests_of("GetObject").into_iter().map(|request| request.key).collect();
        assert_eq!(read.len(), keys.len(), "none is read twice: {read:?}");
    }
}

#[test]
fn row_07_k20_a_truncated_page_without_a_token_is_an_error() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let document = String::from_utf8(page(&["a"], None).body).unwrap().replace(">false<", ">true<");
    server.on("ListObjectsV2", "").query("max-keys", "1000").answer(Answer::xml(document));
    let output = down(&server, &tree).run();
    assert_ne!(output.code, 0);
    assert_says(&output, "NextContinuationToken");
    assert_eq!(server.requests_of("ListObjectsV2").len(), 1 + 4, "the first look, and four tries");
}

#[test]
fn row_07_k21_an_empty_page_with_a_token_is_followed() {
    let (server, tree) = (holding(&[("a", b"x"), ("b", b"x")]), Tree::new());
    server.on("ListObjectsV2", "").query("continuation-token", "t").answer(page(&["a", "b"], None));
    server.on("ListObjectsV2", "").query("max-keys", "1000").times(1).answer(page(&[], Some("t")));
    assert_eq!(down(&server, &tree).expect(0).count("transferred_objects"), 2);
}

#[test]
fn row_07_k22_a_token_that_repeats_ends_the_listing_with_an_error() {
    for keys in [&["a"][..], &[]] {
        let (server, tree) = (holding(&[("a", b"x")]), Tree::new());
        // Not for ever, so that a client which is taken in comes to an end too.
        server.on("ListObjectsV2", "").query("max-keys", "1000").times(20).answer(page(keys, Some("t")));
        let output = down(&server, &tree).expect(1);
        assert!(
            output.stderr.contains("repeats itself") || output.stderr.contains("sorts as high"),
            "{}",
            output.stderr
        );
        let pages = server.requests_of("ListObjectsV2").into_iter().filter(|page| page.query("max-keys") == "1000");
        assert!(pages.count() <= 3);
    }
}

#[test]
fn row_07_k22_tokens_that_go_round_in_a_circle_end_the_listing_with_an_error() {
    let (server, tree) = (Scripted::start(), Tree::new());
    // Empty pages, so that no order of keys tells.
    for (token, next) in [("", "one"), ("one", "two"), ("two", "three"), ("three", "one")] {
        let listing = server.on("ListObjectsV2", "").query("max-keys", "1000").query("continuation-token", token);
        listing.times(20).answer(page(&[], Some(next)));
    }
    let output = down(&server, &tree).expect(1);
    assert_says(&output, "repeats itself");
    assert!(server.requests_of("ListObjectsV2").len() < 20);
}

// Row 8: what is stored is what was sent.

#[test]
fn row_08_no_request_is_framed_in_chunks() {
    for echoes in [true, false] {
        let (server, tree) = (Scripted::start(), Tree::new());
        server.model().echoes_crc64nvme = echoes;
        tree.file("source/small", "x").file("source/empty", "").file("source/large", noise(1, LARGE));
        // Below the threshold and larger than a buffer: sent while it is read.
        tree.file("source/streamed", noise(2, 9 * MIB));
        up(&server, &tree).args(["--multipart-threshold", "10MiB"]).expect(0);
        for request in server.requests() {
            let about = format!("{} {}", request.operation, request.target);
            let value = |name: &str| request.header(name).unwrap_or_default().to_ascii_lowercase();
            assert!(!value("content-encoding").contains("aws-chunked"), "{about}");
            assert!(!value("x-amz-content-sha256").contains("streaming"), "{about}");
            assert_eq!(value("transfer-encoding"), "", "{about}");
            assert_eq!(value("x-amz-trailer"), "", "{about}");
            assert!(!value("expect").contains("100-continue"), "{about}");
            if !matches!(request.method.as_str(), "GET" | "HEAD" | "DELETE") {
                assert_eq!(value("content-length"), request.body.len().to_string(), "{about}");
            }
        }
        assert_same(&server, "streamed", &noise(2, 9 * MIB));
    }
}

/// Stores what was sent in the frame that some clients put around it.
fn store_framed(exchange: &mut Exchange<'_>) -> io::Result<()> {
    exchange.read_body()?;
    let mut framed = format!("{:x}\r\n", exchange.request.body.len()).into_bytes();
    framed.append(&mut exchange.request.body);
    framed.extend_from_slice(b"\r\n0\r\n\r\n");
    let headers =
        exchange.request.headers.iter().filter(|(name, _)| !name.contains("md5") && !name.contains("checksum"));
    let headers: Vec<_> = headers.cloned().collect();
    let request = exchange.request.clone();
    let request = Request { body: framed, headers, ..request };
    let answer = exchange.model().perform(&request);
    exchange.answer(&answer)
}

#[test]
fn row_08_a_server_that_stores_other_bytes_is_found_out() {
    for echoes in [true, false] {
        for (size, operation) in [(1_000, "PutObject"), (LARGE, "UploadPart")] {
            let (server, tree) = (Scripted::start(), Tree::new());
            server.model().echoes_crc64nvme = echoes;
            tree.file("source/f", noise(1, size));
            always(&server, operation, "f", store_framed);
            let output = up(&server, &tree).expect(1);
            assert_says(&output, "verification failed");
            assert_eq!(server.requests_of("CompleteMultipartUpload").len(), 0);
        }
    }
}

#[test]
fn row_08_a_completion_that_made_another_object_is_found_out() {
    for echoes in [true, false] {
        let (server, tree) = (Scripted::start(), Tree::new());
        server.model().echoes_crc64nvme = echoes;
        tree.file("source/f", noise(1, LARGE));
        server.on("CompleteMultipartUpload", "f").change(|answer| {
            let other = Answer::xml(format!(
                "<CompleteMultipartUploadResult><ETag>\"{}-3\"</ETag>{}</CompleteMultipartUploadResult>",
                "0".repeat(32),
                if String::from_utf8_lossy(&answer.body).contains("ChecksumCRC64NVME") {
                    format!("<ChecksumCRC64NVME>{}</ChecksumCRC64NVME>", crc64nvme(b"other"))
                } else {
                    String::new()
                }
            ));
            answer.body = other.body;
        });
        let output = up(&server, &tree).expect(1);
        assert_says(&output, "verification failed");
        // The upload is gone with its completion, so nothing is said of one that would have to be aborted.
        assert_eq!(output.count("warnings"), 0, "{}", output.stderr);
    }
}

#[test]
fn row_08_a_wrong_echo_of_the_checksum_is_a_failure() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().echoes_crc64nvme = true;
    tree.file("source/f", "content");
    server.on("PutObject", "f").change(|answer| {
        *answer =
            answer.clone().without("x-amz-checksum-crc64nvme").header("x-amz-checksum-crc64nvme", &crc64nvme(b"x"));
    });
    let output = up(&server, &tree).expect(1);
    assert_says(&output, "verification failed: the content's CRC64NVME is");
}

// Row 10: keys that lead elsewhere.

#[test]
fn row_10_no_key_writes_outside_the_target() {
    let keys = ["../out", "a/../../out", "/out", "..", ".", "a/./out", "a//out", "link/out", "b/../link/out", "good"];
    let (server, tree) = (Scripted::start(), Tree::new());
    for key in keys {
        server.model().objects.insert(key.to_owned(), Object::new("evil"));
    }
    std::fs::create_dir_all(tree.at("outside")).unwrap();
    std::fs::create_dir_all(tree.at("in/target")).unwrap();
    std::os::unix::fs::symlink(tree.at("outside"), tree.at("in/target/link")).unwrap();
    std::os::unix::fs::symlink(tree.at("outside/planted"), tree.at("in/target/good")).unwrap();
    let output = sync(&tree, "s3://bucket/", "in/target").from(&server.server).expect(1);
    assert!(tree.contents("outside").is_empty(), "{:?}", tree.contents("outside"));
    assert!(!tree.at("out").exists() && !tree.at("in/out").exists());
    // A link where a file goes is replaced, never followed.
    assert_eq!(std::fs::read(tree.at("in/target/good")).unwrap(), b"evil");
    assert!(!tree.at("in/target/good").is_symlink());
    assert!(output.count("failed_objects") >= 8, "{}", output.stderr);
}

// Row 11: redirects and regions.

#[test]
fn row_11_a_redirect_to_another_host_is_never_followed() {
    for status in [301, 302, 303, 307, 308] {
        for operation in ["ListObjectsV2", "PutObject"] {
            let (server, other, tree) = (Scripted::start(), Scripted::start(), Tree::new());
            tree.file("source/f", "x");
            let location = format!("{}/bucket/f", other.server.endpoint);
            let redirect = Answer::error(status, "TemporaryRedirect").header("location", &location);
            server.on(operation, "f").answer(redirect);
            let output = up(&server, &tree).env("ROPEWAY_TARGET_SESSION_TOKEN", "canary-token").run();
            assert_ne!(output.code, 0, "{status} {operation}");
            assert_eq!(other.connections(), 0, "{status} {operation}: nothing arrives elsewhere");
            assert!(server.requests_of(operation).len() <= 2, "{status} {operation}");
        }
    }
}

#[test]
fn row_11_the_right_region_is_learnt_once_and_signed_for() {
    let header = |status, code| Answer::error(status, code).header("x-amz-bucket-region", "eu-central-1");
    let body =
        "<Error><Code>AuthorizationHeaderMalformed</Code><Message>m</Message><Region>eu-central-1</Region></Error>";
    for refusal in [header(301, "PermanentRedirect"), header(307, "TemporaryRedirect"), Answer::xml(body)] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", "x").file("source/g", noise(1, LARGE));
        let status = if refusal.status == 200 { 400 } else { refusal.status };
        server.on("ListObjectsV2", "").times(1).answer(Answer { status, ..refusal });
        let output = up(&server, &tree).expect(0);
        assert_eq!(output.count("transferred_objects"), 2);
        let regions: Vec<bool> = server
            .requests()
            .iter()
            .map(|request| request.header("authorization").unwrap().contains("/eu-central-1/s3/"))
            .collect();
        assert_eq!(regions.iter().position(|right| *right), Some(1));
        assert!(regions[1..].iter().all(|right| *right), "every request after the first");
    }
}

#[test]
fn row_11_a_region_that_changes_with_each_answer_ends_the_search() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "x");
    for number in 0..20 {
        let refusal = Answer::error(301, "PermanentRedirect");
        let refusal = refusal.header("x-amz-bucket-region", &format!("eu-west-{number}"));
        server.on("ListObjectsV2", "").times(1).answer(refusal);
    }
    let output = up(&server, &tree).expect(6);
    assert_says(&output, "--target-region");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn row_11_a_region_that_is_no_region_is_not_believed() {
    for evil in ["evil.com/#", "a b", "x@y", "EU", "../..", "eu-west-1\u{e9}"] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", "x");
        server
            .on("ListObjectsV2", "")
            .answer(Answer::error(301, "PermanentRedirect").header("x-amz-bucket-region", evil));
        let output = up(&server, &tree).expect(6);
        assert_eq!(server.requests().len(), 1, "{evil}");
        assert!(!output.stderr.contains(evil), "{}", output.stderr);
    }
}

// What passes by waiting or asking again.

#[test]
fn every_operation_is_tried_again() {
    const FAULTS: [(&str, Fault); 6] = [
        ("503", |exchange| {
            exchange.read_body()?;
            exchange.answer(&Answer::error(503, "SlowDown"))
        }),
        ("500 HTML", |exchange| {
            exchange.read_body()?;
            exchange.answer(&Answer::new(500).body("<html>oops</html>"))
        }),
        ("400 RequestTimeout", |exchange| {
            exchange.read_body()?;
            exchange.answer(&Answer::error(400, "RequestTimeout").header("connection", "close"))
        }),
        ("reset", reset),
        ("closed without an answer", |exchange| {
            exchange.read_body()?;
            exchange.fin()
        }),
        ("cut in its head", |exchange| {
            exchange.read_body()?;
            exchange.send("HTTP/1.1 200 O")?;
            exchange.fin()
        }),
    ];
    const OPERATIONS: [(&str, &str, bool); 9] = [
        ("ListObjectsV2", "small", true),
        ("PutObject", "small", true),
        ("CreateMultipartUpload", "large", true),
        ("UploadPart", "large", true),
        ("CompleteMultipartUpload", "large", true),
        ("ListObjectsV2", "small", false),
        ("GetObject", "small", false),
        ("GetObject", "large", false),
        ("HeadObject", "large", false),
    ];
    let (small, large) = (noise(1, 1_000), noise(1, 5 * MIB + 1));
    for (fault, script) in FAULTS {
        for (operation, key, upload) in OPERATIONS {
            // An answer to HEAD has no body, and so no code.
            if (fault, operation) == ("400 RequestTimeout", "HeadObject") {
                continue;
            }
            let (server, tree) = (Scripted::start(), Tree::new());
            server.on(operation, key).times(2).play(script);
            let content = if key == "small" { &small } else { &large };
            let output = if upload {
                tree.file(format!("source/{key}"), content);
                up(&server, &tree).run()
            } else {
                server.model().objects.insert(key.to_owned(), Object::new(content.clone()));
                down(&server, &tree).run()
            };
            assert_eq!(output.code, 0, "{fault} {operation}: {}", output.stderr);
            assert!(server.requests_of(operation).len() >= 3, "{fault} {operation}");
            if upload {
                assert_same(&server, key, content);
            } else {
                assert_only(&tree, "target", key, content);
            }
        }
    }
}

#[test]
fn pages_behind_the_first_are_tried_again() {
    let (server, tree) = (holding(&[("a", b"1"), ("b", b"2"), ("c", b"3")]), Tree::new());
    server.model().page_keys = 1;
    server.on("ListObjectsV2", "").query("continuation-token", "b").times(2).answer(Answer::error(503, "SlowDown"));
    let output = down(&server, &tree).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("retries")), (3, 2));
}

#[test]
fn tries_end_where_the_person_said() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "x").file("source/g", "y");
    server.on("PutObject", "f").answer(Answer::error(500, "InternalError"));
    let output = up(&server, &tree).expect(1);
    assert_says(&output, "`f`: target side: PutObject of `s3://bucket/f`: the service answered 500 InternalError");
    assert_eq!(server.requests_of("PutObject").iter().filter(|request| request.key == "f").count(), 4);
    assert_eq!(content(&server, "g").as_deref(), Some(&b"y"[..]));
}

#[test]
fn p20_a_service_that_names_its_time_gets_it() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "x");
    server.on("PutObject", "f").times(1).answer(Answer::error(503, "SlowDown").header("retry-after", "1"));
    let output = up(&server, &tree).env("ROPEWAY_LOG", "ropeway=debug").expect(0);
    assert_says(&output, "pause_ms=1000");
}

#[test]
fn p14_a_clock_that_is_off_is_set_right_once() {
    let skewed = || Answer::error(403, "RequestTimeTooSkewed").header("date", "Mon, 12 Oct 2037 17:50:30 GMT");
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "x");
    server.on("PutObject", "f").times(1).answer(skewed());
    up(&server, &tree).expect(0);
    let dates: Vec<String> = server
        .requests_of("PutObject")
        .iter()
        .map(|request| request.header("x-amz-date").unwrap()[..8].to_owned())
        .collect();
    assert_eq!(dates.len(), 2);
    assert!(dates[0] != "20371012" && dates[1] == "20371012", "{dates:?}");

    let server = Scripted::start();
    server.on("PutObject", "f").times(20).answer(skewed());
    let output = up(&server, &tree).run();
    assert_ne!(output.code, 0);
    assert_eq!(server.requests_of("PutObject").len(), 2);
}

#[test]
fn p54_a_service_that_falls_silent_is_given_up() {
    for before_the_head in [true, false] {
        let (server, tree, gate) = (holding(&[("k", b"content")]), Tree::new(), Gate::default());
        let waiting = gate.clone();
        server.on("GetObject", "k").times(1).play(move |exchange| {
            let answer = exchange.perform()?;
            if !before_the_head {
                exchange.send(answer.head())?;
                exchange.send(&answer.body[..3])?;
            }
            exchange.wait(&waiting);
            exchange.fin()
        });
        let output = down(&server, &tree)
            .args(["--read-timeout-milliseconds", "1000"])
            .env("ROPEWAY_LOG", "ropeway=debug")
            .expect(0);
        gate.open();
        // It counts as a try, and what is said is what happened.
        assert_says(&output, if before_the_head { "nothing came for 1 s" } else { "no progress for 1 s" });
        assert_only(&tree, "target", "k", b"content");
    }
}

// Connections.

#[test]
fn p55_an_idle_connection_that_the_service_closed_costs_no_retry() {
    const CLOSERS: [Fault; 2] = [
        // Closed when the next request arrives.
        |exchange| {
            exchange.read_body()?;
            exchange.fin()
        },
        reset,
    ];
    for close in CLOSERS {
        let (server, tree) = (Scripted::start(), Tree::new());
        for number in 0..5 {
            tree.file(format!("source/{number}"), "x");
            server.on("PutObject", &number.to_string()).on_reused_connection().times(1).play(close);
        }
        let output = up(&server, &tree).args(["--worker-size", "1"]).expect(0);
        assert_eq!((output.count("transferred_objects"), output.count("retries")), (5, 0));
        assert!(server.connections() > 3);
    }
}

#[test]
fn p55_a_connection_that_was_closed_after_its_answer_is_not_used_again() {
    let (server, tree) = (Scripted::start(), Tree::new());
    for number in 0..5 {
        tree.file(format!("source/{number}"), "x");
        server.on("PutObject", &number.to_string()).play(|exchange| {
            let answer = exchange.perform()?;
            exchange.answer(&answer)?;
            exchange.fin()
        });
    }
    let output = up(&server, &tree).args(["--worker-size", "1"]).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("retries")), (5, 0));
}

/// A part that lands after the abort brings the upload back on Ceph; S3's documentation warns of the same.
#[test]
fn an_upload_that_comes_back_after_its_abort_is_aborted_again() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", noise(1, LARGE));
    server.on("UploadPart", "f").answer(Answer::error(403, "AccessDenied"));
    server.on("AbortMultipartUpload", "f").times(1).answer(Answer::new(204));
    up(&server, &tree).arg("--no-resume").expect(1);
    assert_eq!((server.requests_of("AbortMultipartUpload").len(), server.model().uploads.len()), (2, 0));
}

#[test]
fn p57_a_refusal_that_comes_before_the_body_is_sent_is_heard() {
    for (size, operation) in [(LARGE, "UploadPart"), (4 * MIB, "PutObject")] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, size)).file("source/g", "fine");
        always(&server, operation, "f", |exchange| {
            exchange.read_some(1_000)?;
            exchange.answer(&Answer::error(403, "AccessDenied"))?;
            exchange.stop_reading()
        });
        // One worker: the connection, its body stuck half-way, must not be the next object's.
        let output = up(&server, &tree).args(["--worker-size", "1"]).expect(1);
        assert_says(&output, "403 AccessDenied");
        assert_eq!(content(&server, "g").as_deref(), Some(&b"fine"[..]));
    }
}

#[test]
fn p52_bytes_behind_a_body_are_never_the_next_answer() {
    let (server, tree) = (holding(&[("a", b"first"), ("b", b"right")]), Tree::new());
    for object in server.model().objects.values_mut() {
        // Nothing but the framing can tell.
        object.etag = "\"opaque\"".to_owned();
    }
    always(&server, "GetObject", "a", |exchange| {
        let answer = exchange.perform()?;
        let forged = Answer { body: b"wrong".to_vec(), ..answer.clone() };
        let bytes = [answer.head(), answer.body, forged.head(), forged.body].concat();
        exchange.send(bytes)
    });
    down(&server, &tree).args(["--worker-size", "1"]).expect(3);
    let contents = tree.contents("target");
    assert_eq!(contents[Path::new("b")], b"right");
}

// Answers that make no sense.

#[test]
fn p31_p32_a_range_that_was_not_asked_for_is_not_written() {
    type Change = fn(&mut Answer, &Model);
    let changes: [(&str, Change); 4] = [
        ("another range", |answer, _| {
            *answer = answer
                .clone()
                .without("content-range")
                .header("content-range", &format!("bytes 1-{}/{LARGE}", answer.body.len()));
        }),
        ("no Content-Range", |answer, _| *answer = answer.clone().without("content-range")),
        ("nonsense", |answer, _| {
            *answer = answer.clone().without("content-range").header("content-range", "bytes x-y/z");
        }),
        ("the whole object", |answer, model| {
            *answer = answer.clone().without("content-range");
            answer.status = 200;
            answer.body = model.objects["k"].content.clone();
        }),
    ];
    for (name, change) in changes {
        for times in [1, usize::MAX] {
            let (server, tree) = (holding(&[("k", &noise(1, LARGE))]), Tree::new());
            // The length alone must not be what tells.
            server.model().objects.get_mut("k").unwrap().etag = "\"opaque\"".to_owned();
            tree.file("target/k", "old");
            server.on("GetObject", "k").times(times).play(move |exchange| {
                let mut answer = exchange.perform()?;
                change(&mut answer, &exchange.model());
                exchange.answer(&answer)
            });
            let output = down(&server, &tree).run();
            let (code, expected) = if times == 1 { (3, noise(1, LARGE)) } else { (1, b"old".to_vec()) };
            assert_eq!(output.code, code, "{name}: {}", output.stderr);
            assert_only(&tree, "target", "k", &expected);
        }
    }
}

/// The right body, chunked, with an extension of a chunk and a trailer.
fn whole_and_chunked(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let answer = exchange.perform()?.header("transfer-encoding", "chunked");
    let (first, second) = answer.body.split_at(answer.body.len() / 2);
    exchange.send(answer.head())?;
    exchange.send(format!("{:016x};a=b\r\n", first.len()))?;
    exchange.send(first)?;
    exchange.send(format!("\r\n{:X}\r\n", second.len()))?;
    exchange.send(second)?;
    exchange.send("\r\n0\r\nx-trailer: y\r\n\r\n")
}

fn whole_until_the_end(exchange: &mut Exchange<'_>) -> io::Result<()> {
    let answer = exchange.perform()?.header("connection", "close");
    exchange.send(String::from_utf8_lossy(&answer.head()).replace("content-length", "x-length"))?;
    exchange.send(&answer.body)?;
    exchange.fin()
}

#[test]
fn p59_a_whole_body_needs_no_declared_length() {
    for way in [whole_and_chunked as Fault, whole_until_the_end] {
        for size in [1_000, LARGE] {
            let (server, tree) = (holding(&[("k", &noise(1, size))]), Tree::new());
            always(&server, "GetObject", "k", way);
            let output = down(&server, &tree).expect(0);
            assert_eq!((output.count("verified_etag"), output.count("retries")), (1, 0));
            assert_only(&tree, "target", "k", &noise(1, size));
        }
    }
}

#[test]
fn p60_an_answer_with_two_lengths_is_not_believed() {
    let (server, tree) = (holding(&[("k", b"content")]), Tree::new());
    always(&server, "GetObject", "k", |exchange| {
        let answer = exchange.perform()?.header("content-length", "7").header("content-length", "3");
        exchange.answer(&answer)
    });
    down(&server, &tree).expect(1);
    assert!(tree.contents("target").is_empty());
}

#[test]
fn p33_p34_without_an_etag_or_an_upload_id_there_is_no_success() {
    for (size, operation) in [(1_000, "PutObject"), (LARGE, "UploadPart")] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, size));
        server.on(operation, "f").change(|answer| *answer = answer.clone().without("etag"));
        let output = up(&server, &tree).expect(1);
        assert_says(&output, "ETag");
        assert_eq!(server.requests_of("CompleteMultipartUpload").len(), 0);
    }
    for document in [
        "<InitiateMultipartUploadResult/>",
        "<InitiateMultipartUploadResult><UploadId></UploadId></InitiateMultipartUploadResult>",
    ] {
        let (server, tree) = (Scripted::start(), Tree::new());
        tree.file("source/f", noise(1, LARGE));
        server.on("CreateMultipartUpload", "f").answer(Answer::xml(document));
        let output = up(&server, &tree).expect(1);
        assert_says(&output, "UploadId");
    }
}

#[test]
fn v05_a_corrupted_download_is_tried_again_then_fails_and_says_why() {
    for (checksum, size) in [(true, 1_000), (false, 1_000), (true, LARGE), (false, LARGE)] {
        let (server, tree) = (holding(&[("k", &noise(1, size))]), Tree::new());
        server.model().echoes_crc64nvme = checksum;
        always(&server, "GetObject", "k", flipped_byte);
        let output = down(&server, &tree).expect(1);
        assert_says(&output, "verification failed");
        assert!(tree.contents("target").is_empty());
        assert!(server.requests_of("GetObject").len() >= 3);
    }
}

#[test]
fn v05_a_body_damaged_on_its_way_up_is_sent_again() {
    for echoes in [true, false] {
        let (server, tree) = (Scripted::start(), Tree::new());
        server.model().echoes_crc64nvme = echoes;
        // The second upload knows what the service can do.
        tree.file("source/a", "first").file("source/b", "content");
        server.on("PutObject", "b").times(1).play(|exchange| {
            exchange.read_body()?;
            let mut damaged = exchange.request.clone();
            damaged.body[0] ^= 1;
            let answer = exchange.model().perform(&damaged);
            assert_eq!(answer.status, 400, "it came with something to compare");
            exchange.answer(&answer)
        });
        up(&server, &tree).args(["--worker-size", "1"]).expect(0);
        assert_same(&server, "b", b"content");
    }
}

#[test]
fn p05_p06_data_and_keys_that_look_like_errors_are_data_and_keys() {
    let document = b"<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code><Message>m</Message></Error>";
    let (server, tree) = (holding(&[("SlowDown/InternalError", document)]), Tree::new());
    let output = down(&server, &tree).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("retries")), (1, 0));
    assert_only(&tree, "target", "SlowDown/InternalError", document);

    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/SlowDown InternalError", noise(1, LARGE));
    let output = up(&server, &tree).expect(0);
    assert_eq!((output.count("transferred_objects"), output.count("retries")), (1, 0));
}

#[test]
fn s13_heads_and_bodies_without_end_are_cut_off() {
    const BOMBS: [(&str, &str, Fault); 4] = [
        ("a long header", "message head is too large", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nx: ")?;
            flood(exchange, 10, b'a')
        }),
        ("many headers", "message head is too large", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\n")?;
            exchange.send("a: b\r\n".repeat(100_000))?;
            exchange.send("content-length: 0\r\n\r\n")
        }),
        ("a listing of blanks", "an answer of more than 33554432 bytes", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            flood(exchange, 64, b' ')
        }),
        ("a chunk of all sizes", "invalid chunk size", |exchange| {
            exchange.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n")?;
            exchange.fin()
        }),
    ];
    for (name, words, bomb) in BOMBS {
        let (server, tree) = (Scripted::start(), Tree::new());
        always(&server, "ListObjectsV2", "", bomb);
        let output = down(&server, &tree).run();
        assert_eq!(output.code, 7, "{name}: {}", output.stderr);
        assert_says(&output, words);
        assert!(output.stderr.len() < 2_000, "{name}");
    }
}

/// So many MiB of the same byte, unless the client has had enough.
fn flood(exchange: &mut Exchange<'_>, mib: usize, byte: u8) -> io::Result<()> {
    let piece = vec![byte; MIB];
    (0..mib).try_for_each(|_| exchange.send(&piece))
}

// What the person reads.

#[test]
fn s16_nothing_a_service_says_steers_the_terminal() {
    let (server, tree) = (holding(&[("a\u{1b}[31mb", b"x"), ("c", b"y")]), Tree::new());
    let evil = "<Error><Code>Weird\u{1b}[2J</Code><Message>\u{1b}]0;title\u{7}\r\nfake: line</Message></Error>";
    server.on("GetObject", "a\u{1b}[31mb").answer(Answer { status: 400, ..Answer::xml(evil) });
    server.on("GetObject", "c").answer(Answer { status: 400, ..Answer::xml(evil) });
    let output = down(&server, &tree).expect(1);
    for text in [&output.stdout, &output.stderr] {
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains("\nfake:"), "{text}");
    }
    assert_eq!(output.count("failed_objects"), 2);
}

#[test]
fn s07_no_secret_is_in_any_message() {
    let (server, tree) = (Scripted::start(), Tree::new());
    tree.file("source/f", "x").file("source/g", noise(1, LARGE)).file("source/h", "y");
    server.on("PutObject", "f").answer(Answer::error(403, "AccessDenied"));
    server.on("PutObject", "h").answer(Answer::error(500, "InternalError"));
    server.on("UploadPart", "g").times(1).play(reset);
    let output = up(&server, &tree)
        .env("ROPEWAY_TARGET_SESSION_TOKEN", "canary-session-token")
        .env("ROPEWAY_LOG", "trace")
        .args(["-vvv", "--report", "report"])
        .expect(1);
    let report = std::fs::read_to_string(tree.at("report")).unwrap();
    assert!(server.requests().iter().all(|request| request.header("x-amz-security-token").is_some()));
    let signature = server.requests()[0].header("authorization").unwrap().rsplit('=').next().unwrap().to_owned();
    for text in [&output.stdout, &output.stderr, &report] {
        for secret in ["canary-session-token", server.server.secret_key.as_str(), signature.as_str()] {
            assert!(!text.contains(secret), "`{secret}` is in:\n{text}");
        }
    }
}

// The limit on requests under way.

#[test]
fn p20_a_service_that_asks_for_fewer_requests_gets_fewer() {
    const TOGETHER: usize = 4;
    let (server, tree) = (Scripted::start(), Tree::new());
    // All are under way at the same time when they are refused: they tell of the same moment, so the limit is halved once.
    let barrier = Arc::new(std::sync::Barrier::new(TOGETHER));
    for number in 0..TOGETHER {
        let (key, barrier) = (number.to_string(), barrier.clone());
        tree.file(format!("source/{key}"), "x");
        server.on("PutObject", &key).times(1).play(move |exchange| {
            barrier.wait();
            exchange.answer(&Answer::error(503, "SlowDown"))
        });
    }
    let output = up(&server, &tree).expect(0);
    assert_eq!(output.count("transferred_objects"), TOGETHER as u64);
    let concurrency = &output.summary()["concurrency"];
    assert_eq!(concurrency["target"]["cuts"], 1);
    // It began with 8, and the answers to listings had let it grow a little.
    let lowest = concurrency["target"]["lowest"].as_u64().unwrap();
    assert!((4..8).contains(&lowest), "{concurrency}");
    assert!(concurrency["source"].is_null(), "{concurrency}");
}
