//! Which hosts are reached through which proxy, as the usual variables say: `HTTPS_PROXY` and `HTTP_PROXY` by the scheme of
//! what is to be reached, `ALL_PROXY` for both, `NO_PROXY` for hosts that are reached without; lower case counts first.
//!
//! This machine itself and link-local addresses, where instances and containers find their keys, are never reached through a
//! proxy: it could not reach them, or would reach its own.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ropeway_s3proto::endpoint::{Endpoint, Scheme};
use ropeway_s3proto::sign::Secret;

/// What the variables say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    http: Option<Arc<Proxy>>,
    https: Option<Arc<Proxy>>,
    without: Arc<[Without]>,
}

/// One proxy.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    pub(super) host: String,
    pub(super) port: u16,
    /// The value of `Proxy-Authorization`.
    pub(super) authorization: Option<Secret>,
}

/// Hosts that are reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Without {
    Everything,
    /// The domain and what is below it.
    Domain(String, Option<u16>),
    Address(IpAddr, Option<u16>),
    /// The addresses that begin with so many bits of this one.
    Network(IpAddr, u8),
}

/// Why a variable is of no use. Its value is not repeated: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} names no proxy that Ropeway can use: {reason}; it has to be http://[user:password@]host:port")]
pub struct ProxyError {
    variable: &'static str,
    reason: String,
}

/// Proxies listen here, unless they say otherwise.
const PORT_DEFAULT: u16 = 1080;

