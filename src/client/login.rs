//! Whose keys sign the requests, for which region, and what else the AWS files and variables say about S3: each side on its
//! own. Pure but for reading the two files; whoever has to be asked over a network is asked later, by [`super::keyring`].
//!
//! An explicit profile beats keys in the environment, as in the AWS CLI, since whoever names a profile means it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use ropeway_s3proto::endpoint::AwsVariant;
use ropeway_s3proto::sign::{Credentials, Secret};

use super::keyring::{Chain, Start};
use super::profiles::{Profile, ProfileFile, Profiles};
use super::proxy::{Proxies, ProxyError};

/// What the person said about one side's identity.
#[derive(Debug, Clone, Default)]
pub struct LoginWish {
    /// Keys given outright.
    pub keys: Option<Credentials>,
    /// A profile named outright.
    pub profile: Option<String>,
    /// The region named outright.
    pub region: Option<String>,
    /// Send requests unsigned, and look for no keys at all.
    pub no_sign_request: bool,
    /// The AWS config file, if it is not the usual one.
    pub config_file: Option<PathBuf>,
    /// The AWS credentials file, if it is not the usual one.
    pub credentials_file: Option<PathBuf>,
}

/// Who signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody: requests go unsigned.
    Unsigned,
    /// Keys that are known, and stay.
    Keys(Credentials),
    /// Keys that have to be asked for, and may expire.
    Chain(Box<Chain>),
}

/// Who signs, for which region, and how S3 is to be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// Who signs.
    pub identity: Identity,
    /// Falls back to `us-east-1`, which the service corrects if it is wrong.
    pub region: String,
    /// Where S3 is, if the environment or the profile names a place, and who named it.
    pub endpoint_url: Option<(String, String)>,
    /// A file of certificates to trust instead of the system's.
    pub ca_bundle: Option<PathBuf>,
    /// Which of its own endpoints AWS is to be reached at.
    pub variant: AwsVariant,
    /// The bucket belongs into the path.
    pub path_style: bool,
    /// What stands between us and services elsewhere.
    pub proxies: Proxies,
}

/// Why nobody can sign.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoginError {
    /// The named profile is in neither file.
    #[error("there is no profile `{profile}` in {files}; check --{side}-profile or AWS_PROFILE")]
    NoProfile {
        /// The name.
        profile: String,
        /// Where it was looked for.
        files: String,
        /// The side it was to serve.
        side: String,
    },
    /// The profile has no keys, and names nobody who has.
    #[error(
        "the profile `{0}` has no keys (aws_access_key_id and aws_secret_access_key) and no way to get some (role_arn, \
         sso_session, credential_process, web_identity_token_file, credential_source)"
    )]
    NoKeys(String),
    /// The profile wants a person with a token generator.
    #[error(
        "the profile `{0}` has mfa_serial, and Ropeway asks nobody for a code; get keys with `aws configure \
         export-credentials --profile {0}` and give them by the environment or as a credential_process"
    )]
    Mfa(String),
    /// The profile was made by `aws login`.
    #[error(
        "the profile `{0}` has login_session, which Ropeway cannot read; add `credential_process = aws configure \
         export-credentials --profile {0}` to a profile of its own"
    )]
    LoginSession(String),
    /// One of the two variables is missing.
    #[error("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together; {0} is missing")]
    HalfSet(&'static str),
    /// A setting has a value that it cannot have.
    #[error("{name} is `{value}`, and has to be `true` or `false`")]
    NotABoolean {
        /// The variable's or the setting's name.
        name: String,
        /// What it says.
        value: String,
    },
    /// A variable names a proxy that is none.
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    /// A file is there and cannot be read, or was named and is not there.
    #[error("`{path}` cannot be read: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's answer.
        reason: String,
    },
}

/// The process's surroundings, so that tests can have their own.
pub struct Surroundings<'a> {
    /// An environment variable; empty ones count as unset, as in the AWS CLI.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// A file's text; None if it does not exist.
    pub file: &'a dyn Fn(&PathBuf) -> std::io::Result<Option<String>>,
}

