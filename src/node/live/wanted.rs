//! What the address of a stream says: `?type=orders.*&type=users.*&after=100&slow=conflate`.

use percent_encoding::percent_decode_str;

use super::options::Slow;

/// What a client wants from the beginning.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Wanted {
    pub(super) patterns: Vec<String>,
    pub(super) after: Option<u64>,
    pub(super) slow: Option<Slow>,
}

impl Wanted {
    /// Reads the query of an address.
    pub(super) fn read(query: &str) -> Result<Self, String> {
        let mut wanted = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8().map_err(|_| format!("{value:?} is not UTF-8"))?;
            match name {
                "type" => wanted.patterns.push(value.into_owned()),
                "after" => wanted.after = Some(position(&value)?),
                "slow" => wanted.slow = Some(value.parse().map_err(|said| format!("slow={value} is wrong: {said}"))?),
                name => return Err(format!("the parameter {name:?} is unknown; there are type, after and slow")),
            }
        }
        Ok(wanted)
    }
}

/// Reads a position; 0 is before the first.
pub(super) fn position(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no position: it is the whole number that the last event came with"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read() {
        let wanted = Wanted::read("type=orders.%2A&type=users.*&after=18446744073709551615&slow=close");
        let patterns = vec!["orders.*".to_owned(), "users.*".to_owned()];
        assert_eq!(wanted, Ok(Wanted { patterns, after: Some(u64::MAX), slow: Some(Slow::Close) }));
        assert_eq!(Wanted::read(""), Ok(Wanted::default()));
        for (query, part) in [
            ("after=-1", "\"-1\" is no position"),
            ("after=", "\"\" is no position"),
            ("slow=x", "spill"),
            ("b=", "\"b\""),
        ] {
            let error = Wanted::read(query).expect_err(query);
            assert!(error.contains(part), "{error}");
        }
    }
}
