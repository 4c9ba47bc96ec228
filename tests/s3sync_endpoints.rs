//! Where requests go: AWS's own endpoints in all their variants, other services by flags, variables and profiles, access
//! points, proxies; and who pays for them.

mod support;

use std::sync::{Arc, Mutex};

use support::model::{Model, Object};
use support::proxy::Proxy;
use support::scripted::{Answer, Scripted};
use support::{Cmd, Server, Tree};

/// A bucket with nothing in it, which is a warning (exit code 3) and enough to see who was asked.
fn empty_listing() -> Answer {
    Answer::xml("<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>")
}

/// `sync SOURCE out` with keys, through the proxy, which is trusted.
fn download(tree: &Tree, source: &str, proxy: &Proxy) -> Cmd {
    tree.file("ca.pem", &proxy.certificate_pem);
    let run = Cmd::sync(tree.path(), source, "out").env("HTTPS_PROXY", &proxy.url).env("AWS_CA_BUNDLE", "ca.pem");
    run.env("AWS_ACCESS_KEY_ID", "the-key").env("AWS_SECRET_ACCESS_KEY", "the-secret")
}

const POINT: &str = "s3://arn:aws:s3:eu-west-2:123456789012:accesspoint/mine/prefix/";

#[test]
fn aws_is_reached_at_the_endpoint_that_flags_variables_and_profiles_choose() {
    type Case = (&'static str, &'static [&'static str], &'static [(&'static str, &'static str)], &'static str);
    let cases: &[Case] = &[
        ("s3://b-1/", &[], &[], "b-1.s3.us-east-1.amazonaws.com"),
        ("s3://b-1/", &["--source-region", "eu-west-1"], &[("AWS_REGION", "x")], "b-1.s3.eu-west-1.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_REGION", "eu-west-3")], "b-1.s3.eu-west-3.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_PROFILE", "north")], "b-1.s3.eu-north-1.amazonaws.com"),
        ("s3://b-1/", &["--source-force-path-style"], &[], "s3.us-east-1.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_PROFILE", "path")], "s3.us-east-1.amazonaws.com"),
        ("s3://b-1/", &["--source-accelerate"], &[], "b-1.s3-accelerate.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_PROFILE", "fast")], "b-1.s3-accelerate.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_USE_DUALSTACK_ENDPOINT", "true")], "b-1.s3.dualstack.us-east-1.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_USE_FIPS_ENDPOINT", "true")], "b-1.s3-fips.us-east-1.amazonaws.com"),
        ("s3://b-1/", &[], &[("AWS_PROFILE", "fips")], "b-1.s3-fips.dualstack.us-east-1.amazonaws.com"),
        ("s3://dotted.name/", &[], &[], "s3.us-east-1.amazonaws.com"),
        (POINT, &[], &[], "mine-123456789012.s3-accesspoint.eu-west-2.amazonaws.com"),
    ];
    let hosts: Vec<_> = cases.iter().map(|case| case.3).collect();
    let proxy = Proxy::start(&hosts, |_| empty_listing());
    let tree = Tree::new();
    tree.file(
        ".aws/config",
        "[profile north]\nregion = eu-north-1\n[profile path]\ns3 =\n  addressing_style = path\n[profile fast]\ns3 =\n  \
         use_accelerate_endpoint = true\n[profile fips]\nuse_fips_endpoint = true\nuse_dualstack_endpoint = true\n",
    );
    for (source, flags, variables, host) in cases {
        let before = proxy.asked().len();
        let run = variables.iter().fold(download(&tree, source, &proxy), |run, (name, value)| run.env(name, value));
        run.args(*flags).expect(3);
        for asked in &proxy.asked()[before..] {
            assert_eq!((asked.scheme, asked.host.as_str()), ("https", *host), "{source} {flags:?} {variables:?}");
            assert_eq!(asked.request.header("host"), Some(*host));
        }
        assert!(proxy.asked().len() > before);
    }
    let point = proxy.asked().into_iter().last().expect("the access point").request;
    assert!(point.target.starts_with("/?") && point.query("prefix") == "prefix/", "{}", point.target);
    assert!(
        point.header("authorization").is_some_and(|text| text.contains("/eu-west-2/s3/")),
        "the ARN's region signs"
    );
}

