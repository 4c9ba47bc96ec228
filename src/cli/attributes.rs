//! The flags about what travels beside the content: metadata, tags, encryption, and the ways and conditions of writing.

use clap::Args;
use ropeway_io::hash::md5;
use ropeway_s3proto::date::http_of_rfc3339;
use ropeway_s3proto::op::{CustomerKey, Encryption, ObjectMetadata, Tags};

use super::sides::{Mistake, usage};
use crate::entry::SideName;
use crate::settings::{Attributes, Dropped, Overwrite};

#[derive(Debug, Args)]
#[command(next_help_heading = "Metadata and tags")]
pub(super) struct AttributeArgs {
    /// The Cache-Control of every object written [default: the source object's].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_CACHE_CONTROL", value_parser = header_value)]
    cache_control: Option<String>,

    /// The Content-Disposition of every object written [default: the source object's].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_CONTENT_DISPOSITION", value_parser = header_value)]
    content_disposition: Option<String>,

    /// The Content-Encoding of every object written [default: the source object's].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_CONTENT_ENCODING", value_parser = header_value)]
    content_encoding: Option<String>,

    /// The Content-Language of every object written [default: the source object's].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_CONTENT_LANGUAGE", value_parser = header_value)]
    content_language: Option<String>,

    /// The Content-Type of every object written [default: the source object's, or guessed from the file's name].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_CONTENT_TYPE", value_parser = header_value)]
    content_type: Option<String>,

    /// The Expires of every object written, a moment such as 2055-05-20T00:00:00Z [default: the source object's].
    #[arg(long, value_name = "TIME", env = "ROPEWAY_EXPIRES", value_parser = expires)]
    expires: Option<String>,

    /// The user metadata of every object written, as NAME=VALUE,NAME=VALUE, in place of the source object's. (What Ropeway
    /// itself needs, a file's time for instance, stays beside it.)
    #[arg(long, value_name = "PAIRS", env = "ROPEWAY_METADATA", value_parser = user_metadata)]
    metadata: Option<UserMetadata>,

    /// Where a website made of the bucket sends those who ask for an object [default: the source object's].
    #[arg(long, value_name = "TEXT", env = "ROPEWAY_WEBSITE_REDIRECT", value_parser = header_value)]
    website_redirect: Option<String>,

    /// Carry over none of the system headers: those above, but for the user metadata.
    #[arg(long, env = "ROPEWAY_NO_SYNC_SYSTEM_METADATA")]
    no_sync_system_metadata: bool,

    /// Carry over no user metadata, but for the time of the file that an object was made of.
    #[arg(long, env = "ROPEWAY_NO_SYNC_USER_DEFINED_METADATA")]
    no_sync_user_defined_metadata: bool,

    /// Give uploaded files no Content-Type that is guessed from their names.
    #[arg(long, env = "ROPEWAY_NO_GUESS_MIME_TYPE")]
    no_guess_mime_type: bool,

    /// Add the source's modification time to the user metadata as `s3sync_origin_last_modified`. (A file's own time is always
    /// kept, as `mtime`, and restored by a download.)
    #[arg(long, env = "ROPEWAY_PUT_LAST_MODIFIED_METADATA")]
    put_last_modified_metadata: bool,

    /// The storage class of every object written [default: the source object's].
    #[arg(long, value_name = "CLASS", env = "ROPEWAY_STORAGE_CLASS", value_parser = STORAGE_CLASSES)]
    storage_class: Option<String>,

    /// The canned ACL of every object written [default: the bucket's; the source object's is not copied].
    #[arg(long, value_name = "ACL", env = "ROPEWAY_ACL", value_parser = canned_acl)]
    acl: Option<&'static str>,

    /// The tags of every object written, as NAME=VALUE&NAME=VALUE, percent-encoded, in place of the source object's.
    #[arg(long, value_name = "PAIRS", env = "ROPEWAY_TAGGING", value_parser = tagging)]
    tagging: Option<String>,

    /// Neither read nor write tags.
    #[arg(long, env = "ROPEWAY_DISABLE_TAGGING")]
    disable_tagging: bool,

    /// From bucket to bucket: compare the tags of objects that need no copying, too, and make them equal.
    #[arg(long, env = "ROPEWAY_SYNC_LATEST_TAGGING")]
    sync_latest_tagging: bool,

    #[command(flatten)]
    encryption: EncryptionArgs,

    #[command(flatten)]
    writing: WritingArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Encryption")]
struct EncryptionArgs {
    /// How the service encrypts the objects written [default: as the bucket does].
    #[arg(long, value_name = "KIND", env = "ROPEWAY_SSE", value_parser = ["AES256", "aws:kms", "aws:kms:dsse"])]
    sse: Option<String>,

