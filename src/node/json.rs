//! The JSON beneath an event, read once: the members of one object, borrowed, and nothing built.
//!
//! A reader that only skips values would let pass what no full parser accepts. This one checks all of
//! it on the way: syntax (RFC 8259), depth, halves of characters in `\u` escapes, numbers that a 64-bit
//! float cannot hold. A text is accepted exactly when serde_json can make a value of it.

use std::borrow::Cow;

use super::ingress_error::IngressError;

/// Objects and arrays may be open in one another to this depth, the line's own object included.
pub const DEPTH_MAX: usize = 64;

/// Reads `text`, one JSON object and nothing behind it, and hands the JSON text of each member's name
/// and value to `member`.
///
/// # Errors
/// The first place that is not JSON, a text that is no object, and what `member` returns.
pub(super) fn object<'a>(
    text: &'a str,
    member: impl FnMut(&'a str, &'a str) -> Result<(), IngressError>,
) -> Result<(), IngressError> {
    let mut reader = Reader { text, at: 0 };
    reader.blanks();
    if reader.peek() == Some(b'{') {
        reader.object(1, member)?;
        return reader.end();
    }
    let value = reader.value(0)?;
    reader.end()?;
    Err(IngressError::NotObject { found: kind(value) })
}

/// What a JSON string says; `None` if `raw`, well-formed JSON, is of another kind.
pub(super) fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if plain_prefix(inner.as_bytes()) < inner.len() {
        return serde_json::from_str(raw).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// What `raw`, well-formed JSON, is: for messages.
fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

/// A place in a text. Each method reads one thing from there and stops behind it; `at` is always on
/// the border of a character, since only ASCII and whole strings are passed over.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn fault<T>(&self, what: &'static str) -> Result<T, IngressError> {
        Err(IngressError::Json { column: self.at + 1, what })
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), IngressError> {
        self.blanks();
        if self.at == self.text.len() { Ok(()) } else { self.fault("something stands behind the value") }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// A value and its text; `depth` objects and arrays are open around it.
    fn value(&mut self, depth: usize) -> Result<&'a str, IngressError> {
        let start = self.at;
        match self.peek() {
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b'{' | b'[') if depth == DEPTH_MAX => {
                return Err(IngressError::TooDeep { depth_max: DEPTH_MAX });
            }
            Some(b'{') => self.object(depth + 1, |_, _| Ok(()))?,
            Some(b'[') => self.array(depth + 1)?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            _ => return self.fault("a value is expected"),
        }
        Ok(&self.text[start..self.at])
    }

    /// The object that begins here, itself at `depth`.
    fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&'a str, &'a str) -> Result<(), IngressError>,
    ) -> Result<(), IngressError> {
        self.at += 1;
        self.blanks();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return self.fault("a name in quotes is expected");
            }
            let name = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return self.fault("`:` is expected");
            }
            self.blanks();
            let value = self.value(depth)?;
            member(name, value)?;
            self.blanks();
            if self.take(b'}') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.fault("`,` or `}` is expected");
            }
            self.blanks();
        }
    }

    /// The array that begins here, itself at `depth`.
    fn array(&mut self, depth: usize) -> Result<(), IngressError> {
        self.at += 1;
        self.blanks();
        if self.take(b']') {
            return Ok(());
        }
        loop {
            self.value(depth)?;
            self.blanks();
            if self.take(b']') {
                return Ok(());
            }
            if !self.take(b',') {
                return self.fault("`,` or `]` is expected");
            }
            self.blanks();
        }
    }

    /// The string whose opening quote stands here, with its quotes.
    fn string(&mut self) -> Result<&'a str, IngressError> {
        let start = self.at;
        self.at += 1;
        loop {
            self.at += plain_prefix(&self.text.as_bytes()[self.at..]);
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => self.escape()?,
                Some(_) => return self.fault("a string holds a control character; escape it"),
                None => return self.fault("the string has no end"),
            }
        }
        self.at += 1;
        Ok(&self.text[start..self.at])
    }

    fn escape(&mut self) -> Result<(), IngressError> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => match self.unit(self.at) {
                None => self.fault("`\\u` needs four hexadecimal digits"),
                Some(0xD800..=0xDBFF) if matches!(self.unit(self.at + 6), Some(0xDC00..=0xDFFF)) => {
                    self.at += 12;
                    Ok(())
                }
                Some(0xD800..=0xDFFF) => self.fault("an escape is half of a character; write both halves"),
                Some(_) => {
                    self.at += 6;
                    Ok(())
                }
            },
            _ => self.fault("the escape is unknown"),
        }
    }

    /// The code unit that is escaped at `at`.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.as_bytes().get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)? as u16))
    }

    fn number(&mut self) -> Result<(), IngressError> {
        let start = self.at;
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        let exponent = self.take(b'e') || self.take(b'E');
        if exponent {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        // The largest float has 309 digits: a shorter number without an exponent always fits.
        if exponent || self.at - start > 300 {
            serde_json::from_str::<f64>(&self.text[start..self.at]).map_err(|_| IngressError::Json {
                column: start + 1,
                what: "a number is beyond the range of a 64-bit float; send it as a string",
            })?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digits(&mut self) -> Result<(), IngressError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { self.fault("a digit is expected") } else { Ok(()) }
    }

    fn word(&mut self, word: &str) -> Result<(), IngressError> {
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return self.fault("a value is expected");
        }
        self.at += word.len();
        Ok(())
    }
}

