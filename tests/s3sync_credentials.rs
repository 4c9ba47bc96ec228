//! Where keys come from: each link of the AWS chain against a service of its own on loopback, each side for itself; what is
//! said when there are none; what happens when they expire in the middle of a run; and that none is ever said.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use sha1::{Digest, Sha1};
use support::scripted::{Answer, Request, Scripted};
use support::service::Service;
use support::{Cmd, Server, Tree};

/// What is to be found nowhere in what is said: it begins every secret and every token of these tests.
const CANARY: &str = "CANARYcanary";

const SECRET: &str = "CANARYcanary-secret/+01";
const TOKEN: &str = "CANARYcanary-token/+01";

/// A server that knows these keys, all with one secret.
fn server_for(keys: &[&str]) -> Server {
    let mut settings = ropeway::serve::ServeSettings::new(ropeway::serve::Storage::Memory);
    settings.credentials.extend(keys.iter().map(|key| ((*key).to_owned(), SECRET.to_owned())));
    Server::with(settings)
}

/// A tree with two files to upload.
fn tree() -> Tree {
    let tree = Tree::new();
    tree.file("source/a", "a").file("source/b", vec![1; 9 << 20]);
    tree
}

/// Small files called `00`, `01` and so on.
fn small_files(tree: &Tree, count: usize) {
    for number in 0..count {
        tree.file(format!("source/{number:02}"), "small");
    }
}

/// `sync source s3://bucket/` to `server`, with no keys given. Nobody is asked on the network that a test did not start.
fn upload(tree: &Tree, server: &Server) -> Cmd {
    let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(["--target-endpoint-url", &server.endpoint]);
    run.env("AWS_EC2_METADATA_DISABLED", "true").args(["-vvv", "--report", "report"])
}

/// Runs it, expects success, and looks for secrets in whatever was said and written.
#[track_caller]
fn succeeds(tree: &Tree, run: Cmd) {
    let output = run.run();
    assert_eq!(output.code, 0, "{}", output.stderr);
    nothing_is_said(tree, &output);
}

/// Runs it, expects `code`, looks for secrets, and returns what was said.
#[track_caller]
fn fails(tree: &Tree, run: Cmd, code: i32) -> String {
    let output = run.expect(code);
    nothing_is_said(tree, &output);
    output.stderr
}

#[track_caller]
fn nothing_is_said(tree: &Tree, output: &support::cmd::Output) {
    let report = std::fs::read_to_string(tree.at("report")).unwrap_or_default();
    for text in [&output.stdout, &output.stderr, &report] {
        let at = text.find(CANARY);
        assert!(at.is_none(), "a secret is said: {text}");
    }
}

/// An STS that gives, at its n-th question, the keys that `keys` names.
fn sts(keys: &'static [&'static str]) -> Service {
    Service::start(move |request, number| {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let action =
            if body.contains("Action=AssumeRoleWithWebIdentity") { "AssumeRoleWithWebIdentity" } else { "AssumeRole" };
        let key = keys[(number - 1).min(keys.len() - 1)];
        Answer::xml(format!(
            "<{action}Response xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><{action}Result><AssumedRoleUser>\
             <AssumedRoleId>A:s</AssumedRoleId><Arn>arn:aws:sts::1:assumed-role/r/s</Arn></AssumedRoleUser><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{SECRET}</SecretAccessKey><SessionToken>{TOKEN}\
             </SessionToken><Expiration>{}</Expiration></Credentials></{action}Result><ResponseMetadata><RequestId>r\
             </RequestId></ResponseMetadata></{action}Response>",
            in_seconds(3600)
        ))
    })
}

/// Keys as the container's and the instance's services give them.
fn json_keys(key: &str, lasts_s: i64) -> Answer {
    let document = serde_json::json!({
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": "2026-01-01T00:00:00Z", "AccessKeyId": key,
        "SecretAccessKey": SECRET, "Token": TOKEN, "Expiration": in_seconds(lasts_s),
    });
    Answer::new(200).header("content-type", "application/json").body(document.to_string())
}