    /// The key of the service's key management, by its id or ARN; with --sse aws:kms or aws:kms:dsse.
    #[arg(long, value_name = "ID", hide_env_values = true, env = "ROPEWAY_SSE_KMS_KEY_ID", value_parser = header_value)]
    sse_kms_key_id: Option<String>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Ways and conditions of writing")]
struct WritingArgs {
    /// From bucket to bucket: let the target's service copy by itself, with the target's keys. What it refuses to copy goes
    /// through this machine.
    #[arg(long, env = "ROPEWAY_SERVER_SIDE_COPY")]
    server_side_copy: bool,

    /// Accepted for s3sync's sake: a server-side copy always is of the very object that was listed, or it fails.
    #[arg(long, env = "ROPEWAY_COPY_SOURCE_IF_MATCH")]
    copy_source_if_match: bool,

    /// Replace and delete at the target only what still is what was listed; leave the rest, with a warning.
    #[arg(long, env = "ROPEWAY_IF_MATCH")]
    if_match: bool,

    /// Write only where the target has nothing; leave the rest, with a warning.
    #[arg(long, env = "ROPEWAY_IF_NONE_MATCH")]
    if_none_match: bool,

    /// Leave out archived objects, which cannot be read before they are restored, without a warning.
    #[arg(long, env = "ROPEWAY_IGNORE_GLACIER_WARNINGS")]
    ignore_glacier_warnings: bool,
}

impl AttributeArgs {
    /// What they come to.
    pub(super) fn attributes(&self) -> Attributes {
        let kms = |dual_layer| Encryption::Kms { dual_layer, key_id: self.encryption.sse_kms_key_id.clone() };
        Attributes {
            given: ObjectMetadata {
                content_type: self.content_type.clone(),
                content_encoding: self.content_encoding.clone(),
                content_disposition: self.content_disposition.clone(),
                content_language: self.content_language.clone(),
                cache_control: self.cache_control.clone(),
                expires: self.expires.clone(),
                website_redirect: self.website_redirect.clone(),
                storage_class: self.storage_class.clone(),
                tagging: self.tagging.clone(),
                user: self.metadata.clone().map(|metadata| metadata.0).unwrap_or_default(),
            },
            dropped: Dropped {
                system: self.no_sync_system_metadata,
                user: self.no_sync_user_defined_metadata,
                tags: self.disable_tagging,
            },
            no_guessed_type: self.no_guess_mime_type,
            with_modified_time: self.put_last_modified_metadata,
            acl: self.acl,
            encryption: match self.encryption.sse.as_deref() {
                Some("aws:kms") => Some(kms(false)),
                Some("aws:kms:dsse") => Some(kms(true)),
                Some(_) => Some(Encryption::Managed),
                None => None,
            },
            overwrite: match (self.writing.if_none_match, self.writing.if_match) {
                (true, _) => Overwrite::Never,
                (false, true) => Overwrite::IfUnchanged,
                (false, false) => Overwrite::Always,
            },
            server_side_copy: self.writing.server_side_copy,
            sync_tags: self.sync_latest_tagging,
            quiet_about_archived: self.writing.ignore_glacier_warnings,
        }
    }
}

macro_rules! customer_key_args {
    ($name:ident, $side:literal, $name_of:expr, $algorithm:ident, $key:ident, $md5:ident, $env:literal) => {
        #[derive(Debug, Args)]
        #[command(next_help_heading = "Encryption")]
        pub(super) struct $name {
            /// That side's objects are encrypted with a key of your own; only AES256 is known.
            #[arg(long = concat!($side, "-sse-c"), value_name = "AES256", env = concat!("ROPEWAY_", $env, "_SSE_C"), value_parser = ["AES256"])]
            $algorithm: Option<String>,

            /// That key, 32 bytes in base64; better given by the environment than on a command line that others can read.
            #[arg(long = concat!($side, "-sse-c-key"), value_name = "KEY", hide_env_values = true, env = concat!("ROPEWAY_", $env, "_SSE_C_KEY"))]
            $key: Option<String>,

            /// The MD5 of the key's 32 bytes, in base64; if it is given, the key is compared with it.
            #[arg(long = concat!($side, "-sse-c-key-md5"), value_name = "MD5", hide_env_values = true, env = concat!("ROPEWAY_", $env, "_SSE_C_KEY_MD5"))]
            $md5: Option<String>,
        }

        impl $name {
            /// The key, if one is given.
            pub(super) fn key(&self) -> Result<Option<CustomerKey>, Mistake> {
                customer_key($name_of, self.$algorithm.is_some(), self.$key.as_deref(), self.$md5.as_deref())
            }
        }
    };
}

customer_key_args!(
    SourceKeyArgs,
    "source",
    SideName::Source,
    source_sse_c,
    source_sse_c_key,
    source_sse_c_key_md5,
    "SOURCE"
);
customer_key_args!(
    TargetKeyArgs,
    "target",
    SideName::Target,
    target_sse_c,
    target_sse_c_key,
    target_sse_c_key_md5,
    "TARGET"
);

/// No message says anything of what was given: it is a key, or may be one that was given in the wrong place.
fn customer_key(
    side: SideName,
    named: bool,
    key: Option<&str>,
    key_md5: Option<&str>,
) -> Result<Option<CustomerKey>, Mistake> {
    let Some(key) = key else {
        return match named || key_md5.is_some() {
            true => Err(usage(format!("--{side}-sse-c needs the key: give --{side}-sse-c-key"))),
            false => Ok(None),
        };
    };
    let bytes = CustomerKey::decode(key);
    let bytes = bytes.ok_or_else(|| usage(format!("--{side}-sse-c-key is not 32 bytes in base64")))?;
    let key = CustomerKey::new(&bytes, md5(&bytes));
    if key_md5.is_some_and(|given| given != key.md5()) {
        return Err(usage(format!(
            "--{side}-sse-c-key-md5 is not the MD5, in base64, of the 32 bytes of --{side}-sse-c-key"
        )));
    }
    Ok(Some(key))
}

/// The classes that S3 knows.
const STORAGE_CLASSES: [&str; 13] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
    "EXPRESS_ONEZONE",
    "OUTPOSTS",
    "SNOW",
    "FSX_OPENZFS",
    "FSX_ONTAP",
];

const ACLS: [&str; 7] = [
    "private",
    "public-read",
    "public-read-write",
    "authenticated-read",
    "aws-exec-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
];

fn canned_acl(text: &str) -> Result<&'static str, String> {
    let known = ACLS.into_iter().find(|known| *known == text);
    known.ok_or_else(|| format!("one of {}", ACLS.join(", ")))
}

