//! Whose keys sign the requests: given outright, in the environment, or as static keys in the AWS profile files.
//!
//! An explicit profile beats keys in the environment, as in the AWS CLI, since whoever names a profile means it.

use std::fmt;
use std::path::PathBuf;

use ropeway_s3proto::sign::{Credentials, Secret};

/// What the person said about one side's identity.
#[derive(Debug, Clone, Default)]
pub struct LoginWish {
    /// Keys given outright: id, secret, session token.
    pub keys: Option<(String, String, Option<String>)>,
    /// A profile named outright.
    pub profile: Option<String>,
    /// The region named outright.
    pub region: Option<String>,
    /// Send requests unsigned, and look for no keys at all.
    pub no_sign_request: bool,
}

/// Who signs, and for which region.
#[derive(Debug, Clone)]
pub struct Login {
    /// None sends requests unsigned.
    pub credentials: Option<Credentials>,
    /// Falls back to `us-east-1`, which the service corrects if it is wrong.
    pub region: String,
}

/// Why nobody can sign.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LoginError {
    /// Nothing was found anywhere.
    #[error(
        "no credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or ask for unsigned \
         requests with --{0}-no-sign-request"
    )]
    NotFound(String),
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
    /// The profile has no static keys.
    #[error(
        "the profile `{0}` has no aws_access_key_id and aws_secret_access_key; only static keys are read from profiles"
    )]
    NotStatic(String),
    /// One of the two variables is missing.
    #[error("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY must be set together; {0} is missing")]
    HalfSet(&'static str),
    /// A file is there and cannot be read.
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

/// Finds keys and region for the side of this name (`source` or `target`).
pub fn find(side: impl fmt::Display, wish: &LoginWish, around: &Surroundings<'_>) -> Result<Login, LoginError> {
    let variable = |name: &str| (around.variable)(name).filter(|value| !value.is_empty());
    let profiles = Profiles::read(around)?;
    let named = wish.profile.clone().or_else(|| variable("AWS_PROFILE"));
    let profile_name = named.clone().unwrap_or_else(|| "default".to_owned());
    let profile = profiles.get(&profile_name);
    if profile.is_none() && (wish.profile.is_some() || (named.is_some() && wish.keys.is_none())) {
        let (profile, files, side) = (profile_name, profiles.files.join(" or "), side.to_string());
        return Err(LoginError::NoProfile { profile, files, side });
    }
    let setting = |key: &str| profile.and_then(|profile| profile.iter().rev().find(|(name, _)| name == key));
    let setting = |key: &str| setting(key).map(|(_, value)| value.clone());
    let region = wish.region.clone();
    let region = region
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .or_else(|| setting("region"))
        .unwrap_or_else(|| "us-east-1".to_owned());
    if wish.no_sign_request {
        return Ok(Login { credentials: None, region });
    }
    let of_profile = || match (setting("aws_access_key_id"), setting("aws_secret_access_key")) {
        (Some(id), Some(secret)) => Some(credentials(id, secret, setting("aws_session_token"))),
        _ => None,
    };
    let found = if let Some((id, secret, token)) = wish.keys.clone() {
        Some(credentials(id, secret, token))
    } else if wish.profile.is_some() {
        Some(of_profile().ok_or(LoginError::NotStatic(profile_name.clone()))?)
    } else {
        match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
            (Some(id), Some(secret)) => Some(credentials(id, secret, variable("AWS_SESSION_TOKEN"))),
            (Some(_), None) => return Err(LoginError::HalfSet("AWS_SECRET_ACCESS_KEY")),
            (None, Some(_)) => return Err(LoginError::HalfSet("AWS_ACCESS_KEY_ID")),
            (None, None) => of_profile(),
        }
    };
    match found {
        Some(found) => Ok(Login { credentials: Some(found), region }),
        None if named.is_some() => Err(LoginError::NotStatic(profile_name)),
        None => Err(LoginError::NotFound(side.to_string())),
    }
}

fn credentials(access_key_id: String, secret: String, session_token: Option<String>) -> Credentials {
    let session_token = session_token.map(Secret::new);
    Credentials { access_key_id, secret_access_key: Secret::new(secret), session_token }
}

/// The profiles of both files; those of the credentials file count more.
struct Profiles {
    files: Vec<String>,
    sections: Vec<(String, Vec<(String, String)>)>,
}

impl Profiles {
    fn read(around: &Surroundings<'_>) -> Result<Profiles, LoginError> {
        let home = (around.variable)("HOME").unwrap_or_default();
        let path = |variable: &str, file: &str| {
            let given = (around.variable)(variable).filter(|path| !path.is_empty());
            given.map_or_else(|| PathBuf::from(&home).join(".aws").join(file), PathBuf::from)
        };
        let mut profiles = Profiles { files: Vec::new(), sections: Vec::new() };
        for (path, in_config) in
            [(path("AWS_CONFIG_FILE", "config"), true), (path("AWS_SHARED_CREDENTIALS_FILE", "credentials"), false)]
        {
            let text = (around.file)(&path).map_err(|error| {
                let path = path.display().to_string();
                LoginError::Unreadable { path, reason: error.to_string() }
            })?;
            profiles.files.push(format!("`{}`", path.display()));
            if let Some(text) = text {
                profiles.add(&text, in_config);
            }
        }
        Ok(profiles)
    }