fn in_seconds(seconds: i64) -> String {
    let at = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    at.format(&time::format_description::well_known::Rfc3339).expect("a time has a spelling")
}

/// An instance's metadata service of the second version, which wants a token, with one role.
fn instance(key: &'static str) -> Service {
    Service::start(move |request, _| {
        let token = request.header("x-aws-ec2-metadata-token");
        match (request.method.as_str(), request.target.as_str()) {
            ("PUT", "/latest/api/token") => {
                let answer = Answer::new(200).header("x-aws-ec2-metadata-token-ttl-seconds", "21600");
                answer.body(format!("{CANARY}-imds"))
            }
            _ if token != Some("CANARYcanary-imds") => Answer::new(401),
            ("GET", "/latest/meta-data/iam/security-credentials/") => Answer::new(200).body("the-role"),
            ("GET", "/latest/meta-data/iam/security-credentials/the-role") => json_keys(key, 3600),
            _ => Answer::new(404),
        }
    })
}

/// The access key that signed a request.
fn signer(request: &Request) -> String {
    let authorization = request.header("authorization").expect("it is signed");
    let credential = authorization.split("Credential=").nth(1).expect("a credential");
    credential.split('/').next().expect("a key").to_owned()
}

fn body(request: &Request) -> String {
    String::from_utf8_lossy(&request.body).into_owned()
}

fn keys(key: &str) -> String {
    format!("aws_access_key_id={key}\naws_secret_access_key={SECRET}\n")
}

#[test]
fn a_role_is_assumed_with_the_keys_of_its_source_profile() {
    let (server, sts, tree) = (server_for(&["role-key"]), sts(&["role-key"]), tree());
    tree.file(
        ".aws/config",
        "[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nexternal_id = x-1\nrole_session_name = me\n\
         region = eu-west-1\n",
    );
    tree.file(".aws/credentials", format!("[base]\n{}", keys("base-key")));
    let run = || upload(&tree, &server).env("AWS_ENDPOINT_URL_STS", &sts.url);
    succeeds(&tree, run().args(["--target-profile", "r"]));
    succeeds(&tree, run().env("AWS_PROFILE", "r"));
    let asked = sts.asked();
    assert_eq!((asked.len(), signer(&asked[0])), (2, "base-key".to_owned()));
    let body = body(&asked[0]);
    for piece in
        ["Action=AssumeRole", "RoleArn=arn%3Aaws%3Aiam%3A%3A1%3Arole%2Fr", "ExternalId=x-1", "RoleSessionName=me"]
    {
        assert!(body.contains(piece), "{body}");
    }
    assert!(
        asked[0].header("authorization").is_some_and(|it| it.contains("/eu-west-1/sts/")),
        "in the profile's region"
    );
}

#[test]
fn roles_are_assumed_one_after_the_other() {
    let (server, sts, tree) = (server_for(&["last-key"]), sts(&["middle-key", "last-key"]), tree());
    tree.file(
        ".aws/config",
        "[profile last]\nrole_arn = arn:aws:iam::1:role/last\nsource_profile = middle\n[profile middle]\n\
         role_arn = arn:aws:iam::1:role/middle\nsource_profile = base\n",
    );
    tree.file(".aws/credentials", format!("[base]\n{}", keys("base-key")));
    succeeds(&tree, upload(&tree, &server).args(["--target-profile", "last"]).env("AWS_ENDPOINT_URL_STS", &sts.url));
    let asked = sts.asked();
    assert_eq!(asked.iter().map(signer).collect::<Vec<_>>(), ["base-key", "middle-key"]);
    assert_eq!(asked[1].header("x-amz-security-token"), Some(TOKEN));
}