impl Proxies {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ProxyError`] names the variable that cannot be understood: a proxy that is meant and not used would be a surprise.
    pub fn read(variable: &dyn Fn(&str) -> Option<String>) -> Result<Proxies, ProxyError> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| Some((*name, variable(name).filter(|value| !value.is_empty())?)))
        };
        // A web server hands the header `Proxy` of a request to its programs as HTTP_PROXY.
        let http: &[_] = match variable("REQUEST_METHOD") {
            Some(_) => &["http_proxy", "all_proxy", "ALL_PROXY"],
            None => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
        };
        let https = &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
        let proxy = |names| first(names).map(|(name, url)| Proxy::parse(name, &url).map(Arc::new)).transpose();
        let without = first(&["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        let without = without.split([',', ' ']).filter_map(Without::parse).collect();
        Ok(Proxies { http: proxy(http)?, https: proxy(https)?, without })
    }

    /// The proxy through which a host is reached, if any.
    pub(super) fn to(&self, scheme: Scheme, host: &str, port: u16) -> Option<Arc<Proxy>> {
        let proxy = match scheme {
            Scheme::Http => self.http.as_ref(),
            Scheme::Https => self.https.as_ref(),
        }?;
        let without = is_near(host) || self.without.iter().any(|without| without.takes_in(host, port));
        (!without).then(|| proxy.clone())
    }
}

impl Proxy {
    fn parse(variable: &'static str, url: &str) -> Result<Proxy, ProxyError> {
        let refuse = |reason: &str| Err(ProxyError { variable, reason: reason.to_owned() });
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return refuse("the connection to a proxy cannot be TLS itself; what goes through it still is");
            }
            Some((scheme, _)) if scheme.to_ascii_lowercase().starts_with("socks") => {
                return refuse("SOCKS is not spoken");
            }
            Some(_) => return refuse("its scheme is unknown"),
            None => url,
        };
        let rest = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let (login, authority) = match rest.rsplit_once('@') {
            Some((login, authority)) => (Some(login), authority),
            None => (None, rest),
        };
        let named_port = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let endpoint = match Endpoint::parse(&format!("http://{authority}")) {
            Ok(endpoint) => endpoint,
            Err(_) => return refuse("its host or its port is none"),
        };
        let port = if named_port { endpoint.port } else { PORT_DEFAULT };
        let authorization = match login.map(decoded) {
            None => None,
            Some(None) => return refuse("its login is not percent-encoded as it should be"),
            Some(Some(login)) => {
                let login = if login.contains(&b':') { login } else { [login.as_slice(), b":"].concat() };
                Some(Secret::new(format!("Basic {}", base64_simd::STANDARD.encode_to_string(login))))
            }
        };
        Ok(Proxy { host: endpoint.host, port, authorization })
    }

    /// What is said to it so that it opens a way to `authority`.
    pub(super) fn connect_head(&self, authority: &str) -> String {
        let mut head = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        self.push_authorization(&mut head);
        head + "\r\n"
    }

    /// A request's head as a proxy wants it that carries plain HTTP: with the whole URL in its first line.
    pub(super) fn forwarded(&self, head: &[u8], authority: &str) -> Vec<u8> {
        let space = head.iter().position(|byte| *byte == b' ').expect("a request line has a method");
        let line = head.windows(2).position(|pair| pair == b"\r\n").expect("a request line ends") + 2;
        let mut authorization = String::new();
        self.push_authorization(&mut authorization);
        let (method, rest) = head.split_at(space + 1);
        let (target, headers) = rest.split_at(line - method.len());
        [method, b"http://", authority.as_bytes(), target, authorization.as_bytes(), headers].concat()
    }

    fn push_authorization(&self, head: &mut String) {
        if let Some(authorization) = &self.authorization {
            head.push_str("Proxy-Authorization: ");
            head.push_str(authorization.expose());
            head.push_str("\r\n");
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({}:{})", self.host, self.port)
    }
}

impl Without {
    fn parse(text: &str) -> Option<Without> {
        let text = text.trim().to_ascii_lowercase();
        if text.is_empty() {
            return None;
        }
        if text == "*" {
            return Some(Without::Everything);
        }
        if let Some((address, bits)) = text.split_once('/') {
            return Some(Without::Network(address.parse().ok()?, bits.parse().ok()?));
        }
        let bare = text.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse() {
            return Some(Without::Address(address, None));
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().ok()?)),
            None => (text.as_str(), None),
        };
        match host.trim_start_matches('[').trim_end_matches(']').parse() {
            Ok(address) => Some(Without::Address(address, port)),
            Err(_) => Some(Without::Domain(host.trim_start_matches("*.").trim_matches('.').to_owned(), port)),
        }
    }

    fn takes_in(&self, host: &str, port: u16) -> bool {
        let is_port = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Without::Everything => true,
            Without::Domain(domain, wanted) => {
                let below = host.strip_suffix(domain.as_str());
                is_port(wanted) && below.is_some_and(|below| below.is_empty() || below.ends_with('.'))
            }
            Without::Address(address, wanted) => is_port(wanted) && host.parse() == Ok(*address),
            Without::Network(network, bits) => match (network, host.parse()) {
                (IpAddr::V4(network), Ok(IpAddr::V4(address))) => {
                    let shift = 32 - u32::from((*bits).min(32));
                    u64::from(network.to_bits()) >> shift == u64::from(address.to_bits()) >> shift
                }
                (IpAddr::V6(network), Ok(IpAddr::V6(address))) => {
                    let shift = 128 - u32::from((*bits).min(128));
                    let head = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
                    head(network.to_bits()) == head(address.to_bits())
                }
                _ => false,
            },
        }
    }
}

/// Whether a host is this machine, or its link's.
fn is_near(host: &str) -> bool {
    if host == "localhost" || host.ends_with(".localhost") {
        return true;
    }
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        // The IPv6 address of the instance's metadata service is a private one.
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0xec2]
        }
        Err(_) => false,
    }
}

/// The bytes of a percent-encoded text.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            plain => plain,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Result<Proxies, ProxyError> {
        let variable =
            |name: &str| variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
        Proxies::read(&variable)
    }

    fn to(variables: &[(&str, &str)], url: &str) -> Option<String> {
        let endpoint = Endpoint::parse(url).unwrap();
        let proxy = proxies(variables).unwrap().to(endpoint.scheme, &endpoint.host, endpoint.port)?;
        Some(format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn the_scheme_of_what_is_reached_chooses_the_proxy() {
        let both = [("HTTP_PROXY", "http://plain:1"), ("HTTPS_PROXY", "tls:2")];
        assert_eq!(to(&both, "http://h").as_deref(), Some("plain:1"));
        assert_eq!(to(&both, "https://h").as_deref(), Some("tls:2"));
        let all = [("ALL_PROXY", "http://all/"), ("https_proxy", "http://[::1]:3/x")];
        assert_eq!(to(&all, "http://h").as_deref(), Some("all:1080"));
        assert_eq!(to(&all, "https://h").as_deref(), Some("::1:3"));
        assert_eq!(
            to(&[("HTTPS_PROXY", "big:1"), ("https_proxy", "small:1")], "https://h").as_deref(),
            Some("small:1")
        );
        assert_eq!(to(&[("HTTPS_PROXY", "")], "https://h"), None);
        assert_eq!(to(&[("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")], "http://h"), None);
    }

    #[test]
    fn some_hosts_are_reached_without() {
        for (without, url, by_proxy) in [
            ("", "https://h.example", true),
            ("*", "https://h.example", false),
            ("example", "https://h.example", false),
            (".example", "https://h.example", false),
            ("*.example", "https://h.example", false),
            ("a, h.example", "https://h.example", false),
            ("ample", "https://h.example", true),
            ("h.example:8443", "https://h.example", true),
            ("h.example:443", "https://h.example", false),
            ("10.0.0.0/8", "https://10.1.2.3", false),
            ("10.0.0.0/8", "https://11.1.2.3", true),
            ("0.0.0.0/0", "https://11.1.2.3", false),
            ("10.1.2.3", "https://10.1.2.3", false),
            ("fd01::/16", "https://[fd01::7]", false),
            ("::/0", "https://[fd01::7]", false),
            ("fd01::7", "https://[fd01::8]", true),
            ("", "https://127.0.0.1", false),
            ("", "http://169.254.169.254", false),
            ("", "http://[fd00:ec2::254]", false),
            ("", "http://localhost:9000", false),
        ] {
            let variables = [("ALL_PROXY", "p:1"), ("NO_PROXY", without)];
            assert_eq!(to(&variables, url).is_some(), by_proxy, "{without} {url}");
        }
    }

    #[test]
    fn a_login_is_sent_and_never_said() {
        let found = proxies(&[("https_proxy", "http://user%40x:p%3Ass@h:1")]).unwrap();
        let proxy = found.to(Scheme::Https, "h.example", 443).unwrap();
        assert!(proxy.connect_head("h.example:443").contains("Proxy-Authorization: Basic dXNlckB4OnA6c3M=\r\n"));
        assert_eq!(
            proxy.forwarded(b"GET /a?b HTTP/1.1\r\nhost: h\r\n\r\n", "h:80"),
            b"GET http://h:80/a?b HTTP/1.1\r\nProxy-Authorization: Basic dXNlckB4OnA6c3M=\r\nhost: h\r\n\r\n"
        );
        assert!(!format!("{found:?}").contains("dXNl"), "{found:?}");
        for url in [
            "https://user:SECRET@h:1",
            "socks5://user:SECRET@h",
            "ftp://SECRET@h",
            "http://SECRET@:1",
            "http://%zz:SECRET@h",
        ] {
            let refused = proxies(&[("ALL_PROXY", url)]).unwrap_err().to_string();
            assert!(refused.contains("ALL_PROXY") && !refused.contains("SECRET"), "{refused}");
        }
    }
}
