//! Where a bucket lives: the endpoint's URL, the addressing style, and the two joined into the [`Address`] from which
//! every request takes its host and its path.
//!
//! A path is percent-encoded once, here, and both the request line and the signature use that very text: two encoders
//! that disagree about one byte are how signatures fail for some keys only.

use std::fmt;

use thiserror::Error;

use crate::{
    name::{Bucket, BucketKind, Key},
    text,
};

/// Why an endpoint's URL was refused. The URL itself is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// Neither `http://` nor `https://`.
    #[error("an endpoint URL begins with `http://` or `https://`")]
    Scheme,
    /// Nothing between the slashes.
    #[error("the endpoint URL names no host")]
    NoHost,
    /// The host holds what no host name or address can.
    #[error("`{host}` is not a host name or an IP address (an IPv6 address stands in brackets)")]
    Host {
        /// The host as given.
        host: String,
    },
    /// `user:password@`.
    #[error("credentials do not belong in an endpoint URL; give the keys by their own options")]
    UserInfo,
    /// Not a number from 1 to 65,535.
    #[error("`{port}` is not a port between 1 and 65535")]
    Port {
        /// The port as given.
        port: String,
    },
    /// A `?` or a `#`.
    #[error("an endpoint URL has no query and no fragment")]
    Query,
    /// A character that no request line can carry unencoded.
    #[error("the path of the endpoint URL holds {character:?}, which must be percent-encoded")]
    Path {
        /// The first offending character.
        character: char,
    },
    /// AWS has no such endpoint.
    #[error("AWS has no endpoint for {what}")]
    NoSuchVariant {
        /// What was asked for together.
        what: &'static str,
    },
    /// Not a region's name.
    #[error("`{region}` is not the name of a region")]
    Region {
        /// The name as given.
        region: String,
    },
}

/// Plain or over TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl Scheme {
    /// The port that needs no mention.
    #[must_use]
    pub fn port_default(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// One S3 service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Plain or TLS.
    pub scheme: Scheme,
    /// A name or an address in lower case; an IPv6 address stands here without its brackets.
    pub host: String,
    /// The port to connect to, whether or not the URL named it.
    pub port: u16,
    /// What precedes every bucket's path: empty, or `/` and more without a slash at its end.
    pub base_path: String,
}