#[test]
fn a_role_is_assumed_with_keys_of_the_environment_the_container_or_the_instance() {
    let (server, tree) = (server_for(&["role-key"]), tree());
    let (instance, container) = (instance("instance-key"), Service::start(|_, _| json_keys("container-key", 3600)));
    for (source, key) in
        [("Environment", "env-key"), ("EcsContainer", "container-key"), ("Ec2InstanceMetadata", "instance-key")]
    {
        let sts = sts(&["role-key"]);
        tree.file(
            ".aws/config",
            format!("[profile r]\nrole_arn = arn:aws:iam::1:role/r\ncredential_source = {source}\n"),
        );
        let run = upload(&tree, &server).args(["--target-profile", "r"]).env("AWS_ENDPOINT_URL_STS", &sts.url);
        let run = run.env("AWS_ACCESS_KEY_ID", "env-key").env("AWS_SECRET_ACCESS_KEY", SECRET);
        let run = run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/c", container.url));
        succeeds(
            &tree,
            run.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.url).env("AWS_EC2_METADATA_DISABLED", "false"),
        );
        assert_eq!(sts.asked().iter().map(signer).collect::<Vec<_>>(), [key], "{source}");
    }
}

/// The token that `aws sso login` leaves.
fn sso_token(tree: &Tree, session: &str, lasts_s: i64) {
    let name: String = Sha1::digest(session).iter().map(|byte| format!("{byte:02x}")).collect();
    let document = serde_json::json!({
        "accessToken": format!("{CANARY}-sso"), "expiresAt": in_seconds(lasts_s), "refreshToken": format!("{CANARY}-refresh"),
        "clientId": "client", "clientSecret": format!("{CANARY}-client"), "registrationExpiresAt": in_seconds(86_400),
        "region": "us-east-1", "startUrl": "https://d-1.awsapps.com/start",
    });
    tree.file(format!(".aws/sso/cache/{name}.json"), document.to_string());
}

fn sso(key: &'static str) -> Service {
    Service::start(move |request, _| {
        let known = [Some("CANARYcanary-sso"), Some("CANARYcanary-new")];
        if request.target == "/token" {
            let document =
                serde_json::json!({"accessToken": format!("{CANARY}-new"), "expiresIn": 3600, "tokenType": "Bearer"});
            return Answer::new(200).header("content-type", "application/json").body(document.to_string());
        }
        if !known.contains(&request.header("x-amz-sso_bearer_token")) {
            return Answer::new(401).header("x-amzn-errortype", "UnauthorizedException").body("{\"message\":\"no\"}");
        }
        let expiration = (time::OffsetDateTime::now_utc().unix_timestamp() + 3600) * 1000;
        let keys = serde_json::json!({
            "accessKeyId": key, "secretAccessKey": SECRET, "sessionToken": TOKEN, "expiration": expiration,
        });
        let document = serde_json::json!({"roleCredentials": keys});
        Answer::new(200).header("content-type", "application/json").body(document.to_string())
    })
}

const SSO_CONFIG: &str = "[profile s]\nsso_session = dev\nsso_account_id = 012345678901\nsso_role_name = Role\n\
     [profile old]\nsso_start_url = https://d-1.awsapps.com/start\nsso_region = us-east-1\nsso_account_id = 012345678901\n\
     sso_role_name = Role\n[sso-session dev]\nsso_region = us-east-1\nsso_start_url = https://d-1.awsapps.com/start\n";

#[test]
fn sso_gives_keys_for_the_token_of_the_last_login() {
    let (server, sso, tree) = (server_for(&["sso-key"]), sso("sso-key"), tree());
    tree.file(".aws/config", SSO_CONFIG);
    sso_token(&tree, "dev", 7200);
    sso_token(&tree, "https://d-1.awsapps.com/start", 7200);
    let run = |profile: &str| {
        let run = upload(&tree, &server).args(["--target-profile", profile]);
        run.env("AWS_ENDPOINT_URL_SSO", &sso.url).env("AWS_ENDPOINT_URL_SSO_OIDC", &sso.url)
    };
    succeeds(&tree, run("s"));
    succeeds(&tree, run("old"));
    assert!(sso.asked()[0].target.contains("account_id=012345678901"), "{}", sso.asked()[0].target);
    // A token of a session that has expired is exchanged for a new one.
    sso_token(&tree, "dev", -60);
    succeeds(&tree, run("s"));
    assert_eq!(sso.asked().iter().filter(|request| request.target == "/token").count(), 1);
}

