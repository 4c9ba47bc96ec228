//! What a side is: the place that was typed, and with which flags, variables and profiles it is reached.

use std::path::PathBuf;

use clap::Args;
use ropeway_s3proto::endpoint::{AwsVariant, Endpoint};
use ropeway_s3proto::name::{Bucket, BucketKind};
use ropeway_s3proto::sign::{Credentials, Secret};

use super::sides::{Mistake, usage};
use crate::client::login::{self, LoginWish, Surroundings};
use crate::entry::SideName;
use crate::error::ExitCode;
use crate::settings::{BucketPlace, EndpointChoice, Place};

/// Where both sides' profiles are.
#[derive(Debug, Args)]
#[command(next_help_heading = "AWS files")]
pub(super) struct AwsArgs {
    /// The AWS config file, for both sides [default: $AWS_CONFIG_FILE, or ~/.aws/config].
    #[arg(long, value_name = "FILE", env = "ROPEWAY_AWS_CONFIG_FILE")]
    aws_config_file: Option<PathBuf>,

    /// The AWS credentials file, for both sides [default: $AWS_SHARED_CREDENTIALS_FILE, or ~/.aws/credentials].
    #[arg(long, value_name = "FILE", env = "ROPEWAY_AWS_SHARED_CREDENTIALS_FILE")]
    aws_shared_credentials_file: Option<PathBuf>,
}

/// One side's flags, whichever side.
pub(super) struct SideWishes<'a> {
    pub(super) aws: &'a AwsArgs,
    pub(super) endpoint: Option<&'a str>,
    pub(super) region: Option<&'a str>,
    pub(super) profile: Option<&'a str>,
    pub(super) key: Option<&'a str>,
    pub(super) secret: Option<&'a str>,
    pub(super) token: Option<&'a str>,
    pub(super) force_path_style: bool,
    pub(super) no_sign_request: bool,
    pub(super) accelerate: bool,
    pub(super) request_payer: bool,
}

/// Makes a place of what was typed.
pub(super) fn place(text: &str, side: SideName, wishes: &SideWishes<'_>) -> Result<Place, Mistake> {
    if text.is_empty() {
        return Err(usage(format!("the {side} is empty; name a path or s3://bucket/prefix")));
    }
    // Somebody may have written keys into it, as other programs want them; then it is not repeated.
    let authority = text.split_once("://").map(|(_, rest)| rest.split_once('@').map_or(rest, |(login, _)| login));
    let arn = text.strip_prefix("s3://").filter(|rest| rest.starts_with("arn:"));
    if text.contains('@') && authority.is_some_and(|authority| authority.contains(':'))
        || arn.is_none()
            && text.strip_prefix("s3://").is_some_and(|rest| rest.split('/').next().is_some_and(|it| it.contains(':')))
    {
        return Err(usage(format!(
            "the {side} seems to hold a login; a bucket is named as s3://bucket/prefix, and keys go to the environment or to \
             --{side}-access-key"
        )));
    }
    let Some(rest) = text.strip_prefix("s3://") else {
        if let Some((scheme, _)) = text.split_once("://") {
            return Err(usage(format!(
                "`{text}`: `{scheme}://` is not understood; a {side} is a local path or s3://bucket/prefix, and a \
                 service's address goes to --{side}-endpoint-url"
            )));
        }
        if wishes.endpoint.is_some() {
            return Err(usage(format!("--{side}-endpoint-url is given, but the {side} `{text}` is a local path")));
        }
        return Ok(Place::Local(PathBuf::from(text)));
    };
    let (bucket, prefix) = match arn {
        Some(arn) => access_point(arn).map_err(|reason| usage(format!("`{text}`: {reason}")))?,
        None => {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            (Bucket::parse(bucket).map_err(|error| usage(format!("`{text}`: {error}")))?, prefix)
        }
    };
    let flag = format!("--{side}-endpoint-url");
    let given = wishes.endpoint.map(|url| endpoint(url, side, &flag)).transpose()?;
    // The built-in server's keys are made up for the run.
    let embedded = given.as_ref().is_some_and(|given| !matches!(given, EndpointChoice::Service(_)));
    let login = find_login(side, wishes, embedded)?;
    // An access point says where it is.
    let region = match bucket.kind() {
        BucketKind::AccessPoint { region, .. } => region.to_owned(),
        BucketKind::General | BucketKind::Directory { .. } => login.region,
    };
    // What a profile wishes for all its buckets is not for those that cannot.
    let accelerate = wishes.accelerate || login.variant.accelerate && bucket.kind() == BucketKind::General;
    let variant = AwsVariant { accelerate, ..login.variant };
    let endpoint = match (given, &login.endpoint_url) {
        (Some(given), _) => given,
        (None, Some((url, name))) => endpoint(url, side, name)?,
        (None, None) => EndpointChoice::Aws(variant),
    };
    match endpoint {
        EndpointChoice::Aws(_) => drop(
            Endpoint::aws(&region, &bucket, variant).map_err(|error| usage(format!("the {side} `{text}`: {error}")))?,
        ),
        _ if wishes.accelerate => {
            return Err(usage(format!(
                "--{side}-accelerate is for AWS's own endpoints, and --{side}-endpoint-url names another"
            )));
        }
        EndpointChoice::Service(_) | EndpointChoice::EmbeddedDirectory(_) | EndpointChoice::EmbeddedMemory => {}
    }
    Ok(Place::Bucket(Box::new(BucketPlace {
        bucket,
        customer_key: None,
        prefix: prefix.to_owned(),
        endpoint,
        region,
        requester_pays: wishes.request_payer,
        identity: login.identity,
        force_path_style: wishes.force_path_style || login.path_style,
        proxies: login.proxies,
        ca_bundle: login.ca_bundle,
    })))
}