/// How many bytes stand before the first quote, backslash or control character.
fn plain_prefix(text: &[u8]) -> usize {
    /// The high bit of each byte of `word` that is zero, exactly up to the first one.
    const fn zeros(word: u64) -> u64 {
        word.wrapping_sub(LOW) & !word & (LOW << 7)
    }
    const LOW: u64 = 0x0101_0101_0101_0101;
    let (words, rest) = text.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let controls = word.wrapping_sub(LOW * 0x20) & !word & (LOW << 7);
        let special = zeros(word ^ (LOW * b'"' as u64)) | zeros(word ^ (LOW * b'\\' as u64)) | controls;
        if special != 0 {
            return at * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    let special = rest.iter().position(|&byte| matches!(byte, b'"' | b'\\' | 0..=0x1F));
    words.len() * 8 + special.unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn read(text: &str) -> Result<Vec<(&str, &str)>, IngressError> {
        let mut members = Vec::new();
        object(text, |name, value| {
            members.push((name, value));
            Ok(())
        })?;
        Ok(members)
    }

    #[test]
    fn members_come_in_their_order_as_they_stand() {
        let text = "\r\n { \"a\" : 1 ,\t\"\\u0062\":[ {} , []],\"c\":{\"d\": \"\\\"}\"}, \"a\":null } \n";
        let members =
            [("\"a\"", "1"), ("\"\\u0062\"", "[ {} , []]"), ("\"c\"", "{\"d\": \"\\\"}\"}"), ("\"a\"", "null")];
        assert_eq!(read(text).as_deref(), Ok(&members[..]));
        assert_eq!(read("{}").as_deref(), Ok(&[][..]));
    }

    #[test]
    fn a_fault_says_where_and_what() {
        for (text, column, what) in [
            ("", 1, "a value is expected"),
            ("hello", 1, "a value is expected"),
            ("\u{feff}{}", 1, "a value is expected"),
            ("{", 2, "a name in quotes is expected"),
            ("{a:1}", 2, "a name in quotes is expected"),
            ("{\"a\":1,}", 8, "a name in quotes is expected"),
            ("{\"a\"}", 5, "`:` is expected"),
            ("{\"a\":}", 6, "a value is expected"),
            ("{\"a\":nul}", 6, "a value is expected"),
            ("{\"a\":1 2}", 8, "`,` or `}` is expected"),
            ("{\"a\":[1 2]}", 9, "`,` or `]` is expected"),
            ("{\"a\":[1,]}", 9, "a value is expected"),
            ("{\"a\":01}", 7, "`,` or `}` is expected"),
            ("{\"a\":1.}", 8, "a digit is expected"),
            ("{\"a\":-}", 7, "a digit is expected"),
            ("{\"a\":1e+}", 9, "a digit is expected"),
            ("{\"a\":1e999}", 6, "a number is beyond the range of a 64-bit float; send it as a string"),
            ("{\"a\":\"", 7, "the string has no end"),
            ("{\"a\":\"\\", 7, "the escape is unknown"),
            ("{\"a\":\"\t\"}", 7, "a string holds a control character; escape it"),
            ("{\"a\":\"\\x\"}", 7, "the escape is unknown"),
            ("{\"a\":\"\\u12g4\"}", 7, "`\\u` needs four hexadecimal digits"),
            ("{\"a\":\"\\ud83d\"}", 7, "an escape is half of a character; write both halves"),
            ("{} {}", 4, "something stands behind the value"),
            ("1 2", 3, "something stands behind the value"),
        ] {
            assert_eq!(read(text), Err(IngressError::Json { column, what }), "{text}");
        }
    }

    #[test]
    fn json_that_is_no_object_is_named() {
        for (text, found) in [
            ("[1]", "an array"),
            ("\"a\"", "a string"),
            (" true ", "a boolean"),
            ("false", "a boolean"),
            ("null", "null"),
            ("-1.5", "a number"),
        ] {
            assert_eq!(read(text), Err(IngressError::NotObject { found }), "{text}");
        }
    }

    #[test]
    fn depth_counts_what_is_open_at_once() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let too_deep = Err(IngressError::TooDeep { depth_max: DEPTH_MAX });
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        assert_eq!(read(&nested(DEPTH_MAX + 1)), too_deep);
        assert_eq!(read(&nested(1_000_000)), too_deep);
        assert_eq!(read(&"[".repeat(1_000_000)), too_deep);
        assert_eq!(read(&"{\"a\":".repeat(1_000_000)), too_deep);
        assert!(read(&format!("{{\"a\":[{}]}}", vec!["[]"; 1_000].join(","))).is_ok(), "side by side is not deep");
        assert!(read(&format!("{{\"a\":\"{}\"}}", "[".repeat(1_000))).is_ok(), "a bracket in a string opens nothing");
    }

    /// JSON and near-JSON, with the cases that tell a skipping reader from a full one.
    fn jsonish() -> impl Strategy<Value = String> {
        const LEAVES: [&str; 38] = [
            "null",
            "true",
            "false",
            "tru",
            "nul",
            "fals",
            "",
            "0",
            "-0",
            "-1.5e3",
            "1e400",
            "-1E+309",
            "0e999",
            "1e-999",
            "1.7976931348623157e308",
            "17976931348623159e292",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "1E-",
            r#""""#,
            r#""a\nb\/""#,
            r#""\ud83d\ude00""#,
            r#""\uD83D""#,
            r#""\ude00""#,
            r#""\ud83d\u0041""#,
            r#""\ud83d\n""#,
            r#""\\ud83d""#,
            r#""\\\ud83d""#,
            r#""\u00""#,
            r#""\u+123""#,
            r#""\x""#,
            r#""[{""#,
            "\"\u{7f}\u{80}\"",
            "\"\u{1}\"",
        ];
        let leaf = prop_oneof![
            4 => prop::sample::select(LEAVES.as_slice()).prop_map(str::to_owned),
            1 => (1..400usize).prop_map(|digits| "9".repeat(digits)),
            1 => any::<f64>().prop_map(|f| f.to_string()),
            1 => "\\PC{0,6}".prop_map(|s| Value::from(s).to_string()),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            let items = prop::collection::vec(inner, 0..4);
            prop_oneof![
                items.clone().prop_map(|items| format!("[{}]", items.join(" ,"))),
                items.prop_map(|items| {
                    let members: Vec<String> =
                        items.iter().zip(0..).map(|(item, n)| format!("\"k{n}\" :{item}")).collect();
                    format!("{{{}}}", members.join(", "))
                }),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_text_is_accepted_exactly_when_serde_json_makes_a_value_of_it(value in jsonish(), tail in "|  |\t\r|,|}|x") {
            let text = format!("{{\"a\":{value},\"b\":1}}{tail}");
            let whole = serde_json::from_str::<Value>(&text);
            let members = read(&text);
            prop_assert_eq!(members.is_ok(), whole.is_ok(), "{}", text);
            if let (Ok(members), Ok(whole)) = (members, whole) {
                let (_, raw) = members[0];
                prop_assert_eq!(&serde_json::from_str::<Value>(raw).expect("a part of what was read"), &whole["a"]);
                let text = string(raw);
                prop_assert_eq!(text.as_deref(), whole["a"].as_str());
            }
        }

        #[test]
        fn one_changed_byte_is_judged_as_serde_json_judges_it(at in 0..82usize, byte in 0..128u8) {
            let mut text = *br#"{"a":[1,-2.5e3,true,false,null,"x\u00e9\n",{"b":{}}],"c":"\ud83d\ude00","d":[[]]}  "#;
            text[at] = byte;
            let text = std::str::from_utf8(&text).expect("ASCII");
            prop_assert_eq!(read(text).is_ok(), serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_object()), "{}", text);
        }
    }
}