#[test]
fn an_sso_login_that_has_expired_is_said_with_its_remedy() {
    let (server, tree) = (server_for(&[]), tree());
    tree.file(".aws/config", SSO_CONFIG);
    let sso = Service::start(|_, _| Answer::new(400).header("x-amzn-errortype", "InvalidGrantException").body("{}"));
    sso_token(&tree, "dev", -60);
    sso_token(&tree, "https://d-1.awsapps.com/start", -60);
    for profile in ["s", "old"] {
        let run = upload(&tree, &server).args(["--target-profile", profile]);
        let run = run.env("AWS_ENDPOINT_URL_SSO", &sso.url).env("AWS_ENDPOINT_URL_SSO_OIDC", &sso.url);
        let said = fails(&tree, run, 6);
        assert!(said.contains(&format!("the profile `{profile}`")) && said.contains("aws sso login"), "{said}");
    }
}

#[test]
fn a_process_prints_keys() {
    let (server, tree) = (server_for(&["process-key"]), tree());
    let document = serde_json::json!({
        "Version": 1, "AccessKeyId": "process-key", "SecretAccessKey": SECRET, "SessionToken": TOKEN,
        "Expiration": in_seconds(3600),
    });
    tree.file("keys.json", document.to_string());
    let keys = tree.at("keys.json");
    tree.file(".aws/config", format!("[profile p]\ncredential_process = cat {}\n", keys.display()));
    succeeds(&tree, upload(&tree, &server).args(["--target-profile", "p"]).env("PATH", "/usr/bin:/bin"));
    tree.file(".aws/config", "[profile p]\ncredential_process = false\n");
    let said = fails(&tree, upload(&tree, &server).args(["--target-profile", "p"]).env("PATH", "/usr/bin:/bin"), 6);
    assert!(said.contains("the profile `p` gives no credentials"), "{said}");
}

#[test]
fn a_web_identity_is_exchanged_for_a_role() {
    let (server, sts, tree) = (server_for(&["web-key"]), sts(&["web-key"]), tree());
    let token = tree.file("token", format!("{CANARY}-web")).at("token");
    let run = || upload(&tree, &server).env("AWS_ENDPOINT_URL_STS", &sts.url);
    let role = "arn:aws:iam::1:role/web";
    succeeds(
        &tree,
        run().env("AWS_WEB_IDENTITY_TOKEN_FILE", &token).env("AWS_ROLE_ARN", role).env("AWS_ROLE_SESSION_NAME", "pod"),
    );
    let profile = format!("[profile w]\nrole_arn = {role}\nweb_identity_token_file = {}\n", token.display());
    tree.file(".aws/config", profile);
    succeeds(&tree, run().args(["--target-profile", "w"]));
    for request in sts.asked() {
        assert!(body(&request).contains("WebIdentityToken=CANARYcanary-web"));
        assert!(request.header("authorization").is_none(), "nobody signs for a web identity");
    }
    let lost = run().env("AWS_WEB_IDENTITY_TOKEN_FILE", tree.at("lost")).env("AWS_ROLE_ARN", role);
    let said = fails(&tree, lost, 6);
    assert!(said.contains("AWS_WEB_IDENTITY_TOKEN_FILE gives no credentials"), "{said}");
}