/// The access point that an ARN names, and the prefix behind it. Both spellings are AWS's own: `accesspoint/NAME` and
/// `accesspoint:NAME`.
fn access_point(arn: &str) -> Result<(Bucket, &str), String> {
    let fields: Vec<_> = arn.splitn(6, ':').collect();
    let [_, _, service, region, _, resource] = fields[..] else {
        return Err("it is no whole ARN; an access point's is arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME".to_owned());
    };
    if service == "s3" && region.is_empty() {
        return Err(
            "Multi-Region Access Points need signatures for all regions at once (SigV4A), which Ropeway cannot \
                    make; name one of the buckets or access points behind it"
                .to_owned(),
        );
    }
    let name = resource.strip_prefix("accesspoint").and_then(|rest| rest.strip_prefix(['/', ':']));
    let (name, prefix) = name.map_or(("", ""), |rest| rest.split_once('/').unwrap_or((rest, "")));
    let head = fields[..5].join(":");
    match Bucket::parse(&format!("{head}:accesspoint:{name}")) {
        Ok(bucket) if matches!(bucket.kind(), BucketKind::AccessPoint { .. }) => Ok((bucket, prefix)),
        Ok(_) | Err(_) => Err("of all ARNs, only those of access points of buckets are understood: \
                               arn:aws:s3:REGION:ACCOUNT:accesspoint/NAME"
            .to_owned()),
    }
}

/// An endpoint as a flag, a variable or a profile of this name gives it.
fn endpoint(url: &str, side: SideName, name: &str) -> Result<EndpointChoice, Mistake> {
    match url.strip_prefix("embedded:") {
        Some("memory") => Ok(EndpointChoice::EmbeddedMemory),
        Some("") => Err(usage(format!("{name} embedded: needs a directory, or the word `memory`"))),
        Some(directory) => Ok(EndpointChoice::EmbeddedDirectory(PathBuf::from(directory))),
        // Somebody may have written a secret into it, of which no part may be said.
        None if url.contains('@') => Err(usage(format!(
            "{name} has an `@` in it, and a service's address takes no login; give the keys by \
             --{side}-access-key and --{side}-secret-access-key, or by the environment"
        ))),
        None => {
            Endpoint::parse(url).map(EndpointChoice::Service).map_err(|error| usage(format!("{name} `{url}`: {error}")))
        }
    }
}

fn find_login(side: SideName, wishes: &SideWishes<'_>, embedded: bool) -> Result<login::Login, Mistake> {
    let keys = match (wishes.key, wishes.secret) {
        (Some(key), Some(secret)) => Some(Credentials {
            access_key_id: key.to_owned(),
            secret_access_key: Secret::new(secret),
            session_token: wishes.token.map(Secret::new),
        }),
        (None, None) if wishes.token.is_none() => None,
        _ => {
            return Err(usage(format!(
                "--{side}-access-key and --{side}-secret-access-key must be given together, and --{side}-session-token \
                 only with them"
            )));
        }
    };
    if keys.is_some() && wishes.profile.is_some() {
        return Err(usage(format!("--{side}-profile and --{side}-access-key exclude each other")));
    }
    if wishes.no_sign_request && (keys.is_some() || wishes.profile.is_some()) {
        return Err(usage(format!("--{side}-no-sign-request excludes keys and profiles")));
    }
    let wish = LoginWish {
        keys,
        profile: wishes.profile.map(str::to_owned),
        region: wishes.region.map(str::to_owned),
        no_sign_request: wishes.no_sign_request || embedded,
        config_file: wishes.aws.aws_config_file.clone(),
        credentials_file: wishes.aws.aws_shared_credentials_file.clone(),
    };
    let variable = |name: &str| std::env::var(name).ok();
    let file = |path: &PathBuf| match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    login::find(side, &wish, &Surroundings { variable: &variable, file: &file })
        .map_err(|error| Mistake { text: format!("{side}: {error}"), exit_code: ExitCode::Configuration })
}