#[test]
fn a_target_is_reached_at_the_endpoint_that_its_flags_choose() {
    let cases = [
        (&["--target-region", "eu-west-1"][..], "b-1.s3.eu-west-1.amazonaws.com"),
        (&["--target-force-path-style"], "s3.us-east-1.amazonaws.com"),
        (&["--target-accelerate"], "b-1.s3-accelerate.amazonaws.com"),
    ];
    let proxy = Proxy::start(&cases.map(|case| case.1), |_| empty_listing());
    let tree = Tree::new();
    tree.file("in/a", "a").file("ca.pem", &proxy.certificate_pem);
    for (flags, host) in cases {
        let before = proxy.asked().len();
        let run =
            Cmd::sync(tree.path(), "in", "s3://b-1/").env("HTTPS_PROXY", &proxy.url).env("AWS_CA_BUNDLE", "ca.pem");
        let run = run.env("AWS_ACCESS_KEY_ID", "the-key").env("AWS_SECRET_ACCESS_KEY", "the-secret");
        run.arg("--dry-run").args(flags).expect(0);
        let asked = &proxy.asked()[before..];
        assert!(!asked.is_empty() && asked.iter().all(|asked| asked.host == host), "{flags:?}");
    }
}

#[test]
fn keys_given_outright_sign_with_their_session_token() {
    let (server, tree) = (Scripted::start(), Tree::new());
    server.model().objects.insert("k".to_owned(), Object::new("content"));
    let keys =
        ["--source-access-key", "the-key", "--source-secret-access-key", "s", "--source-session-token", "the-token"];
    let run = Cmd::sync(tree.path(), "s3://bucket/", "out").args(["--source-endpoint-url", &server.server.endpoint]);
    run.args(keys).expect(0);
    let requests = server.requests();
    assert!(!requests.is_empty());
    for request in requests {
        assert_eq!(request.header("x-amz-security-token"), Some("the-token"));
        assert!(request.header("authorization").is_some_and(|text| text.contains("Credential=the-key/")));
    }
}

