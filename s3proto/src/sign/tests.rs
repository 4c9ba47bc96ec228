//! The examples that AWS publishes for S3 under "Signature Calculations for the Authorization Header", and random
//! requests against AWS's own signer.

use std::time::{Duration, SystemTime};

use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SessionTokenMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign as oracle_sign,
    },
    sign::v4,
};
use http::Method;
use proptest::prelude::*;

use super::*;

const EXAMPLE_TIME: i64 = 1_369_353_600; // 2013-05-24T00:00:00Z

fn example_signer() -> Signer {
    Signer::new(
        Some(Credentials {
            access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            session_token: None,
        }),
        "us-east-1".into(),
    )
}

fn parts(method: Method, target: &str, headers: &[(&str, &str)]) -> HeadText {
    crate::head::tests::written(method, target, headers)
}

fn authorization(parts: &HeadText) -> &str {
    parts.value(AUTHORIZATION).unwrap()
}

const HOST: (&str, &str) = ("host", "examplebucket.s3.amazonaws.com");

#[test]
fn published_example_get_object() {
    let mut parts = parts(Method::GET, "/test.txt", &[HOST, ("range", "bytes=0-9")]);
    example_signer().sign(&mut parts, Payload::Empty, EXAMPLE_TIME);
    assert_eq!(
        authorization(&parts),
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, \
         SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, \
         Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
}

#[test]
fn published_example_put_object() {
    let headers = [HOST, ("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")];
    let mut parts = parts(Method::PUT, "/test%24file.text", &headers);
    let body = Sha256::digest(b"Welcome to Amazon S3.").into();
    example_signer().sign(&mut parts, Payload::Sha256(body), EXAMPLE_TIME);
    assert!(
        authorization(&parts).ends_with("98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"),
        "{}",
        authorization(&parts)
    );
}

#[test]
fn published_example_bucket_lifecycle() {
    let mut parts = parts(Method::GET, "/?lifecycle", &[HOST]);
    example_signer().sign(&mut parts, Payload::Empty, EXAMPLE_TIME);
    assert!(authorization(&parts).ends_with("fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"));
}

#[test]
fn published_example_list_objects() {
    let mut parts = parts(Method::GET, "/?max-keys=2&prefix=J", &[HOST]);
    example_signer().sign(&mut parts, Payload::Empty, EXAMPLE_TIME);
    assert!(authorization(&parts).ends_with("34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"));
}

#[test]
fn without_credentials_nothing_is_added() {
    let mut parts = parts(Method::GET, "/k", &[HOST]);
    Signer::new(None, "r".into()).sign(&mut parts, Payload::Unsigned, EXAMPLE_TIME);
    assert_eq!(parts.lines().count(), 1);
}

#[test]
fn secrets_are_not_shown() {
    let credentials = Credentials {
        access_key_id: "AK".into(),
        secret_access_key: Secret::new("canary-one"),
        session_token: Some(Secret::new("canary-two")),
    };
    let mut parts = parts(Method::GET, "/k", &[HOST]);
    let shown_before = format!("{credentials:?}");
    let mut signer = Signer::new(Some(credentials), "r".into());
    signer.sign(&mut parts, Payload::Unsigned, EXAMPLE_TIME);
    for shown in [shown_before, format!("{signer:?}"), format!("{parts:?}")] {
        assert!(!shown.contains("canary") && !shown.contains("Signature="), "{shown}");
    }
}

#[test]
fn a_new_region_or_day_takes_a_new_key() {
    let mut signer = example_signer();
    let signed = |signer: &mut Signer, now| {
        let mut parts = parts(Method::GET, "/k", &[HOST]);
        signer.sign(&mut parts, Payload::Empty, now);
        authorization(&parts).to_owned()
    };
    let first = signed(&mut signer, EXAMPLE_TIME);
    assert_eq!(signed(&mut signer, EXAMPLE_TIME), first);
    assert_ne!(signed(&mut signer, EXAMPLE_TIME + 86_400), first);
    signer.set_region("eu-west-1".into());
    assert!(signed(&mut signer, EXAMPLE_TIME).contains("/20130524/eu-west-1/s3/"));
    signer.set_region("us-east-1".into());
    assert_eq!(signed(&mut signer, EXAMPLE_TIME), first);
}

#[test]
fn signing_again_replaces_what_was_signed_before() {
    let mut signer = example_signer();
    let mut again = parts(Method::GET, "/k", &[HOST]);
    signer.sign(&mut again, Payload::Unsigned, EXAMPLE_TIME);
    signer.sign(&mut again, Payload::Empty, EXAMPLE_TIME + 5);
    let mut fresh = parts(Method::GET, "/k", &[HOST]);
    signer.sign(&mut fresh, Payload::Empty, EXAMPLE_TIME + 5);
    assert_eq!(again.end(), fresh.end());
}

#[test]
fn several_values_of_one_name_share_a_line() {
    let mut several = parts(Method::GET, "/k", &[HOST]);
    let mut joined = parts(Method::GET, "/k", &[HOST, ("x-amz-meta-a", "2,1,3")]);
    for value in ["2", "1", "3"] {
        several.header("x-amz-meta-a", value);
    }
    for parts in [&mut several, &mut joined] {
        example_signer().sign(parts, Payload::Empty, EXAMPLE_TIME);
    }
    assert_eq!(authorization(&several), authorization(&joined));
}

/// What AWS's signer says of the same request.
fn oracle(unsigned: &HeadText, token: Option<&str>, payload: Payload, now: i64) -> String {
    let identity = aws_credential_types::Credentials::new("AK", "SK/+=", token.map(str::to_owned), None, "test").into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
    settings.session_token_mode = SessionTokenMode::Include;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("eu-central-1")
        .name("s3")
        .time(SystemTime::UNIX_EPOCH + Duration::from_secs(now.unsigned_abs()))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let body = match payload {
        Payload::Unsigned => SignableBody::UnsignedPayload,
        Payload::Empty => SignableBody::Bytes(b""),
        Payload::Sha256(digest) => {
            let mut hex = String::new();
            text::push_hex(&mut hex, &digest);
            SignableBody::Precomputed(hex)
        }
    };
    let url = format!("http://{}{}", unsigned.value("host").unwrap(), unsigned.target());
    let request = SignableRequest::new(unsigned.method(), url, unsigned.lines(), body).unwrap();
    let (instructions, _) = oracle_sign(request, &params).unwrap().into_parts();
    let (_, value) = instructions.headers().find(|(name, _)| *name == "authorization").unwrap();
    value.to_owned()
}

proptest! {
    #[test]
    fn every_signature_is_the_one_that_aws_makes(
        key in "\\PC{1,30}",
        query in proptest::collection::vec(("[a-z-]{1,10}", "\\PC{0,12}"), 0..6),
        metadata in proptest::collection::btree_map("x-amz-meta-[a-z0-9-]{1,12}", "[!-~]{1,8}( {1,3}[!-~]{1,8}){0,2}", 0..40),
        token in proptest::option::of("[A-Za-z0-9+/=]{1,60}"),
        payload in prop_oneof![
            Just(Payload::Unsigned), Just(Payload::Empty), any::<[u8; 32]>().prop_map(Payload::Sha256)
        ],
        now in 1_000_000_000_i64..4_000_000_000,
    ) {
        let mut target = String::from("/bucket/");
        text::push_path(&mut target, key.as_bytes());
        for (index, (name, value)) in query.iter().enumerate() {
            target.push(if index == 0 { '?' } else { '&' });
            text::push_query(&mut target, name.as_bytes());
            target.push('=');
            text::push_query(&mut target, value.as_bytes());
        }
        let mut headers = vec![("host", "h.example:9000"), ("range", "bytes=0-9"), ("content-type", "a/b; c=d")];
        headers.extend(metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let mut ours = parts(Method::PUT, &target, &headers);
        let expected = oracle(&ours, token.as_deref(), payload, now);
        let mut signer = Signer::new(
            Some(Credentials {
                access_key_id: "AK".into(),
                secret_access_key: Secret::new("SK/+="),
                session_token: token.map(Secret::new),
            }),
            "eu-central-1".into(),
        );
        signer.sign(&mut ours, payload, now);
        prop_assert_eq!(authorization(&ours), expected);
    }

    #[test]
    fn arbitrary_requests_are_signed_without_panic(
        target in "/[ -~]{0,40}",
        values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..5),
    ) {
        if http::Uri::try_from(&target).is_err() || target.contains(' ') {
            return Ok(());
        }
        let mut parts = parts(Method::GET, &target, &[HOST]);
        for value in values {
            let _ = parts.try_header("", "x-amz-meta-a", &String::from_utf8_lossy(&value));
        }
        example_signer().sign(&mut parts, Payload::Unsigned, EXAMPLE_TIME);
        prop_assert!(parts.value(AUTHORIZATION).is_some());
    }
}
