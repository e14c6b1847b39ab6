//! What a record says of a change, as JSON of two members, so that every tool can read it: `{"before": "…", "after": "…"}`.

use std::fmt::Write;
use std::iter::Peekable;
use std::str::Chars;

/// The payload of a record.
pub(super) fn write(before: Option<&str>, after: Option<&str>) -> String {
    let mut json = "{".to_owned();
    for (name, text) in [("before", before), ("after", after)] {
        let Some(text) = text else { continue };
        json.push_str(if json.len() > 1 { ",\"" } else { "\"" });
        json.push_str(name);
        json.push_str("\":\"");
        for letter in text.chars() {
            match letter {
                '"' | '\\' => json.extend(['\\', letter]),
                '\n' => json.push_str("\\n"),
                '\0'..' ' => write!(json, "\\u{:04x}", u32::from(letter)).expect("a text takes all"),
                _ => json.push(letter),
            }
        }
        json.push('"');
    }
    json.push('}');
    json
}

/// What was before, and what after; `None` when it is no such payload. Other members, and space, may have come to it on its way.
pub(super) fn read(json: &str) -> Option<(Option<String>, Option<String>)> {
    let (mut before, mut after) = (None, None);
    let mut rest = Reader(json.chars().peekable());
    rest.expect('{')?;
    if rest.space() == Some('}') {
        return Some((None, None));
    }
    loop {
        let name = rest.text()?;
        rest.expect(':')?;
        let text = match rest.space()? {
            '"' => Some(rest.text()?),
            _ => rest.0.by_ref().take(4).eq("null".chars()).then_some(None)?,
        };
        match name.as_str() {
            "before" => before = text,
            "after" => after = text,
            _ => {}
        }
        match rest.space()? {
            ',' => drop(rest.0.next()),
            '}' => return Some((before, after)),
            _ => return None,
        }
    }
}

struct Reader<'a>(Peekable<Chars<'a>>);

impl Reader<'_> {
    /// What comes behind space.
    fn space(&mut self) -> Option<char> {
        while self.0.next_if(char::is_ascii_whitespace).is_some() {}
        self.0.peek().copied()
    }

    fn expect(&mut self, letter: char) -> Option<()> {
        self.space()?;
        self.0.next_if_eq(&letter).map(drop)
    }

    fn text(&mut self) -> Option<String> {
        self.expect('"')?;
        // Escapes come in halves of letters.
        let mut units = Vec::new();
        loop {
            let letter = match self.0.next()? {
                '"' => return String::from_utf16(&units).ok(),
                '\\' => match self.0.next()? {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    'b' => '\u{8}',
                    'f' => '\u{c}',
                    'u' => {
                        let digits: String = self.0.by_ref().take(4).collect();
                        units.push(u16::from_str_radix(&digits, 16).ok()?);
                        continue;
                    }
                    letter @ ('"' | '\\' | '/') => letter,
                    _ => return None,
                },
                letter => letter,
            };
            units.extend_from_slice(letter.encode_utf16(&mut [0; 2]));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{read, write};

    proptest! {
        #[test]
        fn what_is_written_is_read(before in any::<Option<String>>(), after in any::<Option<String>>()) {
            prop_assert_eq!(read(&write(before.as_deref(), after.as_deref())), Some((before, after)));
        }

        #[test]
        fn whatever_comes_is_read_or_refused(text in r#"[{}":,\\a-fnu0-9 ]{0,40}"#) {
            read(&text);
        }
    }

    #[test]
    fn what_others_wrote_is_read() {
        let json = " { \"after\" : \"\\ud83d\\ude00\\/\\t\" , \"more\":\"x\", \"before\":null } ";
        assert_eq!(read(json), Some((None, Some("😀/\t".to_owned()))));
        for no_change in ["", "{", "[]", "{\"before\":1}", "{\"before\":\"\\ud83d\"}", "{\"before\":\"\\x\"}"] {
            assert_eq!(read(no_change), None, "{no_change}");
        }
    }
}
