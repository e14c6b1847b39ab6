//! How a foreign name becomes the name of a topic.

use std::borrow::Cow;

use crate::{Topic, TopicError};

/// Makes a type name of any text: every character that a name may not have becomes `-`, and so does
/// an empty segment. A name stays as it is, without a copy.
///
/// # Errors
/// Only the limits on length and segments; the text is not cut to fit.
pub fn sanitise(text: &str) -> Result<Cow<'_, str>, TopicError> {
    match Topic::check(text) {
        Ok(()) => return Ok(Cow::Borrowed(text)),
        // A character of several bytes becomes one `-`, so the length is judged afterwards.
        Err(TopicError::TooLong { .. }) if !text.is_ascii() => {}
        Err(fault @ (TopicError::TooLong { .. } | TopicError::TooManySegments { .. })) => {
            return Err(fault);
        }
        Err(_) => {}
    }
    let mut name = String::with_capacity(text.len() + 1);
    for segment in text.split('.') {
        if !name.is_empty() {
            name.push('.');
        }
        if segment.is_empty() {
            name.push('-');
        }
        name.extend(segment.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }));
    }
    Topic::check(&name)?;
    Ok(Cow::Owned(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The rule as a sentence would say it, slow and obvious.
    fn is_name(text: &str) -> bool {
        let segments: Vec<&str> = text.split('.').collect();
        text.len() <= 255
            && segments.len() <= 64
            && segments
                .iter()
                .all(|s| !s.is_empty() && s.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c)))
    }

    #[test]
    fn foreign_names_become_type_names() {
        for (text, name) in [
            ("orders.placed", "orders.placed"),
            ("Order Placed", "Order-Placed"),
            ("a/b:c", "a-b-c"),
            ("Größe", "Gr--e"),
            ("", "-"),
            (".", "-.-"),
            ("a..b", "a.-.b"),
            (".a.", "-.a.-"),
        ] {
            assert_eq!(sanitise(text).as_deref(), Ok(name), "{text:?}");
        }
        assert!(matches!(sanitise("orders.placed"), Ok(Cow::Borrowed(_))));
    }

    #[test]
    fn limits_hold_after_the_change_of_characters() {
        // 200 characters of two bytes each are 200 dashes, which fit.
        assert_eq!(sanitise(&"é".repeat(200)).as_deref(), Ok("-".repeat(200).as_str()));
        assert_eq!(sanitise(&"é".repeat(256)), Err(TopicError::TooLong { bytes: 256 }));
        assert_eq!(sanitise(&" ".repeat(256)), Err(TopicError::TooLong { bytes: 256 }));
        assert_eq!(sanitise(&".".repeat(64)), Err(TopicError::TooManySegments { segments: 65 }));
        assert_eq!(sanitise(&".".repeat(200)), Err(TopicError::TooLong { bytes: 401 }));
    }

    proptest! {
        #[test]
        fn what_sanitise_gives_is_a_name_of_the_same_shape(text in "\\PC{0,40}|[a. é]{240,270}") {
            let plain: Vec<String> = text
                .split('.')
                .map(|s| match s {
                    "" => "-".to_owned(),
                    s => s.chars().map(|c| if is_name(c.encode_utf8(&mut [0; 4])) { c } else { '-' }).collect(),
                })
                .collect();
            let plain = plain.join(".");
            match sanitise(&text) {
                Ok(name) => prop_assert_eq!(name.as_ref(), plain.as_str()),
                Err(_) => prop_assert!(!is_name(&plain)),
            }
        }
    }
}