/// Any of these makes a profile one whose keys have to be asked for.
const WAYS_TO_KEYS: [&str; 7] = [
    "role_arn",
    "credential_source",
    "credential_process",
    "web_identity_token_file",
    "sso_session",
    "sso_account_id",
    "sso_start_url",
];

/// Off EC2 nobody answers there, and every run without keys would wait; the AWS CLI waits as long.
const INSTANCE_ATTEMPTS: u32 = 1;
const INSTANCE_PATIENCE: Duration = Duration::from_secs(1);

/// Finds out about the side of this name (`source` or `target`).
///
/// # Errors
/// [`LoginError`]: what is asked for contradicts itself or is not there.
pub fn find(side: impl fmt::Display, wish: &LoginWish, around: &Surroundings<'_>) -> Result<Login, LoginError> {
    let files = Files::read(wish, around)?;
    let around = Around { variable: around.variable };
    let named = wish.profile.clone().or_else(|| around.variable("AWS_PROFILE"));
    let profile_name = named.clone().unwrap_or_else(|| "default".to_owned());
    let profile = files.profiles.get(&profile_name);
    if profile.is_none() && (wish.profile.is_some() || (named.is_some() && wish.keys.is_none())) {
        let (profile, files, side) = (profile_name, files.names.join(" or "), side.to_string());
        return Err(LoginError::NoProfile { profile, files, side });
    }
    let setting = |key: &str| profile.and_then(|profile| profile.setting(key)).map(str::to_owned);
    let region = wish.region.clone();
    let region = region
        .or_else(|| around.variable("AWS_REGION"))
        .or_else(|| around.variable("AWS_DEFAULT_REGION"))
        .or_else(|| setting("region"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    let ca_bundle = around.variable("AWS_CA_BUNDLE").or_else(|| setting("ca_bundle")).map(PathBuf::from);
    let proxies = Proxies::read(around.variable)?;
    let chain = |start| {
        Identity::Chain(Box::new(Chain {
            side: side.to_string(),
            start,
            profile: profile_name.clone(),
            by_sso: profile.is_some_and(|profile| profile.lenders().into_iter().any(is_sso)),
            config_file: wish.config_file.clone(),
            credentials_file: wish.credentials_file.clone(),
            region: region.clone(),
            ca_bundle: ca_bundle.clone(),
            proxies: proxies.clone(),
            instance_endpoint: match around.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
                Some(_) => None,
                None => setting("ec2_metadata_service_endpoint"),
            },
            instance_patience: (
                around.number("AWS_METADATA_SERVICE_NUM_ATTEMPTS").unwrap_or(INSTANCE_ATTEMPTS),
                around
                    .number("AWS_METADATA_SERVICE_TIMEOUT")
                    .map_or(INSTANCE_PATIENCE, |s| Duration::from_secs(s.into())),
            ),
        }))
    };
    let of_profile = |start| match profile {
        Some(profile) => keys_of(profile).map(|keys| match keys {
            KeysOf::Static(keys) => Some(Identity::Keys(keys)),
            KeysOf::ToAskFor => Some(chain(start)),
            KeysOf::Nothing => None,
        }),
        None => Ok(None),
    };
    let identity = if wish.no_sign_request {
        Identity::Unsigned
    } else if let Some(keys) = &wish.keys {
        Identity::Keys(keys.clone())
    } else if wish.profile.is_some() {
        of_profile(Start::Profile)?.ok_or(LoginError::NoKeys(profile_name.clone()))?
    } else {
        match (around.variable("AWS_ACCESS_KEY_ID"), around.variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Identity::Keys(credentials(id, secret, around.variable("AWS_SESSION_TOKEN"))),
            (Some(_), None) => return Err(LoginError::HalfSet("AWS_SECRET_ACCESS_KEY")),
            (None, Some(_)) => return Err(LoginError::HalfSet("AWS_ACCESS_KEY_ID")),
            (None, None) => of_profile(Start::Anywhere)?.unwrap_or_else(|| chain(Start::Anywhere)),
        }
    };
    let flag = |variable: &str, key: &str| around.flag(variable, setting(key).map(|value| (key, value)));
    let variant = AwsVariant {
        dual_stack: flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?
            || flag("", "s3.use_dualstack_endpoint")?,
        fips: flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?,
        accelerate: flag("", "s3.use_accelerate_endpoint")?,
    };
    let ignored = flag("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")?;
    let endpoint_url = if ignored { None } else { endpoint_url(&around, profile) };
    let path_style = setting("s3.addressing_style").is_some_and(|style| style == "path");
    Ok(Login { identity, region, endpoint_url, ca_bundle, variant, path_style, proxies })
}

/// Where S3 is said to be, and by whom: the word about S3 before the word about all services, the environment before the
/// profile.
fn endpoint_url(around: &Around<'_>, profile: Option<Profile<'_>>) -> Option<(String, String)> {
    let of_variable = |name: &str| around.variable(name).map(|url| (url, name.to_owned()));
    let of_profile = |url: Option<&str>| {
        let profile = profile?;
        Some((url?.to_owned(), format!("endpoint_url of the profile `{}`", profile.name())))
    };
    of_variable("AWS_ENDPOINT_URL_S3")
        .or_else(|| of_variable("AWS_ENDPOINT_URL"))
        .or_else(|| of_profile(profile?.service_setting("s3.endpoint_url")))
        .or_else(|| of_profile(profile?.setting("s3.endpoint_url")))
        .or_else(|| of_profile(profile?.setting("endpoint_url")))
}

/// What a profile has to offer.
enum KeysOf {
    Static(Credentials),
    ToAskFor,
    Nothing,
}

fn keys_of(profile: Profile<'_>) -> Result<KeysOf, LoginError> {
    // Only for a role is a code asked for.
    let mut roles = profile.lenders().into_iter().filter(|lender| lender.setting("role_arn").is_some());
    if let Some(lender) = roles.find(|lender| lender.setting("mfa_serial").is_some()) {
        return Err(LoginError::Mfa(lender.name().to_owned()));
    }
    if WAYS_TO_KEYS.iter().any(|way| profile.setting(way).is_some()) {
        return Ok(KeysOf::ToAskFor);
    }
    if profile.setting("login_session").is_some() {
        return Err(LoginError::LoginSession(profile.name().to_owned()));
    }
    let setting = |key: &str| profile.setting(key).map(str::to_owned);
    Ok(match (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        (Some(id), Some(secret)) => KeysOf::Static(credentials(id, secret, setting("aws_session_token"))),
        _ => KeysOf::Nothing,
    })
}

fn is_sso(profile: Profile<'_>) -> bool {
    ["sso_session", "sso_start_url"].iter().any(|setting| profile.setting(setting).is_some())
}

fn credentials(access_key_id: String, secret: String, session_token: Option<String>) -> Credentials {
    let session_token = session_token.map(Secret::new);
    Credentials { access_key_id, secret_access_key: Secret::new(secret), session_token }
}

/// The environment.
struct Around<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Around<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> Option<u32> {
        self.variable(name)?.parse().ok().filter(|number| *number > 0)
    }

    /// What the variable says, or else the profile; not so, if neither does.
    fn flag(&self, variable: &str, setting: Option<(&str, String)>) -> Result<bool, LoginError> {
        let said = self.variable(variable).map(|value| (variable, value)).or(setting);
        match said {
            None => Ok(false),
            Some((_, value)) if value.eq_ignore_ascii_case("true") => Ok(true),
            Some((_, value)) if value.eq_ignore_ascii_case("false") => Ok(false),
            Some((name, value)) => Err(LoginError::NotABoolean { name: name.to_owned(), value }),
        }
    }
}

