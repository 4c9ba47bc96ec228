//! The two AWS files, `config` and `credentials`, as settings by profile. Pure; nothing is looked up twice.
//!
//! The rules are those of the AWS SDKs: a setting of the credentials file counts more than the same of the config file, the
//! later of two counts more, names of settings do not care about case, and settings that are indented belong to the one
//! above them (`s3 =` and then `  endpoint_url = ...`), which is written here as `s3.endpoint_url`.

/// What both files say.
#[derive(Debug, Default)]
pub struct Profiles {
    sections: Vec<Section>,
}

#[derive(Debug)]
struct Section {
    kind: Kind,
    name: String,
    settings: Vec<(String, String)>,
}

/// What a section is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Profile,
    /// Endpoints of services, which profiles refer to by name.
    Services,
}

/// Which of the two files a text is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProfileFile {
    /// Its sections are called `profile NAME`, but for the default one.
    Config,
    /// Its sections are called as the profile is.
    Credentials,
}

/// One profile's settings.
#[derive(Debug, Clone, Copy)]
pub struct Profile<'a> {
    profiles: &'a Profiles,
    section: &'a Section,
}

impl Profiles {
    /// Adds what a file says; the config file is added first.
    pub fn add(&mut self, text: &str, file: ProfileFile) {
        let mut section: Option<usize> = None;
        let mut above = String::new();
        for line in text.lines() {
            if line.trim_start().starts_with(['#', ';']) || line.trim().is_empty() {
                continue;
            }
            if line.starts_with([' ', '\t']) {
                if let (Some(section), Some((key, value))) = (section, line.split_once('='))
                    && !above.is_empty()
                {
                    self.sections[section].settings.push((format!("{above}.{}", name_of(key)), value_of(value)));
                }
            } else if let Some(header) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
                above.clear();
                section = section_of(header.trim(), file).map(|(kind, name)| self.section(kind, name));
            } else if let (Some(section), Some((key, value))) = (section, line.split_once('=')) {
                above.clear();
                match value_of(value) {
                    value if value.is_empty() => above = name_of(key),
                    value => self.sections[section].settings.push((name_of(key), value)),
                }
            }
        }
    }

    /// The profile of this name.
    pub fn get(&self, name: &str) -> Option<Profile<'_>> {
        let section = self.find(Kind::Profile, name)?;
        Some(Profile { profiles: self, section })
    }

    fn find(&self, kind: Kind, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind && section.name == name)
    }

    fn section(&mut self, kind: Kind, name: &str) -> usize {
        let known = self.sections.iter().position(|section| section.kind == kind && section.name == name);
        known.unwrap_or_else(|| {
            self.sections.push(Section { kind, name: name.to_owned(), settings: Vec::new() });
            self.sections.len() - 1
        })
    }
}

impl<'a> Profile<'a> {
    /// A setting's value, never an empty one.
    pub fn setting(self, key: &str) -> Option<&'a str> {
        self.section.setting(key)
    }

    /// A setting of the service section that this profile refers to, `s3.endpoint_url` for instance.
    pub fn service_setting(self, key: &str) -> Option<&'a str> {
        self.profiles.find(Kind::Services, self.setting("services")?)?.setting(key)
    }

    /// The profiles that lend this one their keys, this one first; ends where one is named twice.
    pub fn lenders(self) -> Vec<Profile<'a>> {
        let mut chain = vec![self];
        while let Some(next) = chain.last().and_then(|last| last.setting("source_profile"))
            && let Some(next) = self.profiles.get(next)
            && chain.iter().all(|known| known.section.name != next.section.name)
        {
            chain.push(next);
        }
        chain
    }

    /// What it is called.
    pub fn name(self) -> &'a str {
        &self.section.name
    }
}

impl Section {
    fn setting(&self, key: &str) -> Option<&str> {
        self.settings.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

fn section_of(header: &str, file: ProfileFile) -> Option<(Kind, &str)> {
    let named = |word: &str| {
        let rest = header.strip_prefix(word)?;
        let name = rest.trim();
        (rest.starts_with([' ', '\t']) && !name.is_empty()).then_some(name)
    };
    match file {
        ProfileFile::Credentials => Some((Kind::Profile, header)),
        ProfileFile::Config if header == "default" => Some((Kind::Profile, header)),
        ProfileFile::Config => match (named("profile"), named("services")) {
            (Some(name), _) => Some((Kind::Profile, name)),
            (None, Some(name)) => Some((Kind::Services, name)),
            (None, None) => None,
        },
    }
}

fn name_of(key: &str) -> String {
    key.trim().to_ascii_lowercase()
}

/// A value without the comment that may follow it behind a blank.
fn value_of(text: &str) -> String {
    let comment = [" #", " ;", "\t#", "\t;"].into_iter().filter_map(|mark| text.find(mark)).min();
    text[..comment.unwrap_or(text.len())].trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(config: &str, credentials: &str) -> Profiles {
        let mut profiles = Profiles::default();
        profiles.add(config, ProfileFile::Config);
        profiles.add(credentials, ProfileFile::Credentials);
        profiles
    }

    #[test]
    fn settings_follow_the_rules_of_the_sdks() {
        let profiles = profiles(
            "[default]\nregion = eu-west-1 # here\n[profile  work]\nREGION=eu-central-1\nregion = eu-north-1\ns3 =\n  \
             addressing_style = path\n  # none\n\tendpoint_url=http://h#x\nkey=a#b\n[work]\nregion=lost\n[profile]\nx=y\n\
             [sso-session work]\nsso_region = z\n",
            "[work]\naws_access_key_id = A\nregion = from-credentials\n[profile x]\nregion = odd\n",
        );
        let work = profiles.get("work").unwrap();
        assert_eq!(profiles.get("default").unwrap().setting("region"), Some("eu-west-1"));
        assert_eq!(work.setting("region"), Some("from-credentials"), "the credentials file counts more");
        assert_eq!(work.setting("s3.addressing_style"), Some("path"));
        assert_eq!(work.setting("s3.endpoint_url"), Some("http://h#x"));
        assert_eq!((work.setting("key"), work.setting("sso_region")), (Some("a#b"), None));
        assert_eq!(
            profiles.get("profile x").unwrap().setting("region"),
            Some("odd"),
            "a credentials file takes names as such"
        );
        assert!(profiles.get("profile").is_none() && profiles.get("nobody").is_none());
    }

    #[test]
    fn a_profile_refers_to_a_section_of_services() {
        let profiles = profiles(
            "[profile p]\nservices = local\n[services local]\ns3 =\n  endpoint_url = http://one\ndynamodb =\n  \
             endpoint_url = http://two\n[profile q]\nservices = nowhere\n",
            "",
        );
        assert_eq!(profiles.get("p").unwrap().service_setting("s3.endpoint_url"), Some("http://one"));
        assert_eq!(profiles.get("q").unwrap().service_setting("s3.endpoint_url"), None);
    }

    #[test]
    fn lenders_are_followed_and_never_in_a_circle() {
        let profiles = profiles(
            "[profile a]\nsource_profile=b\n[profile b]\nsource_profile=c\n[profile c]\nsource_profile=a\n[profile d]\n\
             source_profile=d\n[profile e]\nsource_profile=lost\n",
            "",
        );
        let names =
            |name: &str| profiles.get(name).unwrap().lenders().into_iter().map(Profile::name).collect::<Vec<_>>();
        assert_eq!((names("a"), names("d"), names("e")), (vec!["a", "b", "c"], vec!["d"], vec!["e"]));
    }
}
