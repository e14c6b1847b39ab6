//! The members of a line, sorted into those that CloudEvents and ringmain know and all others.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::ingress_error::IngressError;
use super::json;
use crate::sync::mutant::mutant;

/// A line has at most this many members.
pub const MEMBERS_MAX: usize = 1_024;

/// A member that is no further extension attribute: it has a field of its own in
/// [`Ingress`](super::ingress::Ingress) and [`Egress`](super::egress::Egress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    SpecVersion,
    Id,
    Source,
    Type,
    Time,
    Subject,
    DataSchema,
    DataContentType,
    Data,
    DataBase64,
    Priority,
    /// Whom the last hop delivered to. It ends here; the next delivery says its own.
    Subscription,
    /// Where it is in the store that it comes from. Another store gives its own.
    Position,
    CorrelationId,
    CausationId,
    TraceParent,
}

impl Known {
    const COUNT: usize = Self::TraceParent as usize + 1;

    pub(super) fn of(name: &str) -> Option<Self> {
        Some(match name {
            "specversion" => Self::SpecVersion,
            "id" => Self::Id,
            "source" => Self::Source,
            "type" => Self::Type,
            "time" => Self::Time,
            "subject" => Self::Subject,
            "dataschema" => Self::DataSchema,
            "datacontenttype" => Self::DataContentType,
            "data" => Self::Data,
            "data_base64" => Self::DataBase64,
            "priority" => Self::Priority,
            "subscription" => Self::Subscription,
            "position" => Self::Position,
            "correlationid" => Self::CorrelationId,
            "causationid" => Self::CausationId,
            "traceparent" => Self::TraceParent,
            _ => return None,
        })
    }
}

/// Names and the JSON text of values. No name stands here twice.
#[derive(Debug)]
pub(super) struct Members<'a> {
    known: [Option<&'a str>; Known::COUNT],
    others: SmallVec<[(Cow<'a, str>, &'a str); 8]>,
}

impl<'a> Members<'a> {
    pub(super) fn none() -> Self {
        Self { known: [None; Known::COUNT], others: SmallVec::new() }
    }

    /// Reads the members of `text`, which must be one JSON object and nothing behind it, into an empty
    /// `self`: half a kilobyte that is filled where it lies.
    pub(super) fn read(&mut self, text: &'a str) -> Result<(), IngressError> {
        let mut count = 0;
        json::object(text, |name, value| {
            count += 1;
            if count > MEMBERS_MAX {
                return Err(IngressError::TooManyMembers { members_max: MEMBERS_MAX });
            }
            self.put(json::string(name).unwrap_or_default(), value)
        })?;
        self.refuse_duplicates_among_others()
    }

    /// The JSON text of a known member.
    pub(super) const fn known(&self, member: Known) -> Option<&'a str> {
        self.known[member as usize]
    }

    /// The JSON text of the member `name`, known or not.
    pub(super) fn get(&self, name: &str) -> Option<&'a str> {
        match Known::of(name) {
            Some(member) => self.known(member),
            None => self.others.iter().find(|(other, _)| other == name).map(|&(_, value)| value),
        }
    }

    /// Takes out the members that are not known, in their order.
    pub(super) fn take_others(&mut self) -> impl Iterator<Item = (Cow<'a, str>, &'a str)> {
        self.others.drain(..)
    }

    fn put(&mut self, name: Cow<'a, str>, value: &'a str) -> Result<(), IngressError> {
        match Known::of(&name) {
            None => self.others.push((name, value)),
            Some(member) => {
                let earlier = self.known[member as usize].replace(value);
                if mutant!("ingress.twice", earlier.is_some() => false) {
                    return Err(IngressError::Duplicate { member: name.into_owned() });
                }
            }
        }
        Ok(())
    }

    fn refuse_duplicates_among_others(&self) -> Result<(), IngressError> {
        let duplicate = |name: &str| Err(IngressError::Duplicate { member: name.to_owned() });
        if self.others.spilled() {
            let mut names: Vec<&str> = self.others.iter().map(|(name, _)| name.as_ref()).collect();
            names.sort_unstable();
            return names.windows(2).find(|pair| pair[0] == pair[1]).map_or(Ok(()), |pair| duplicate(pair[0]));
        }
        for (at, (name, _)) in self.others.iter().enumerate() {
            if self.others[..at].iter().any(|(earlier, _)| earlier == name) {
                return duplicate(name);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Members<'_>, IngressError> {
        let mut members = Members::none();
        members.read(line).map(|()| members)
    }

    fn line(names: impl IntoIterator<Item = String>) -> String {
        let members: Vec<String> = names.into_iter().map(|name| format!("\"{name}\":0")).collect();
        format!("{{{}}}", members.join(","))
    }

    fn numbered(count: usize) -> impl Iterator<Item = String> {
        (0..count).map(|n| format!("m{n}"))
    }

    #[test]
    fn every_name_is_found_again() {
        let line = r#"{"id":1,"other":2,"\u0074ype":3,"\u00e9":4}"#;
        let mut members = read(line).expect("an object");
        assert_eq!(members.known(Known::Type), Some("3"));
        assert_eq!(members.known(Known::Source), None);
        let found = ["id", "other", "type", "é", "source", "none"].map(|name| members.get(name));
        assert_eq!(found, [Some("1"), Some("2"), Some("3"), Some("4"), None, None]);
        let others: Vec<_> = members.take_others().collect();
        assert_eq!(others, [("other".into(), "2"), ("é".into(), "4")]);
    }

    #[test]
    fn duplicates_are_found_among_few_and_many_escaped_or_not() {
        for count in [1, 7, 8, 9, 500] {
            assert!(read(&line(numbered(count))).is_ok(), "{count}");
            for (twice, member) in [("m0", "m0"), ("\\u006d0", "m0")] {
                let line = line(numbered(count).chain([twice.to_owned()]));
                let error = read(&line).expect_err("one stands there twice");
                assert_eq!(error, IngressError::Duplicate { member: member.to_owned() });
            }
        }
        let error = read(r#"{"type":1,"typ\u0065":1}"#).expect_err("type twice");
        assert_eq!(error, IngressError::Duplicate { member: "type".to_owned() });
    }

    #[test]
    fn the_number_of_members_is_bounded() {
        assert!(read(&line(numbered(MEMBERS_MAX))).is_ok());
        let line = line(numbered(MEMBERS_MAX + 1));
        let error = read(&line).expect_err("one too many");
        assert_eq!(error, IngressError::TooManyMembers { members_max: MEMBERS_MAX });
    }
}
