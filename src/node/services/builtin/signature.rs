//! Signatures of what is sent over HTTP: HMAC-SHA256 of the body, `sha256=` and 64 hexadecimal digits, as GitHub and others have it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Where the signature stands.
pub const SIGNATURE_HEADER: &str = "x-hub-signature-256";

const PREFIX: &str = "sha256=";

/// What both ends know. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Bytes, of which at least 16 should be random.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// Whether anybody could guess it: there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn mac(&self, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(body);
        mac
    }

    /// The signature of a body.
    pub fn sign(&self, body: &[u8]) -> String {
        let bytes = self.mac(body).finalize().into_bytes();
        bytes.iter().fold(PREFIX.to_owned(), |text, byte| format!("{text}{byte:02x}"))
    }

    /// Whether a signature, with or without `sha256=`, is that of a body. Takes as long whichever byte is wrong.
    pub fn verifies(&self, body: &[u8], signature: &str) -> bool {
        let signature = signature.trim();
        let digits = signature.strip_prefix(PREFIX).unwrap_or(signature).as_bytes();
        let (pairs, []) = digits.as_chunks::<2>() else { return false };
        let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect();
        bytes.is_some_and(|bytes| self.mac(body).verify_slice(&bytes).is_ok())
    }
}

fn digit(letter: u8) -> Option<u8> {
    char::from(letter).to_digit(16).map(|digit| digit as u8)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of GitHub's documentation.
    #[test]
    fn a_signature_is_what_others_make_of_the_same() {
        let secret = Secret::new("It's a Secret to Everybody");
        let known = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        assert_eq!(secret.sign(b"Hello, World!"), known);
        assert!(secret.verifies(b"Hello, World!", known));
        assert!(secret.verifies(b"Hello, World!", &known[7..]), "without its prefix");
        assert!(!secret.verifies(b"Hello, World?", known));
        assert!(!Secret::new("another").verifies(b"Hello, World!", known));
        assert_eq!(format!("{secret:?}"), "Secret");
    }

    proptest! {
        #[test]
        fn only_the_whole_signature_verifies(
            body in any::<Vec<u8>>(),
            secret in any::<Vec<u8>>(),
            at in 7_usize..71,
            with in "[0-9a-f]",
        ) {
            let secret = Secret::new(secret);
            let signature = secret.sign(&body);
            prop_assert!(secret.verifies(&body, &signature));
            prop_assert!(!secret.verifies(&body, &signature[..at]), "cut off");
            let mut other = signature.clone();
            other.replace_range(at..=at, &with);
            prop_assert_eq!(secret.verifies(&body, &other), other == signature);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,80}") {
            prop_assert!(!Secret::new("key").verifies(b"body", &text));
        }
    }
}
