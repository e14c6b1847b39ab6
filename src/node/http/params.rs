//! What stands behind the question mark of an address, and in its path.

use std::fmt::Display;
use std::str::FromStr;

use axum::body::Body;
use axum::http::{HeaderValue, Response, Uri, header};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

use super::problem::Problem;
use crate::node::config::{Config, settings::HTTP_PAGE_MAX};
use crate::store::{Order, Query};

/// What a page has at most, unless it is asked for another number.
const LIMIT: u64 = 100;

/// All that does not stand for itself in a value of a query.
const IN_QUERY: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'=').add(b'>').add(b'`');

/// The parameters of a request: each once, all of them known.
#[derive(Debug)]
pub(super) struct Params(Vec<(&'static str, String)>);

impl Params {
    /// Reads those that may be there.
    ///
    /// # Errors
    /// Another parameter, one that is there twice, and what is not UTF-8.
    pub(super) fn read(uri: &Uri, known: &[&'static str]) -> Result<Self, Problem> {
        let mut params = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decoded(name)?, decoded(value)?);
            let Some(name) = known.iter().find(|known| **known == name) else {
                let they_are = if known.is_empty() { "there are none here".to_owned() } else { known.join(", ") };
                return Err(Problem::malformed(format!("there is no parameter {name:?}; they are: {they_are}")));
            };
            if params.iter().any(|(other, _)| other == name) {
                return Err(Problem::malformed(format!("the parameter {name} is there twice; give it once")));
            }
            params.push((*name, value));
        }
        Ok(Self(params))
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value)
    }

    /// A parameter as something else than text.
    ///
    /// # Errors
    /// That it is none, and why.
    pub(super) fn parse<T: FromStr<Err: Display>>(&self, name: &str) -> Result<Option<T>, Problem> {
        self.parse_by(name, str::parse)
    }

    /// As [`parse`](Self::parse), by a function.
    ///
    /// # Errors
    /// What the function says.
    pub(super) fn parse_by<T, E: Display>(
        &self,
        name: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<Option<T>, Problem> {
        let wrong = |text: &str, error: E| Problem::malformed(format!("the parameter {name} is {text:?}: {error}"));
        self.get(name).map(|text| read(text).map_err(|error| wrong(text, error))).transpose()
    }

    /// `limit`: how much a page has at most, as far as `http.page_max` lets it.
    ///
    /// # Errors
    /// Another number than may be.
    pub(super) fn limit(&self, config: &Config) -> Result<usize, Problem> {
        let max = config.number(&HTTP_PAGE_MAX).expect("it has a default");
        let limit = self.parse_by("limit", |text| whole(text, 1, max))?.unwrap_or(LIMIT.min(max));
        Ok(usize::try_from(limit).unwrap_or(usize::MAX).min(Query::EVENTS_MAX))
    }

    /// `after`: where the page before ended; 0 is before the first.
    ///
    /// # Errors
    /// No whole number.
    pub(super) fn after(&self) -> Result<Option<u64>, Problem> {
        self.parse_by("after", |text| whole(text, 0, u64::MAX))
    }

    /// `order`: the oldest first, unless it says otherwise.
    ///
    /// # Errors
    /// Another word.
    pub(super) fn order(&self) -> Result<Order, Problem> {
        let order = self.parse_by("order", |text| match text {
            "oldest" => Ok(Order::OldestFirst),
            "newest" => Ok(Order::NewestFirst),
            _ => Err("it is oldest or newest"),
        })?;
        Ok(order.unwrap_or(Order::OldestFirst))
    }

    /// A page that says where the next one is, if there is one.
    pub(super) fn linked(&self, mut page: Response<Body>, uri: &Uri, next: Option<impl Display>) -> Response<Body> {
        if let Some(next) = next {
            let link = format!("<{}?{}>; rel=\"next\"", uri.path(), self.with("after", next));
            page.headers_mut().insert(header::LINK, HeaderValue::try_from(link).expect("all of it is encoded"));
        }
        page
    }

    /// The same parameters with one of them at another value, as a query.
    fn with(&self, name: &str, value: impl Display) -> String {
        let others = self.0.iter().filter(|(other, _)| *other != name);
        let others = others.map(|(name, value)| (*name, value.clone()));
        let pairs = others.chain([(name, value.to_string())]);
        let pairs = pairs.map(|(name, value)| format!("{name}={}", utf8_percent_encode(&value, IN_QUERY)));
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// A number from `min` to `max`.
pub(super) fn whole(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| format!("it is a whole number from {min} to {max}"))
}

fn decoded(text: &str) -> Result<String, Problem> {
    let text = text.replace('+', " ");
    let decoded = percent_decode_str(&text).decode_utf8();
    decoded.map(String::from).map_err(|_| Problem::malformed("the address is not UTF-8 where it is percent-encoded"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str) -> Result<Params, Problem> {
        Params::read(&format!("/x?{query}").parse().expect("an address"), &["type", "after", "limit"])
    }

    #[test]
    fn parameters_are_decoded_and_written_back() {
        let params = read("type=orders.%2A%2A&after=5&&limit=").expect("all are known");
        assert_eq!(
            (params.get("type"), params.get("after"), params.get("limit")),
            (Some("orders.**"), Some("5"), Some(""))
        );
        let again = params.with("after", 9);
        let again = read(&again).expect("it was written here");
        assert_eq!(
            (again.get("type"), again.get("after"), again.get("limit")),
            (Some("orders.**"), Some("9"), Some(""))
        );
        let odd = read("type=a%26b%3Dc+d").expect("it is text");
        assert_eq!(odd.get("type"), Some("a&b=c d"));
        assert_eq!(read(&odd.with("limit", 1)).expect("it was written here").get("type"), Some("a&b=c d"));
    }

    #[test]
    fn what_is_unknown_twice_or_no_text_is_refused() {
        for query in ["typ=a", "type=a&type=b", "type=%ff"] {
            assert!(read(query).is_err(), "{query}");
        }
    }
}
