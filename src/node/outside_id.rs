//! Ids from outside: any string in, a UUID inside, the same string out again.

use uuid::Uuid;

/// A CloudEvents id as the bus keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutsideId<'a> {
    /// The id inside. The same `source` and `id` always give the same one.
    pub uuid: Uuid,
    /// The text to carry along and give back; `None` where `uuid` printed in lower case is that text.
    pub original: Option<&'a str>,
}

/// Turns the pair that names an event outside into its id inside. A hyphenated UUID is taken as it
/// is; any other text becomes version 5 of `id` in the name space that is version 5 of `source`
/// among URLs.
///
/// # Cost
/// None for a UUID; two SHA-1 hashes otherwise.
pub fn outside_id<'a>(source: &str, id: &'a str) -> OutsideId<'a> {
    // 36 characters: the braced, bare and `urn:uuid:` spellings are ordinary strings.
    if id.len() == uuid::fmt::Hyphenated::LENGTH
        && let Ok(uuid) = Uuid::try_parse(id)
    {
        let mut buffer = Uuid::encode_buffer();
        let same = uuid.hyphenated().encode_lower(&mut buffer) == id;
        return OutsideId { uuid, original: (!same).then_some(id) };
    }
    let name_space = Uuid::new_v5(&Uuid::NAMESPACE_URL, source.as_bytes());
    OutsideId { uuid: Uuid::new_v5(&name_space, id.as_bytes()), original: Some(id) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_uuid_is_taken_as_it_is() {
        let text = "0190163d-8694-739b-aea5-966c26f8ad91";
        let id = outside_id("any", text);
        assert_eq!((id.uuid.to_string().as_str(), id.original), (text, None));
    }

    #[test]
    fn another_spelling_of_a_uuid_keeps_its_text() {
        let text = "0190163D-8694-739B-AEA5-966C26F8AD91";
        let id = outside_id("any", text);
        assert_eq!((id.uuid.to_string(), id.original), (text.to_lowercase(), Some(text)));
        let bare = text.replace('-', "");
        let id = outside_id("any", &bare);
        assert_eq!((id.uuid.get_version_num(), id.original), (5, Some(bare.as_str())));
    }

    #[test]
    fn another_text_becomes_version_5_in_the_name_space_of_its_source() {
        // Computed with Python: uuid5(uuid5(NAMESPACE_URL, "https://example.com/shop"), "A234-1234-1234").
        let id = outside_id("https://example.com/shop", "A234-1234-1234");
        assert_eq!(id.uuid.to_string(), "d35a999c-82dd-568b-ae40-899c119cc802");
        assert_eq!(id.original, Some("A234-1234-1234"));
    }

    proptest! {
        #[test]
        fn the_text_always_comes_back(source in "\\PC{1,12}", id in "\\PC{1,40}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}") {
            let inside = outside_id(&source, &id);
            let back = inside.original.map_or_else(|| inside.uuid.to_string(), str::to_owned);
            prop_assert_eq!(back, id);
        }
    }
}