/// Both files, and what they are called in messages.
struct Files {
    names: Vec<String>,
    profiles: Profiles,
}

impl Files {
    fn read(wish: &LoginWish, around: &Surroundings<'_>) -> Result<Files, LoginError> {
        let home = (around.variable)("HOME").unwrap_or_default();
        let mut files = Files { names: Vec::new(), profiles: Profiles::default() };
        for (named, variable, usual, file) in [
            (&wish.config_file, "AWS_CONFIG_FILE", "config", ProfileFile::Config),
            (&wish.credentials_file, "AWS_SHARED_CREDENTIALS_FILE", "credentials", ProfileFile::Credentials),
        ] {
            let variable = || (around.variable)(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
            let path = named.clone().or_else(variable);
            let path = path.unwrap_or_else(|| PathBuf::from(&home).join(".aws").join(usual));
            let unreadable = |reason: String| LoginError::Unreadable { path: path.display().to_string(), reason };
            let text = (around.file)(&path).map_err(|error| unreadable(error.to_string()))?;
            // The usual files need not be there; one that a flag names has to be.
            if text.is_none() && named.is_some() {
                return Err(unreadable("there is no such file".to_owned()));
            }
            files.names.push(format!("`{}`", path.display()));
            if let Some(text) = text {
                files.profiles.add(&text, file);
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "[default]\nregion = eu-west-1\n\n[profile work]\nregion=eu-central-1\ns3 =\n  \
        addressing_style = path\n  use_accelerate_endpoint = true\n[profile role]\nrole_arn = arn:aws:iam::1:role/r\n\
        source_profile = work\n[profile mfa]\nrole_arn = x\nsource_profile = second\n[profile second]\nrole_arn = y\n\
        mfa_serial = z\n[profile login]\nlogin_session = arn\n[profile there]\nservices = local\nendpoint_url = http://all\n\
        use_fips_endpoint = true\nca_bundle = my.pem\n[services local]\ns3 =\n  endpoint_url = http://s3\n\
        [profile odd]\nuse_fips_endpoint = perhaps\n";
    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = s1\n[work]\n\
        AWS_ACCESS_KEY_ID=AKWORK\naws_secret_access_key=s2\naws_session_token=t2\n[bare]\nregion=x\n";

    fn login(wish: LoginWish, variables: &[(&str, &str)]) -> Result<Login, LoginError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            found.or_else(|| (name == "HOME").then(|| "/home/u".to_owned()))
        };
        let file = |path: &PathBuf| {
            Ok(match path.to_str().unwrap() {
                "/home/u/.aws/config" | "my-config" => Some(CONFIG.to_owned()),
                "/home/u/.aws/credentials" | "my-credentials" => Some(CREDENTIALS.to_owned()),
                _ => None,
            })
        };
        find("source", &wish, &Surroundings { variable: &variable, file: &file })
    }

    /// Who signs, in one word, and the region.
    fn look(wish: LoginWish, variables: &[(&str, &str)]) -> Result<(String, String), LoginError> {
        let login = login(wish, variables)?;
        let who = match login.identity {
            Identity::Unsigned => "nobody".to_owned(),
            Identity::Keys(keys) => keys.access_key_id,
            Identity::Chain(chain) => format!("{:?} from {}", chain.start, chain.profile),
        };
        Ok((who, login.region))
    }

    fn profile(name: &str) -> LoginWish {
        LoginWish { profile: Some(name.into()), ..LoginWish::default() }
    }

    #[test]
    fn the_order_of_sources() {
        let ok = |id: &str, region: &str| Ok((id.to_owned(), region.to_owned()));
        let none = LoginWish::default();
        let environment = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(look(none.clone(), &[]), ok("AKDEFAULT", "eu-west-1"));
        assert_eq!(look(none.clone(), &environment), ok("AKENV", "eu-west-1"));
        assert_eq!(look(profile("work"), &environment), ok("AKWORK", "eu-central-1"));
        assert_eq!(look(profile("role"), &environment), ok("Profile from role", "us-east-1"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "work")]), ok("AKWORK", "eu-central-1"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "role")]), ok("Anywhere from role", "us-east-1"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "bare")]), ok("Anywhere from bare", "x"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "")]), ok("AKDEFAULT", "eu-west-1"));
        assert_eq!(look(none.clone(), &[("AWS_REGION", "r1")]), ok("AKDEFAULT", "r1"));
        assert_eq!(look(none.clone(), &[("HOME", "/nowhere")]), ok("Anywhere from default", "us-east-1"));
        let keys = LoginWish { keys: Some(credentials("AKFLAG".into(), "s".into(), None)), ..none.clone() };
        assert_eq!(look(keys, &environment), ok("AKFLAG", "eu-west-1"));
        let unsigned = LoginWish { no_sign_request: true, ..none };
        assert_eq!(look(unsigned, &environment), ok("nobody", "eu-west-1"));
    }

    #[test]
    fn files_can_be_named() {
        let files = |config: &str, credentials: &str| LoginWish {
            config_file: Some(config.into()),
            credentials_file: Some(credentials.into()),
            ..profile("work")
        };
        let elsewhere = [("HOME", "/nowhere"), ("AWS_CONFIG_FILE", "lost")];
        let found = look(files("my-config", "my-credentials"), &elsewhere);
        assert_eq!(found, Ok(("AKWORK".to_owned(), "eu-central-1".to_owned())));
        assert!(
            matches!(look(files("my-config", "lost"), &[]), Err(LoginError::Unreadable { path, .. }) if path == "lost")
        );
    }

    #[test]
    fn what_is_missing_or_beyond_us_is_named() {
        assert!(matches!(look(profile("nobody"), &[]), Err(LoginError::NoProfile { .. })));
        assert_eq!(look(profile("bare"), &[]), Err(LoginError::NoKeys("bare".into())));
        assert_eq!(look(profile("mfa"), &[]), Err(LoginError::Mfa("second".into())));
        assert_eq!(look(profile("login"), &[]), Err(LoginError::LoginSession("login".into())));
        assert!(matches!(look(profile("odd"), &[]), Err(LoginError::NoKeys(_))));
        let odd = LoginWish { no_sign_request: true, ..profile("odd") };
        assert!(matches!(look(odd, &[]), Err(LoginError::NotABoolean { value, .. }) if value == "perhaps"));
        let half = look(LoginWish::default(), &[("AWS_ACCESS_KEY_ID", "x")]);
        assert_eq!(half, Err(LoginError::HalfSet("AWS_SECRET_ACCESS_KEY")));
    }

    #[test]
    fn where_s3_is_follows_the_order_of_the_sdks() {
        let url = |variables: &[(&str, &str)]| {
            let wish = LoginWish { no_sign_request: true, ..profile("there") };
            login(wish, variables).unwrap().endpoint_url.map(|(url, _)| url)
        };
        let all = [("AWS_ENDPOINT_URL_S3", "http://1"), ("AWS_ENDPOINT_URL", "http://2")];
        assert_eq!(url(&all).as_deref(), Some("http://1"));
        assert_eq!(url(&all[1..]).as_deref(), Some("http://2"));
        assert_eq!(url(&[]).as_deref(), Some("http://s3"));
        assert_eq!(url(&[("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"), all[0]]), None);
    }

    #[test]
    fn a_profile_says_how_s3_is_reached() {
        let there = login(LoginWish { no_sign_request: true, ..profile("there") }, &[]).unwrap();
        assert_eq!((there.ca_bundle, there.variant.fips), (Some("my.pem".into()), true));
        let variables = [
            ("AWS_CA_BUNDLE", "other.pem"),
            ("AWS_USE_FIPS_ENDPOINT", "false"),
            ("AWS_USE_DUALSTACK_ENDPOINT", "true"),
        ];
        let there = login(LoginWish { no_sign_request: true, ..profile("there") }, &variables).unwrap();
        assert_eq!(there.ca_bundle, Some("other.pem".into()));
        assert_eq!(there.variant, AwsVariant { dual_stack: true, fips: false, accelerate: false });
        let work = login(profile("work"), &[]).unwrap();
        assert!(work.path_style && work.variant.accelerate);
    }
}
