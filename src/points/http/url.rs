//! The URL of a server that takes line protocol, and what of it may be shown.
//!
//! The URL is taken as it is given, but for two things: without a path it is `/write`, as InfluxDB 1.x, VictoriaMetrics and QuestDB have
//! it, and `precision=ns` is added where no precision is said (`nanosecond` for `/api/v3/write_lp`). A user and a password before the host
//! are sent as basic authorization. They and the query, where servers take passwords, too, are never shown.

use reqwest::Url;
use std::fmt;
use ureq::http::Uri;

/// Parameters that hold no secrets.
const PLAIN: [&str; 7] = ["bucket", "consistency", "db", "org", "orgID", "precision", "rp"];

/// Where points are sent.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    uri: Uri,
}

impl Target {
    /// Reads a URL. The error reports what is wrong with it, and nothing of what is in it.
    pub fn parse(text: &str) -> Result<Target, &'static str> {
        let uri: Uri = text.parse().map_err(|_| "it is no URL")?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or("it names no host")?;
        if uri.scheme_str().is_none_or(|scheme| scheme != "http" && scheme != "https") || host.contains(char::is_whitespace) {
            return Err("it is not http:// or https://");
        }
        let path = if matches!(uri.path(), "" | "/") { "/write" } else { uri.path() };
        let nanoseconds = if path.ends_with("/write_lp") { "nanosecond" } else { "ns" };
        let query = uri.query().unwrap_or_default();
        let given = query.split('&').find_map(|pair| pair.strip_prefix("precision="));
        let query = match given {
            Some("ns" | "n" | "nanosecond") => query.to_string(),
            Some(_) => return Err("points have nanoseconds: precision=ns"),
            None if query.is_empty() => format!("precision={nanoseconds}"),
            None => format!("{query}&precision={nanoseconds}"),
        };
        let path_and_query = format!("{path}?{query}").parse().map_err(|_| "it is no URL")?;
        let mut parts = uri.into_parts();
        parts.path_and_query = Some(path_and_query);
        Ok(Target { uri: Uri::from_parts(parts).map_err(|_| "it is no URL")? })
    }

    /// All of it: not to be shown.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// What processes must agree on, without its secrets.
    pub fn agreement(&self) -> String {
        let pairs = self.uri.query().unwrap_or_default().split('&');
        let plain = pairs.filter(|pair| pair.split_once('=').is_some_and(|(name, _)| PLAIN.contains(&name)));
        format!("{self}?{}", plain.collect::<Vec<_>>().join("&"))
    }

    /// What may be secret in it, as it stands there and decoded: the password, and the values of its query but those that servers are known
    /// to ask for.
    pub fn secrets(&self) -> Vec<String> {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let (user, _) = authority.rsplit_once('@').unwrap_or_default();
        let password = user.split_once(':').map_or(user, |(_, password)| password);
        let pairs = self.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
        let values = pairs.filter(|(name, _)| !PLAIN.contains(name)).map(|(_, value)| value);
        values.chain([password]).flat_map(|secret| [secret.to_string(), decoded(secret)]).collect()
    }

    /// Whether it is `https://`.
    pub fn is_secure(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// Whether the server is on this host.
    pub fn is_local(&self) -> bool {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// A part of a URL as it was before it was encoded.
fn decoded(part: &str) -> String {
    let pair = Url::parse(&format!("x:?{}", part.replace('+', "%2B")));
    pair.ok().and_then(|url| url.query_pairs().next().map(|(value, _)| value.into_owned())).unwrap_or_default()
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        write!(f, "{}://{host}{}", self.uri.scheme_str().unwrap_or("http"), self.uri.path())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_precision_are_added_where_they_are_not_given() {
        for (given, sent) in [
            ("http://localhost:8428", "http://localhost:8428/write?precision=ns"),
            ("http://localhost:8428/", "http://localhost:8428/write?precision=ns"),
            ("http://localhost:8086?db=fleet", "http://localhost:8086/write?db=fleet&precision=ns"),
            ("http://h/write?db=fleet&precision=n", "http://h/write?db=fleet&precision=n"),
            ("https://h/api/v2/write?org=o&bucket=b", "https://h/api/v2/write?org=o&bucket=b&precision=ns"),
            ("http://h:8181/api/v3/write_lp?db=b", "http://h:8181/api/v3/write_lp?db=b&precision=nanosecond"),
            ("http://[::1]:4000/v1/influxdb/write?db=public", "http://[::1]:4000/v1/influxdb/write?db=public&precision=ns"),
        ] {
            assert_eq!(Target::parse(given).unwrap().uri().to_string(), sent);
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_telling_what_is_in_it() {
        for text in ["http://", "http:///write", "http://a b", "http:x", "ftp://secret@h", "http://u:secret@h/write?precision=s"] {
            let error = Target::parse(text).unwrap_err();
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let target = Target::parse("http://user:secret@h:8086/write?db=d&u=user&p=secret").unwrap();
        assert_eq!((target.to_string(), format!("{target:?}")), ("http://h:8086/write".into(), "http://h:8086/write".into()));
    }

    #[test]
    fn secrets_are_known_as_they_stand_and_as_they_are() {
        let secrets = Target::parse("http://user:a%40+b@h/write?db=d&u=me&p=x%20y").unwrap().secrets();
        assert_eq!(secrets, ["me", "me", "x%20y", "x y", "a%40+b", "a@+b"]);
    }

    #[test]
    fn the_own_host_is_known_by_name_and_address() {
        let local = |text| Target::parse(text).unwrap().is_local();
        assert!(local("http://localhost:1") && local("http://127.0.0.2") && local("http://[::1]:1"));
        assert!(!local("http://db.local") && !local("http://10.0.0.1"));
    }
}
