//! Who may do what: tokens in a file, of which only hashes are there.
//!
//! ```text
//! # name  hash of the token                            what it may
//! ci      sha256:9f86d081884c7d659a2feaa0c55ad015...   publish=build.**,deploy.* subscribe=build.**
//! ada     sha256:60303ae22b998861bce3b28f33eec1be...   admin
//! ```

use std::fs;
use std::path::Path;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::Pattern;

/// Longer than a file of tokens is.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What one token may do.
#[derive(Debug, PartialEq)]
pub(in super::super) struct Token {
    name: String,
    hash: [u8; 32],
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
    is_admin: bool,
}

/// All tokens of a node.
#[derive(Debug, PartialEq)]
pub(super) struct Tokens(Vec<Arc<Token>>);

/// Who asks.
#[derive(Debug, Clone)]
pub(in super::super) enum Caller {
    /// Whoever can connect, where there are no tokens: they may do everything.
    Anyone,
    /// Who has this token.
    Token(Arc<Token>),
}

impl Caller {
    /// Whose name stands in the audit trail.
    pub(in super::super) fn name(&self) -> &str {
        match self {
            Self::Anyone => "http",
            Self::Token(token) => &token.name,
        }
    }

    pub(super) fn is_admin(&self) -> bool {
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.is_admin,
        }
    }

    /// Whether it may publish events of a type.
    pub(super) fn may_publish(&self, event_type: &str) -> bool {
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.is_admin || token.publish.iter().any(|pattern| pattern.matches(event_type)),
        }
    }

    /// Whether it may see all events that a pattern means.
    pub(in super::super) fn may_subscribe(&self, pattern: &Pattern) -> bool {
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.is_admin || token.subscribe.iter().any(|allowed| allowed.covers(pattern)),
        }
    }
}

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it, and in which line.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
        let bytes = fs::metadata(path).map_err(unreadable)?.len();
        if bytes > FILE_BYTES_MAX {
            return Err(format!("{} has {bytes} bytes, a file of tokens has {FILE_BYTES_MAX} at most", path.display()));
        }
        let text = fs::read_to_string(path).map_err(unreadable)?;
        Self::parse(&text).map_err(|(line, wrong)| format!("{}:{line}: {wrong}", path.display()))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut tokens: Vec<Arc<Token>> = Vec::new();
        for (nth, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let token = Token::parse(line).map_err(|wrong| (nth + 1, wrong))?;
            if tokens.iter().any(|other| other.name == token.name) {
                return Err((nth + 1, format!("there is a token {:?} above; names are given once", token.name)));
            }
            tokens.push(Arc::new(token));
        }
        if tokens.is_empty() {
            return Err((1, "there are no tokens; without any nobody could do anything".to_owned()));
        }
        Ok(Self(tokens))
    }

    /// Whose token this is.
    pub(super) fn find(&self, token: &str) -> Option<Caller> {
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        // All are compared, each to its end: how long it takes tells nothing.
        let found = self.0.iter().fold(None, |found, token| if same(&token.hash, &hash) { Some(token) } else { found });
        found.map(|token| Caller::Token(Arc::clone(token)))
    }
}

fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    std::hint::black_box(one.iter().zip(other).fold(0, |unlike, (one, other)| unlike | (one ^ other))) == 0
}

impl Token {
    fn parse(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        let hash = words.next().and_then(|word| word.strip_prefix("sha256:")).and_then(hash);
        let Some(hash) = hash else {
            return Err(format!(
                "behind the name {name:?} stands sha256: and 64 hexadecimal digits, the hash of the token, as `printf %s TOKEN | sha256sum` says it"
            ));
        };
        let mut token = Self { name, hash, publish: Vec::new(), subscribe: Vec::new(), is_admin: false };
        for word in words {
            match word.split_once('=') {
                None if word == "admin" => token.is_admin = true,
                Some(("publish", patterns)) => token.publish.extend(parse_patterns(patterns)?),
                Some(("subscribe", patterns)) => token.subscribe.extend(parse_patterns(patterns)?),
                _ => {
                    return Err(format!(
                        "{word:?} is nothing that a token may do; that is admin, publish=PATTERN,.. or subscribe=PATTERN,.."
                    ));
                }
            }
        }
        Ok(token)
    }
}

fn parse_patterns(text: &str) -> Result<Vec<Pattern>, String> {
    text.split(',').map(|pattern| Pattern::new(pattern).map_err(|error| format!("{pattern:?}: {error}"))).collect()
}

fn hash(digits: &str) -> Option<[u8; 32]> {
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `test`.
    const HASH: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).expect("a pattern")
    }

    #[test]
    fn a_token_may_do_what_its_line_says() {
        let text =
            format!("# none\n\nci sha256:{HASH} publish=build.**,deploy.* subscribe=build.** # of the builder\n");
        let tokens = Tokens::parse(&text).expect("it is well-formed");
        let ci = tokens.find("test").expect("it is there");
        assert_eq!((ci.name(), ci.is_admin()), ("ci", false));
        assert!(ci.may_publish("build.done") && ci.may_publish("deploy.begun") && !ci.may_publish("orders.placed"));
        assert!(ci.may_subscribe(&pattern("build.*")) && !ci.may_subscribe(&pattern("**")));
        assert!(tokens.find("Test").is_none() && tokens.find("").is_none() && tokens.find(HASH).is_none());
    }

    #[test]
    fn an_admin_may_do_everything() {
        let tokens = Tokens::parse(&format!("ada sha256:{HASH} admin")).expect("it is well-formed");
        let ada = tokens.find("test").expect("it is there");
        assert!(ada.is_admin() && ada.may_publish("a") && ada.may_subscribe(&pattern("**")));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let line = |text: &str| Tokens::parse(text).expect_err(text).0;
        assert_eq!(line(&format!("a sha256:{HASH} admin\na sha256:{HASH}")), 2);
        assert_eq!(line("\nci secret admin"), 2);
        assert_eq!(line(&format!("ci sha256:{}", &HASH[1..])), 1);
        assert_eq!(line(&format!("ci sha256:{HASH} root")), 1);
        assert_eq!(line(&format!("ci sha256:{HASH} publish=a..b")), 1);
        assert_eq!(line("# only a comment"), 1);
    }
}