fn header_value(text: &str) -> Result<String, String> {
    let fits = text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t'));
    if fits { Ok(text.to_owned()) } else { Err("a header carries only visible ASCII and blanks".to_owned()) }
}

fn expires(text: &str) -> Result<String, String> {
    http_of_rfc3339(text).ok_or_else(|| "a moment as RFC 3339 writes it, 2055-05-20T00:00:00Z for instance".to_owned())
}

/// Pairs of a name and a value.
#[derive(Debug, Clone, PartialEq, Eq)]
struct UserMetadata(Vec<(String, String)>);

fn user_metadata(text: &str) -> Result<UserMetadata, String> {
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
    let pairs = text.split(',').map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (!name.is_empty() && fits(name) && fits(value)).then(|| (name.to_ascii_lowercase(), value.to_owned()))
    });
    let pairs: Option<Vec<_>> = pairs.collect();
    let explain = "NAME=VALUE,NAME=VALUE, of letters, digits, `_`, `-` and `.`";
    pairs.map(UserMetadata).ok_or_else(|| explain.to_owned())
}

fn tagging(text: &str) -> Result<String, String> {
    match Tags::parse(text) {
        Some(tags) if !tags.is_empty() => Ok(tags.to_header()),
        Some(_) | None => Err("NAME=VALUE&NAME=VALUE, percent-encoded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_metadata_is_pairs_of_plain_characters() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let parsed = |text: &str| user_metadata(text).ok().map(|metadata| metadata.0);
        assert_eq!(parsed("Key1=value1,key2=v-2_.x"), Some(vec![pair("key1", "value1"), pair("key2", "v-2_.x")]));
        assert_eq!(parsed("key="), Some(vec![pair("key", "")]));
        for bad in ["", "key", "=v", "k=v,", "k=v w", "k=v;x", "k=\u{e9}", "k=a=b"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn tags_are_pairs_too() {
        assert_eq!(tagging("b=2&a=1%20x").unwrap(), "a=1%20x&b=2");
        for bad in ["", "a", "=1", "a=%"] {
            assert!(tagging(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn expires_is_a_moment_and_becomes_a_header() {
        assert_eq!(expires("2055-05-20T00:00:00.000Z").unwrap(), "Thu, 20 May 2055 00:00:00 GMT");
        for bad in ["", "tomorrow", "2055-05-20", "Thu, 20 May 2055 00:00:00 GMT"] {
            assert!(expires(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_customers_key_is_checked_and_never_repeated() {
        let key = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        let of = |named, key, key_md5| customer_key(SideName::Source, named, key, key_md5).map_err(|error| error.text);
        assert_eq!(of(false, None, None), Ok(None));
        let known = of(true, Some(key), None).unwrap().unwrap();
        assert_eq!(of(true, Some(key), Some(known.md5())).unwrap().as_ref(), Some(&known));
        let short = "c2VjcmV0";
        for (named, key, key_md5) in [
            (true, None, None),
            (false, None, Some(key)),
            (true, Some(short), None),
            (true, Some("secret, and no base64"), None),
            (true, Some(key), Some(key)),
            (true, Some(key), Some("AAAAAAAAAAAAAAAAAAAAAA==")),
        ] {
            let error = of(named, key, key_md5).unwrap_err();
            assert!(error.contains("--source-sse-c"), "{error}");
            assert!(!error.contains("MDEy") && !error.contains(short) && !error.contains("secret"), "{error}");
        }
    }
}