impl Endpoint {
    /// Reads `http(s)://host[:port][/path]`.
    ///
    /// # Errors
    /// [`EndpointError`] says which piece is wrong.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = url.split_once("://").ok_or(EndpointError::Scheme)?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            _ => return Err(EndpointError::Scheme),
        };
        if rest.contains(['?', '#']) {
            return Err(EndpointError::Query);
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(EndpointError::UserInfo);
        }
        let (host, port) = split_port(authority)?;
        let port = match port {
            None => scheme.port_default(),
            Some(text) => text
                .parse()
                .ok()
                .filter(|&port| port != 0 && !text.starts_with('+'))
                .ok_or_else(|| EndpointError::Port { port: text.to_owned() })?,
        };
        let base_path = path.trim_end_matches('/');
        let plain = |character: char| character.is_ascii_alphanumeric() || "/-._~%!$&'()*+,;=:@".contains(character);
        if let Some(character) = base_path.chars().find(|&character| !plain(character)) {
            return Err(EndpointError::Path { character });
        }
        Ok(Self { scheme, host, port, base_path: base_path.to_owned() })
    }

    /// The AWS endpoint for a bucket in a region: those of directory buckets and of access points are others.
    ///
    /// # Errors
    /// [`EndpointError::Region`] when the name holds anything but lower-case letters, digits and hyphens: it becomes
    /// part of a host name to which signed requests are sent. [`EndpointError::NoSuchVariant`] when AWS has no such
    /// endpoint.
    pub fn aws(region: &str, bucket: &Bucket, variant: AwsVariant) -> Result<Self, EndpointError> {
        if !is_region(region) {
            return Err(EndpointError::Region { region: region.to_owned() });
        }
        let AwsVariant { dual_stack, fips, accelerate } = variant;
        let kind = bucket.kind();
        let none = |what| Err(EndpointError::NoSuchVariant { what });
        if accelerate {
            match kind {
                _ if fips => return none("transfer acceleration with FIPS"),
                BucketKind::Directory { .. } => return none("transfer acceleration of a directory bucket"),
                BucketKind::AccessPoint { .. } => return none("transfer acceleration of an access point"),
                BucketKind::General if !bucket.is_dns_label() => {
                    return none("transfer acceleration of a bucket whose name is no single DNS label");
                }
                BucketKind::General => {}
            }
        }
        if region.starts_with("cn-") && (fips || accelerate) {
            return none("FIPS or transfer acceleration in China");
        }
        let fips = if fips { "-fips" } else { "" };
        let dual_stack = if dual_stack { ".dualstack" } else { "" };
        let service = match kind {
            BucketKind::General if accelerate => format!("s3-accelerate{dual_stack}"),
            BucketKind::General => format!("s3{fips}{dual_stack}.{region}"),
            BucketKind::Directory { zone } => format!("s3express{fips}-{zone}{dual_stack}.{region}"),
            BucketKind::AccessPoint { .. } => format!("s3-accesspoint{fips}{dual_stack}.{region}"),
        };
        let tail = if region.starts_with("cn-") { ".cn" } else { "" };
        let host = format!("{service}.amazonaws.com{tail}");
        Ok(Self { scheme: Scheme::Https, host, port: 443, base_path: String::new() })
    }

    /// Whether the service is AWS itself, the one place where the bucket belongs in the host name by default.
    #[must_use]
    pub fn is_aws(&self) -> bool {
        self.host.ends_with(".amazonaws.com") || self.host.ends_with(".amazonaws.com.cn")
    }

    /// The host and the port as a URL or a `Host` header shows them.
    #[must_use]
    pub fn authority(&self) -> String {
        self.authority_of(&self.host)
    }

    /// The host as a URL or a `Host` header shows it, with the port unless the scheme implies it.
    fn authority_of(&self, host: &str) -> String {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if self.port == self.scheme.port_default() { bracketed } else { format!("{bracketed}:{}", self.port) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme.as_str(), self.authority_of(&self.host), self.base_path)
    }
}

/// Which of its own endpoints AWS is to be reached at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AwsVariant {
    /// One that has IPv6 as well.
    pub dual_stack: bool,
    /// One whose cryptography is validated for the US government.
    pub fips: bool,
    /// The nearest one, whatever the bucket's region.
    pub accelerate: bool,
}