    /// Sections of the config file are called `profile NAME`, but for the default one; nested settings are indented and
    /// belong to the key above them, so they are left out.
    fn add(&mut self, text: &str, in_config: bool) {
        let mut section: Option<usize> = None;
        for line in text.lines() {
            if line.starts_with([' ', '\t', '#', ';']) || line.trim().is_empty() {
                continue;
            }
            if let Some(header) = line.trim().strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                let header = header.trim();
                let name = match header.strip_prefix("profile ") {
                    Some(name) if in_config => Some(name.trim()),
                    _ => (!in_config || header == "default").then_some(header),
                };
                section = name.map(|name| self.section(name));
            } else if let (Some(section), Some((key, value))) = (section, line.split_once('=')) {
                self.sections[section].1.push((key.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
    }

    fn section(&mut self, name: &str) -> usize {
        if let Some(index) = self.sections.iter().position(|(other, _)| other == name) {
            return index;
        }
        self.sections.push((name.to_owned(), Vec::new()));
        self.sections.len() - 1
    }

    fn get(&self, name: &str) -> Option<&Vec<(String, String)>> {
        self.sections.iter().find(|(other, _)| other == name).map(|(_, settings)| settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str =
        "[default]\nregion = eu-west-1\n\n[profile work]\nregion=eu-central-1\ns3 =\n  addressing_style = path\n";
    const CREDENTIALS: &str = "# keys\n[default]\naws_access_key_id = AKDEFAULT\naws_secret_access_key = s1\n[work]\nAWS_ACCESS_KEY_ID=AKWORK\naws_secret_access_key=s2\naws_session_token=t2\n[bare]\nregion=x\n";

    fn look(wish: LoginWish, variables: &[(&str, &str)]) -> Result<(Option<String>, String), LoginError> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            found.or_else(|| (name == "HOME").then(|| "/home/u".to_owned()))
        };
        let file = |path: &PathBuf| {
            Ok(match path.to_str().unwrap() {
                "/home/u/.aws/config" => Some(CONFIG.to_owned()),
                "/home/u/.aws/credentials" => Some(CREDENTIALS.to_owned()),
                _ => None,
            })
        };
        let around = Surroundings { variable: &variable, file: &file };
        let login = find("source", &wish, &around)?;
        Ok((login.credentials.map(|keys| keys.access_key_id), login.region))
    }

    fn profile(name: &str) -> LoginWish {
        LoginWish { profile: Some(name.into()), ..LoginWish::default() }
    }

    #[test]
    fn the_order_of_sources() {
        let ok = |id: &str, region: &str| Ok((Some(id.to_owned()), region.to_owned()));
        let none = LoginWish::default();
        let environment = [("AWS_ACCESS_KEY_ID", "AKENV"), ("AWS_SECRET_ACCESS_KEY", "s")];
        assert_eq!(look(none.clone(), &[]), ok("AKDEFAULT", "eu-west-1"));
        assert_eq!(look(none.clone(), &environment), ok("AKENV", "eu-west-1"));
        assert_eq!(look(profile("work"), &environment), ok("AKWORK", "eu-central-1"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "work")]), ok("AKWORK", "eu-central-1"));
        assert_eq!(look(none.clone(), &[("AWS_PROFILE", "")]), ok("AKDEFAULT", "eu-west-1"));
        assert_eq!(look(none.clone(), &[("AWS_REGION", "r1")]), ok("AKDEFAULT", "r1"));
        let keys = LoginWish { keys: Some(("AKFLAG".into(), "s".into(), None)), ..none.clone() };
        assert_eq!(look(keys, &environment), ok("AKFLAG", "eu-west-1"));
        let unsigned = LoginWish { no_sign_request: true, ..none };
        assert_eq!(look(unsigned, &environment), Ok((None, "eu-west-1".to_owned())));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(matches!(look(profile("nobody"), &[]), Err(LoginError::NoProfile { .. })));
        assert_eq!(look(profile("bare"), &[]), Err(LoginError::NotStatic("bare".into())));
        let half = look(LoginWish::default(), &[("AWS_ACCESS_KEY_ID", "x")]);
        assert_eq!(half, Err(LoginError::HalfSet("AWS_SECRET_ACCESS_KEY")));
        let elsewhere = [("HOME", "/nowhere")];
        assert_eq!(look(LoginWish::default(), &elsewhere), Err(LoginError::NotFound("source".into())));
    }
}