#[test]
fn a_bucket_that_is_elsewhere_is_asked_there_from_then_on() {
    let hosts = ["b-1.s3.us-east-1.amazonaws.com", "b-1.s3.eu-west-1.amazonaws.com"];
    let proxy = Proxy::start(&hosts, |asked| match asked.host.contains("eu-west-1") {
        true => empty_listing(),
        false => Answer::error(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-west-1"),
    });
    let tree = Tree::new();
    download(&tree, "s3://b-1/", &proxy).expect(3);
    assert_eq!(proxy.hosts(), hosts);
    let last = proxy.asked().into_iter().last().expect("a request").request;
    assert!(last.header("authorization").is_some_and(|text| text.contains("/eu-west-1/s3/")));
}

#[test]
fn what_aws_has_no_endpoint_for_is_refused_at_start() {
    let tree = Tree::new();
    let refused = |source: &str, flags: &[&str], variables: &[(&str, &str)]| {
        let run = Cmd::sync(tree.path(), source, "out").env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s");
        let run = variables.iter().fold(run, |run, (name, value)| run.env(name, value));
        run.args(flags).expect(2).stderr
    };
    let fips = [("AWS_USE_FIPS_ENDPOINT", "true")];
    assert!(refused("s3://b-1/", &["--source-accelerate"], &fips).contains("transfer acceleration with FIPS"));
    let dotted = refused("s3://dotted.name/", &["--source-accelerate"], &[]);
    assert!(dotted.contains("no single DNS label"), "{dotted}");
    let other = ["--source-accelerate", "--source-endpoint-url", "http://127.0.0.1:1"];
    assert!(refused("s3://b-1/", &other, &[]).contains("--source-accelerate is for AWS's own endpoints"));
    let many = refused("s3://arn:aws:s3::123456789012:accesspoint/mine.mrap/x", &[], &[]);
    assert!(many.contains("SigV4A") && many.lines().count() == 1, "{many}");
    for arn in
        ["arn:aws:s3-outposts:eu-west-1:1:outpost/x/accesspoint/y", "arn:aws:s3:eu-west-1:1:bucket/x", "arn:aws:s3"]
    {
        let text = refused(&format!("s3://{arn}"), &[], &[]);
        assert!(text.contains("accesspoint/NAME"), "{arn}: {text}");
    }
}

#[test]
fn another_service_is_named_by_a_profile() {
    let (server, tree) = (Server::embedded(ropeway::serve::Storage::Memory), Tree::new());
    tree.file("source/a", "a");
    let (url, key, secret) = (&server.endpoint, &server.access_key, &server.secret_key);
    let keys = format!("aws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
    tree.file(
        ".aws/config",
        format!(
            "[profile all]\nendpoint_url = {url}\n{keys}[profile one]\nservices = local\nendpoint_url = http://127.0.0.1:1\n\
             {keys}[services local]\ns3 =\n  endpoint_url = {url}\n[profile wrong]\nendpoint_url = nonsense\n{keys}"
        ),
    );
    let upload = |profile: &str| Cmd::sync(tree.path(), "source", "s3://bucket/").args(["--target-profile", profile]);
    upload("all").expect(0);
    upload("one").expect(0);
    upload("one").env("AWS_ENDPOINT_URL", url).expect(0);
    upload("all").env("AWS_ENDPOINT_URL", "http://127.0.0.1:1").expect(7);
    let said = upload("wrong").expect(2).stderr;
    assert!(said.contains("endpoint_url of the profile `wrong`"), "{said}");
    // What is configured can be ignored; then it is AWS.
    let proxy = Proxy::start(&["bucket.s3.us-east-1.amazonaws.com"], |_| Answer::error(403, "AccessDenied"));
    tree.file("ca.pem", &proxy.certificate_pem);
    let run = upload("all").env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true").env("AWS_CA_BUNDLE", "ca.pem");
    run.env("HTTPS_PROXY", &proxy.url).expect(6);
    assert_eq!(proxy.hosts(), ["bucket.s3.us-east-1.amazonaws.com"]);
}

#[test]
fn a_profile_names_the_certificates_that_are_trusted() {
    let proxy = Proxy::start(&["b-1.s3.us-east-1.amazonaws.com"], |_| empty_listing());
    let tree = Tree::new();
    let bundle = tree.file("my.pem", &proxy.certificate_pem).at("my.pem");
    let keys = "aws_access_key_id = k\naws_secret_access_key = s\n";
    tree.file(".aws/config", format!("[profile p]\nca_bundle = {}\n{keys}[profile q]\n{keys}", bundle.display()));
    let run = |profile: &str| {
        let run = Cmd::sync(tree.path(), "s3://b-1/", "out").args(["--source-profile", profile]);
        run.env("HTTPS_PROXY", &proxy.url)
    };
    run("p").expect(3);
    let said = run("q").expect(7).stderr;
    assert!(said.contains("TLS"), "{said}");
}

/// A service behind a proxy, at any host, over plain HTTP.
fn service(login: Option<&str>) -> (Proxy, Arc<Mutex<Model>>) {
    let model: Arc<Mutex<Model>> = Arc::default();
    let behind = model.clone();
    let proxy = Proxy::with_login(&["s3.test"], login, move |asked| {
        // It copies nothing by itself, which is then done by us.
        if asked.request.header("x-amz-copy-source").is_some() {
            return Answer::error(501, "NotImplemented");
        }
        behind.lock().expect("no panic while it is locked").perform(&asked.request)
    });
    (proxy, model)
}

#[test]
fn a_proxy_carries_plain_and_tls_requests_and_is_told_a_login() {
    for (scheme, variable) in
        [("http", "HTTP_PROXY"), ("https", "HTTPS_PROXY"), ("http", "ALL_PROXY"), ("https", "all_proxy")]
    {
        let (proxy, model) = service(Some("Basic bWU6Q0FOQVJZL2NhbmFyeQ=="));
        let tree = Tree::new();
        tree.file("source/a", "a").file("source/large", vec![7; 9 << 20]).file("ca.pem", &proxy.certificate_pem);
        let run = |login: &str| {
            let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(["-vvv", "--report", "report"]);
            let run = run.args(["--target-endpoint-url", &format!("{scheme}://s3.test")]);
            let run =
                run.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").env("AWS_CA_BUNDLE", "ca.pem");
            run.env(variable, proxy.url.replace("http://", &format!("http://{login}@")))
        };
        let output = run("me:CANARY%2Fcanary").expect(0);
        assert_eq!(model.lock().unwrap().objects.len(), 2, "{variable}");
        assert!(proxy.asked().iter().all(|asked| asked.host == "s3.test" && asked.scheme == scheme));
        let wrong = run("me:CANARY-wrong").run();
        assert!(wrong.code == 7 && wrong.stderr.contains("407"), "{}: {}", wrong.code, wrong.stderr);
        let report = std::fs::read_to_string(tree.at("report")).expect("a report");
        for text in [&output.stdout, &output.stderr, &wrong.stdout, &wrong.stderr, &report] {
            assert!(!text.contains("CANARY") && !text.contains("Q0FOQVJZ"), "{text}");
        }
    }
}

#[test]
fn some_hosts_are_reached_without_the_proxy() {
    let (server, tree) = (Server::embedded(ropeway::serve::Storage::Memory), Tree::new());
    tree.file("source/a", "a");
    // This machine is never reached through one.
    Cmd::sync(tree.path(), "source", "s3://bucket/").to(&server).env("ALL_PROXY", "http://127.0.0.1:1").expect(0);
    let (proxy, _) = service(None);
    let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(["--target-endpoint-url", "http://s3.invalid"]);
    let run = run.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").env("NO_PROXY", "other,.invalid");
    let said = run.env("HTTP_PROXY", &proxy.url).expect(7).stderr;
    assert!(said.contains("DNS") && !said.contains("proxy"), "{said}");
    assert!(proxy.asked().is_empty());
}

#[test]
fn a_proxy_that_cannot_be_used_is_refused_without_its_login() {
    let tree = Tree::new();
    for url in ["socks5://me:CANARY@h:1", "https://me:CANARY@h:1", "http://me:CANARY@"] {
        let run = Cmd::sync(tree.path(), "s3://b-1/", "out").env("HTTPS_PROXY", url).arg("--source-no-sign-request");
        let said = run.expect(6).stderr;
        assert!(said.contains("HTTPS_PROXY names no proxy") && !said.contains("CANARY"), "{said}");
    }
}

#[test]
fn who_pays_is_said_in_every_request_of_that_side_alone() {
    let (proxy, model) = service(None);
    let tree = Tree::new();
    tree.file("source/a", "a").file("source/large", vec![7; 9 << 20]);
    let run = |run: Cmd, code: i32| {
        let run = run.env("AWS_ACCESS_KEY_ID", "k").env("AWS_SECRET_ACCESS_KEY", "s").env("HTTP_PROXY", &proxy.url);
        run.env("AWS_ENDPOINT_URL", "http://s3.test").expect(code);
        let paid = |asked: &support::proxy::Asked| asked.request.header("x-amz-request-payer") == Some("requester");
        let asked = proxy.asked();
        (asked.iter().filter(|asked| paid(asked)).count(), asked.len())
    };
    let (paid, all) = run(Cmd::sync(tree.path(), "source", "s3://bucket/").arg("--target-request-payer"), 0);
    assert!(paid == all && all >= 4, "{paid} of {all}");
    for asked in proxy.asked() {
        let signed = asked.request.header("authorization").expect("it is signed");
        assert!(signed.contains("x-amz-request-payer"), "{signed}");
    }
    let (again, _) = run(Cmd::sync(tree.path(), "s3://bucket/", "out").arg("--source-request-payer"), 0);
    assert!(again > paid);
    let (after, _) = run(Cmd::sync(tree.path(), "s3://bucket/", "more"), 0);
    assert_eq!(after, again);
    assert_eq!(model.lock().unwrap().objects.len(), 2);
    // A copy within the service is a request to the target, and reads the source as well.
    let copy = Cmd::sync(tree.path(), "s3://bucket/", "s3://other/copies/")
        .args(["--source-request-payer", "--server-side-copy"]);
    run(copy, 3);
    let copies: Vec<_> =
        proxy.asked().into_iter().filter(|asked| asked.request.header("x-amz-copy-source").is_some()).collect();
    assert!(!copies.is_empty());
    for asked in copies {
        assert_eq!(asked.request.header("x-amz-request-payer"), Some("requester"));
    }
}