#[test]
fn a_container_has_a_service_that_gives_keys() {
    let (server, tree) = (server_for(&["container-key"]), tree());
    let token = tree.file("pod-token", format!("{CANARY}-pod")).at("pod-token");
    let container = Service::start(|request, _| match request.header("authorization") {
        Some("CANARYcanary-pod") => json_keys("container-key", 3600),
        _ => Answer::new(403),
    });
    let run = || upload(&tree, &server).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/keys", container.url));
    succeeds(&tree, run().env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token));
    succeeds(&tree, run().env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{CANARY}-pod")));
    let said = fails(&tree, run(), 6);
    assert!(said.contains("the container's credentials service gives no credentials"), "{said}");
    // Keys are fetched from this machine, or over TLS; nobody else is told a token.
    let elsewhere = upload(&tree, &server).env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://192.0.2.1/keys");
    let said = fails(&tree, elsewhere.env("AWS_CONTAINER_AUTHORIZATION_TOKEN", format!("{CANARY}-pod")), 6);
    assert!(said.contains("the container's credentials service"), "{said}");
}

#[test]
fn an_instance_has_a_role() {
    let (server, tree, instance) = (server_for(&["instance-key"]), tree(), instance("instance-key"));
    let run = || {
        let run = upload(&tree, &server).env("AWS_EC2_METADATA_DISABLED", "false");
        run.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.url)
    };
    succeeds(&tree, run());
    let asked = instance.asked();
    assert_eq!((asked[0].method.as_str(), asked.len()), ("PUT", 3), "a token, the role, its keys");
    // The profile may name the service as well.
    let named = format!("[default]\nec2_metadata_service_endpoint = {}\n", instance.url);
    tree.file("my-config", named);
    let run = upload(&tree, &server).env("AWS_EC2_METADATA_DISABLED", "false");
    succeeds(&tree, run.args(["--aws-config-file", "my-config"]));
    assert_eq!(instance.asked().len(), 6);
}

#[test]
fn the_instance_is_asked_last_and_not_at_all_when_told_so() {
    let (server, tree, instance) = (server_for(&["static-key"]), tree(), instance("instance-key"));
    let run = || upload(&tree, &server).env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.url);
    let enabled = || run().env("AWS_EC2_METADATA_DISABLED", "false");
    succeeds(&tree, enabled().env("AWS_ACCESS_KEY_ID", "static-key").env("AWS_SECRET_ACCESS_KEY", SECRET));
    let flags = ["--target-access-key", "static-key", "--target-secret-access-key", SECRET];
    succeeds(&tree, enabled().args(flags));
    tree.file(".aws/credentials", format!("[default]\n{}", keys("static-key")));
    succeeds(&tree, enabled());
    tree.file(".aws/credentials", "");
    fails(&tree, run(), 6);
    assert!(instance.asked().is_empty(), "{:?}", instance.asked());
}

#[test]
fn without_keys_every_place_that_was_looked_at_is_named_with_the_remedy() {
    let (server, tree) = (server_for(&[]), tree());
    let said = fails(&tree, upload(&tree, &server), 6);
    for piece in [
        "target: no credentials were found",
        "AWS_ACCESS_KEY_ID is not set",
        "the profile `default` has none",
        "AWS_WEB_IDENTITY_TOKEN_FILE is not set",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "the instance metadata service has none (IMDS disabled by AWS_EC2_METADATA_DISABLED",
        "--target-profile",
        "--target-no-sign-request",
    ] {
        assert!(said.contains(piece), "{piece}: {said}");
    }
}

#[test]
fn whatever_answers_in_place_of_an_instances_service_is_one_more_place_without_keys() {
    let (server, tree, nobody) = (server_for(&[]), tree(), Service::start(|_, _| Answer::new(403)));
    let run = upload(&tree, &server).env("AWS_EC2_METADATA_DISABLED", "false");
    let said = fails(&tree, run.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nobody.url), 6);
    for piece in ["no credentials were found", "the instance metadata service has none", "--target-profile"] {
        assert!(said.contains(piece), "{piece}: {said}");
    }
}