/// Whether a text can be a region: what a service answers may become part of a host name and of a signature, so the
/// alphabet is strict.
pub(crate) fn is_region(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn split_port(authority: &str) -> Result<(String, Option<&str>), EndpointError> {
    let refused = || EndpointError::Host { host: authority.to_owned() };
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or_else(refused)?;
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| refused())?;
        return match after.strip_prefix(':') {
            Some(port) => Ok((address.to_string(), Some(port))),
            None if after.is_empty() => Ok((address.to_string(), None)),
            None => Err(refused()),
        };
    }
    let (host, port) = match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => return Err(refused()),
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    if host.is_empty() {
        return Err(EndpointError::NoHost);
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let labels = host.strip_suffix('.').unwrap_or(host);
    if host.len() > 253 || !labels.split('.').all(label) {
        return Err(refused());
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// Where the bucket's name stands in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Addressing {
    /// First segment of the path: works everywhere but in newer AWS features.
    Path,
    /// First label of the host: what AWS wants.
    Virtual,
}

/// Chooses the addressing that works without asking the user.
///
/// Only AWS gets the bucket in the host name. Every other endpoint is addressed by path, since most of them have
/// neither the DNS record nor the certificate for more, and those that have accept both; so `forced_path` matters for
/// AWS alone. Under AWS a bucket whose name is no single DNS label (a dot, an underscore, capitals) goes by path too:
/// its host name would not match the wildcard certificate. An access point has no place in a path anywhere, and the
/// endpoints for acceleration and of zones know none.
#[must_use]
pub fn choose_addressing(endpoint: &Endpoint, bucket: &Bucket, forced_path: bool) -> Addressing {
    match bucket.kind() {
        BucketKind::AccessPoint { .. } => Addressing::Virtual,
        BucketKind::Directory { .. } if endpoint.is_aws() => Addressing::Virtual,
        _ if endpoint.host.starts_with("s3-accelerate.") && endpoint.is_aws() => Addressing::Virtual,
        _ if !forced_path && endpoint.is_aws() && bucket.is_dns_label() => Addressing::Virtual,
        BucketKind::Directory { .. } | BucketKind::General => Addressing::Path,
    }
}

/// One bucket at one endpoint, with everything about it that requests repeat worked out once.
#[derive(Debug, Clone)]
pub struct Address {
    endpoint: Endpoint,
    bucket: Bucket,
    addressing: Addressing,
    /// The host to connect to and to name in TLS.
    host: String,
    host_header: String,
    /// What precedes a key, its slash at the end.
    root: String,
    requester_pays: bool,
}

impl Address {
    /// Joins the two. [`Addressing::Virtual`] is kept only for a bucket that is a DNS label and an endpoint that is a
    /// name; otherwise there is no such host and the path is used.
    #[must_use]
    pub fn new(endpoint: &Endpoint, bucket: &Bucket, addressing: Addressing) -> Self {
        let is_address = endpoint.host.parse::<std::net::IpAddr>().is_ok();
        let label = match bucket.kind() {
            BucketKind::AccessPoint { name, account, .. } => Some(format!("{name}-{account}")),
            BucketKind::General | BucketKind::Directory { .. } => {
                bucket.is_dns_label().then(|| bucket.as_str().to_owned())
            }
        };
        let label = label.filter(|_| addressing == Addressing::Virtual && !is_address);
        let addressing = if label.is_some() { Addressing::Virtual } else { Addressing::Path };
        let mut root = format!("{}/", endpoint.base_path);
        let host = match label {
            Some(label) => format!("{label}.{}", endpoint.host),
            None => {
                text::push_path(&mut root, bucket.as_str().as_bytes());
                root.push('/');
                endpoint.host.clone()
            }
        };
        // Hosts and DNS labels hold only letters, digits, dots, colons and hyphens.
        let host_header = endpoint.authority_of(&host);
        let (endpoint, bucket) = (endpoint.clone(), bucket.clone());
        Self { endpoint, bucket, addressing, host, host_header, root, requester_pays: false }
    }

    /// Says in every request that whoever makes it pays for it.
    #[must_use]
    pub fn with_requester_pays(self, requester_pays: bool) -> Self {
        Self { requester_pays, ..self }
    }

    /// Whether the requests say that whoever makes them pays.
    #[must_use]
    pub fn requester_pays(&self) -> bool {
        self.requester_pays
    }

    /// The endpoint given.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The bucket given.
    #[must_use]
    pub fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    /// The addressing in force.
    #[must_use]
    pub fn addressing(&self) -> Addressing {
        self.addressing
    }

    /// The host to resolve, connect to and verify in TLS; an IPv6 address has no brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port to connect to.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port
    }

    /// The value of `Host`, signed and sent.
    #[must_use]
    pub fn host_header(&self) -> &str {
        &self.host_header
    }

    /// The path of an object, percent-encoded as it is sent and signed. Dots and doubled slashes stay: they are part
    /// of the key.
    #[must_use]
    pub fn path_for(&self, key: &Key) -> String {
        let mut path = String::with_capacity(self.root.len() + key.as_bytes().len() + 64);
        self.push_path_for(&mut path, key);
        path
    }

    pub(crate) fn push_path_for(&self, path: &mut String, key: &Key) {
        path.push_str(&self.root);
        text::push_path(path, key.as_bytes());
    }

    /// The path of the bucket itself.
    #[must_use]
    pub fn bucket_path(&self) -> &str {
        match self.addressing {
            Addressing::Virtual => &self.root,
            Addressing::Path => &self.root[..self.root.len() - 1],
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(url: &str, bucket: &str) -> Address {
        let (endpoint, bucket) = (Endpoint::parse(url).unwrap(), Bucket::parse(bucket).unwrap());
        Address::new(&endpoint, &bucket, choose_addressing(&endpoint, &bucket, false))
    }

    #[test]
    fn good_urls_are_normalised() {
        for (url, shown, host, port) in [
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000", "127.0.0.1", 9000),
            ("HTTPS://S3.Example.com/", "https://s3.example.com", "s3.example.com", 443),
            ("https://h:443/base//", "https://h/base", "h", 443),
            ("http://[::1]:8080/a/b/", "http://[::1]:8080/a/b", "::1", 8080),
            ("http://minio_1.", "http://minio_1.", "minio_1.", 80),
        ] {
            let endpoint = Endpoint::parse(url).unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.host.as_str(), endpoint.port), (shown, host, port));
            assert_eq!(Endpoint::parse(shown).unwrap(), endpoint);
        }
    }

    #[test]
    fn bad_urls_are_named() {
        use EndpointError::{Host, NoHost, Path, Port, Query, Scheme, UserInfo};
        let port = |text: &str| Port { port: text.into() };
        for (url, error) in [
            ("s3.example.com", Scheme),
            ("ftp://h", Scheme),
            ("http://", NoHost),
            ("http://:80", NoHost),
            ("http://user:secret@h", UserInfo),
            ("http://h?x", Query),
            ("http://h/#f", Query),
            ("http://h:0", port("0")),
            ("http://h:65536", port("65536")),
            ("http://h:", port("")),
            ("http://h:+80", port("+80")),
            ("http://h/a b", Path { character: ' ' }),
            ("http://::1/", Host { host: "::1".into() }),
            ("http://fe80::1", Host { host: "fe80::1".into() }),
            ("http://[::1", Host { host: "[::1".into() }),
            ("http://a..b", Host { host: "a..b".into() }),
            ("http://a b", Host { host: "a b".into() }),
        ] {
            assert_eq!(Endpoint::parse(url), Err(error), "{url}");
        }
    }

    #[test]
    fn aws_has_endpoints_for_each_kind_of_bucket_and_each_wish() {
        let variant = |letters: &str| AwsVariant {
            dual_stack: letters.contains('d'),
            fips: letters.contains('f'),
            accelerate: letters.contains('a'),
        };
        let (plain, directory) = ("plain", "base--usw2-az1--x-s3");
        let point = "arn:aws:s3:us-west-2:123456789012:accesspoint:mine";
        for (region, bucket, wish, host) in [
            ("eu-west-1", plain, "", "plain.s3.eu-west-1.amazonaws.com"),
            ("cn-north-1", plain, "", "plain.s3.cn-north-1.amazonaws.com.cn"),
            ("eu-west-1", plain, "d", "plain.s3.dualstack.eu-west-1.amazonaws.com"),
            ("us-gov-west-1", plain, "f", "plain.s3-fips.us-gov-west-1.amazonaws.com"),
            ("us-east-1", plain, "df", "plain.s3-fips.dualstack.us-east-1.amazonaws.com"),
            ("eu-west-1", plain, "a", "plain.s3-accelerate.amazonaws.com"),
            ("eu-west-1", plain, "ad", "plain.s3-accelerate.dualstack.amazonaws.com"),
            ("eu-west-1", "dotted.name", "d", "s3.dualstack.eu-west-1.amazonaws.com"),
            ("us-west-2", directory, "", "base--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com"),
            ("us-west-2", directory, "f", "base--usw2-az1--x-s3.s3express-fips-usw2-az1.us-west-2.amazonaws.com"),
            ("us-west-2", directory, "d", "base--usw2-az1--x-s3.s3express-usw2-az1.dualstack.us-west-2.amazonaws.com"),
            ("us-west-2", point, "", "mine-123456789012.s3-accesspoint.us-west-2.amazonaws.com"),
            ("us-west-2", point, "df", "mine-123456789012.s3-accesspoint-fips.dualstack.us-west-2.amazonaws.com"),
        ] {
            let bucket = Bucket::parse(bucket).unwrap();
            let endpoint = Endpoint::aws(region, &bucket, variant(wish)).unwrap();
            let address = Address::new(&endpoint, &bucket, choose_addressing(&endpoint, &bucket, false));
            assert_eq!((address.host(), endpoint.scheme, endpoint.port), (host, Scheme::Https, 443), "{bucket} {wish}");
        }
        for (region, bucket, wish) in [
            ("eu-west-1", plain, "af"),
            ("eu-west-1", directory, "a"),
            ("eu-west-1", point, "a"),
            ("eu-west-1", "dotted.name", "a"),
            ("cn-north-1", plain, "f"),
        ] {
            let refused = Endpoint::aws(region, &Bucket::parse(bucket).unwrap(), variant(wish));
            assert!(matches!(refused, Err(EndpointError::NoSuchVariant { .. })), "{bucket} {wish}");
        }
        for bad in ["", "evil.com/#", "US", "a_b", "-x", "x-"] {
            assert!(Endpoint::aws(bad, &Bucket::parse(plain).unwrap(), AwsVariant::default()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_access_point_is_a_label_before_any_endpoint_that_has_a_name() {
        let point = "arn:aws:s3:us-west-2:123456789012:accesspoint:mine";
        let address = address("http://s3.local:9000", point);
        assert_eq!((address.host_header(), address.bucket_path()), ("mine-123456789012.s3.local:9000", "/"));
    }

    #[test]
    fn addressing_chooses_itself() {
        let aws = "https://s3.us-east-1.amazonaws.com";
        for (url, bucket, expected) in [
            (aws, "plain-bucket", Addressing::Virtual),
            (aws, "dotted.bucket", Addressing::Path),
            (aws, "Under_Score", Addressing::Path),
            ("http://127.0.0.1:9000", "plain-bucket", Addressing::Path),
            ("http://localhost", "plain-bucket", Addressing::Path),
            ("https://minio.example.com", "plain-bucket", Addressing::Path),
            ("https://evilamazonaws.com", "plain-bucket", Addressing::Path),
        ] {
            assert_eq!(address(url, bucket).addressing(), expected, "{url} {bucket}");
        }
        let (endpoint, bucket) = (Endpoint::parse(aws).unwrap(), Bucket::parse("plain-bucket").unwrap());
        assert_eq!(choose_addressing(&endpoint, &bucket, true), Addressing::Path);
        let numeric = Endpoint::parse("http://127.0.0.1").unwrap();
        assert_eq!(Address::new(&numeric, &bucket, Addressing::Virtual).addressing(), Addressing::Path);
    }

    #[test]
    fn paths_are_encoded_once_and_never_normalised() {
        let virtual_style = address("https://s3.us-east-1.amazonaws.com", "bucket");
        assert_eq!(virtual_style.host_header(), "bucket.s3.us-east-1.amazonaws.com");
        assert_eq!((virtual_style.bucket_path(), virtual_style.port()), ("/", 443));
        let path_style = address("http://[::1]:9000/base", "b c");
        assert_eq!((path_style.host_header(), path_style.host()), ("[::1]:9000", "::1"));
        assert_eq!(path_style.bucket_path(), "/base/b%20c");
        for (key, path) in [
            ("a/../b//c/./", "/a/../b//c/./"),
            ("/lead", "//lead"),
            ("sp ace+%&?#~", "/sp%20ace%2B%25%26%3F%23~"),
            ("\u{e9}\u{1}", "/%C3%A9%01"),
        ] {
            assert_eq!(virtual_style.path_for(&Key::parse(key.as_bytes()).unwrap()), path);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(text in any::<String>(), url in "https?://\\PC{0,20}") {
            let _ = Endpoint::parse(&text);
            if let Ok(endpoint) = Endpoint::parse(&url) {
                prop_assert_eq!(Endpoint::parse(&endpoint.to_string()), Ok(endpoint.clone()));
                let _ = Address::new(&endpoint, &Bucket::parse("bucket").unwrap(), Addressing::Virtual);
            }
        }

        #[test]
        fn every_path_is_a_request_target(key in "\\PC{1,40}") {
            let path = address("http://h", "b").path_for(&Key::parse(key.as_bytes()).unwrap());
            let target = http::uri::PathAndQuery::try_from(path.as_str()).unwrap();
            prop_assert_eq!(target.path(), path.as_str());
        }
    }
}