#[test]
fn what_a_profile_wants_that_we_cannot_is_said_before_anybody_is_asked() {
    let (server, tree) = (server_for(&[]), tree());
    tree.file(
        ".aws/config",
        "[profile mfa]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\nmfa_serial = arn:aws:iam::1:mfa/me\n\
         [profile login]\nlogin_session = arn\n[profile loop]\nrole_arn = a\nsource_profile = round\n[profile round]\n\
         role_arn = b\nsource_profile = loop\n[profile lost]\nrole_arn = a\nsource_profile = nobody\n",
    );
    tree.file(".aws/credentials", format!("[base]\n{}", keys("base-key")));
    for (profile, piece) in [
        ("mfa", "mfa_serial"),
        ("login", "login_session"),
        ("loop", "infinite loop"),
        ("lost", "nobody"),
        ("base2", "no profile"),
    ] {
        let said = fails(&tree, upload(&tree, &server).args(["--target-profile", profile]), 6);
        assert!(said.contains(piece) && said.contains(profile), "{profile}: {said}");
    }
}

#[test]
fn each_side_has_its_own_chain() {
    let (source, target) = (server_for(&["role-key"]), server_for(&["process-key"]));
    let (sts, tree) = (sts(&["role-key"]), Tree::new());
    source.put("bucket", "x", "x");
    let document = serde_json::json!({"Version": 1, "AccessKeyId": "process-key", "SecretAccessKey": SECRET});
    tree.file("keys.json", document.to_string());
    tree.file(
        "the-config",
        format!(
            "[profile old]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n[profile new]\n\
             credential_process = cat {}\n",
            tree.at("keys.json").display()
        ),
    );
    tree.file("the-keys", format!("[base]\n{}", keys("base-key")));
    let run = Cmd::sync(tree.path(), "s3://bucket/", "s3://bucket/").args(["-vvv", "--report", "report"]);
    let run = run.args(["--source-endpoint-url", &source.endpoint, "--source-profile", "old"]);
    let run = run.args(["--target-endpoint-url", &target.endpoint, "--target-profile", "new"]);
    let run = run.args(["--aws-config-file", "the-config", "--aws-shared-credentials-file", "the-keys"]);
    succeeds(&tree, run.env("AWS_ENDPOINT_URL_STS", &sts.url).env("PATH", "/usr/bin:/bin"));
    assert_eq!(target.get("bucket", "x").unwrap(), b"x");
}

#[test]
fn two_sides_with_the_same_profile_ask_once() {
    let (server, sts, tree) = (server_for(&["role-key"]), sts(&["role-key"]), Tree::new());
    server.put("one", "x", "x");
    tree.file(".aws/config", "[profile r]\nrole_arn = arn:aws:iam::1:role/r\nsource_profile = base\n");
    tree.file(".aws/credentials", format!("[base]\n{}", keys("base-key")));
    let run = Cmd::sync(tree.path(), "s3://one/", "s3://two/").args(["--source-profile", "r", "--target-profile", "r"]);
    let run = run.env("AWS_ENDPOINT_URL_S3", &server.endpoint).env("AWS_ENDPOINT_URL_STS", &sts.url);
    run.expect(0);
    assert_eq!((server.get("two", "x").as_deref(), sts.asked().len()), (Some(&b"x"[..]), 1));
}

#[test]
fn the_built_in_server_asks_nobody_for_keys() {
    let (tree, instance) = (tree(), instance("instance-key"));
    let run = Cmd::sync(tree.path(), "source", "s3://bucket/").args(["--target-endpoint-url", "embedded:memory"]);
    run.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.url).expect(0);
    assert!(instance.asked().is_empty());
}

/// A container's service whose n-th keys are `key-n`.
fn counting() -> Service {
    Service::start(|_, number| json_keys(&format!("key-{number}"), 3600))
}

#[test]
fn keys_that_are_refused_in_mid_run_are_replaced_once_and_what_was_refused_is_sent_again() {
    for (status, code) in [(400, "ExpiredToken"), (403, "InvalidAccessKeyId"), (400, "InvalidToken")] {
        let (server, tree) = (Scripted::start(), Tree::new());
        let container = counting();
        small_files(&tree, 40);
        tree.file("source/large", vec![7; 30 << 20]);
        // From the first object on, the first keys are worth nothing.
        for operation in ["PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"] {
            let keys = (0..40).map(|number| format!("{number:02}")).chain(["large".to_owned()]);
            for key in keys {
                server.on(operation, &key).play(move |exchange| {
                    exchange.read_body()?;
                    let answer = match signer(&exchange.request) == "key-1" {
                        true => Answer::error(status, code),
                        false => exchange.perform()?,
                    };
                    exchange.answer(&answer)
                });
            }
        }
        let run = upload(&tree, &server.server).args(["--cores", "2"]);
        succeeds(&tree, run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/k", container.url)));
        assert_eq!(container.asked().len(), 2, "{code}: one question for all that was refused");
        assert_eq!(server.model().objects.len(), 41, "{code}");
        assert!(server.requests_of("UploadPart").iter().any(|request| signer(request) == "key-2"), "{code}");
    }
}

#[test]
fn keys_that_are_refused_again_and_again_end_the_run_with_few_questions() {
    let (server, tree) = (Scripted::start(), Tree::new());
    let container = counting();
    small_files(&tree, 40);
    for number in 0..40 {
        server.on("PutObject", &format!("{number:02}")).answer(Answer::error(400, "ExpiredToken"));
    }
    let run = upload(&tree, &server.server);
    let said = fails(&tree, run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/k", container.url)), 6);
    assert!(said.contains("ExpiredToken"), "{said}");
    assert_eq!(container.asked().len(), 2);
}

#[test]
fn keys_are_renewed_before_they_expire_and_no_request_is_refused() {
    const LASTS_S: i64 = 3;
    let (server, tree) = (Scripted::start(), Tree::new());
    let now_s = || time::OffsetDateTime::now_utc().unix_timestamp();
    let (given, first_ends_at_s): (Arc<AtomicUsize>, Arc<AtomicI64>) = Default::default();
    let (count, ends_at_s) = (given.clone(), first_ends_at_s.clone());
    let container = Service::start(move |_, number| {
        let lasts_s = if number == 1 { LASTS_S } else { 3600 };
        if number == 1 {
            ends_at_s.store(now_s() + LASTS_S + 1, Ordering::Release);
        }
        count.store(number, Ordering::Release);
        json_keys(&format!("key-{number}"), lasts_s)
    });
    small_files(&tree, 20);
    // The listing is held back until there are new keys, which nobody asks for but the thread that renews them, since nobody
    // signs meanwhile; and until the old ones are of no use.
    server.on("ListObjectsV2", "").skip(1).times(1).play(move |exchange| {
        while given.load(Ordering::Acquire) < 2 || now_s() < first_ends_at_s.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let answer = exchange.perform()?;
        exchange.answer(&answer)
    });
    let run = upload(&tree, &server.server);
    succeeds(&tree, run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/k", container.url)));
    assert_eq!(server.requests().first().map(signer).as_deref(), Some("key-1"));
    let signers: Vec<_> = server.requests_of("PutObject").iter().map(signer).collect();
    assert_eq!(signers, ["key-2"; 20]);
    assert_eq!(container.asked().len(), 2, "one renewal");
}

#[test]
fn keys_that_expire_and_cannot_be_renewed_end_the_run() {
    let (server, tree) = (Scripted::start(), tree());
    let container = Service::start(|_, number| match number {
        // They are no longer valid when they come, as after a long sleep.
        1 => json_keys("key-1", -1),
        _ => Answer::new(403).body("{}"),
    });
    let run = upload(&tree, &server.server);
    let said = fails(&tree, run.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/k", container.url)), 6);
    assert!(
        said.contains("the credentials have expired and were not renewed: the container's credentials service"),
        "{said}"
    );
    assert!(server.requests().is_empty(), "nothing is signed with keys that have expired");
}
