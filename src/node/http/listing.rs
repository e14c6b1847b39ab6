//! A page that is being written: values of JSON in a row, as many as there is room for.

/// Values in a row, of so many bytes together at most; the first one has room whatever it takes.
pub(super) struct Listing {
    body: Vec<u8>,
    begins: usize,
    bytes_max: usize,
}

impl Listing {
    /// One that begins with `head`, which ends with a bracket.
    pub(super) fn new(head: &str, bytes_max: usize) -> Self {
        Self { body: head.as_bytes().to_vec(), begins: head.len(), bytes_max }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.body.len() == self.begins
    }

    /// Appends a value. Says whether there was room for it; without room it is as it was.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let (before, is_first) = (self.body.len(), self.is_empty());
        if !is_first {
            self.body.push(b',');
        }
        write(&mut self.body);
        let has_room = is_first || self.body.len() <= self.bytes_max;
        if !has_room {
            self.body.truncate(before);
        }
        has_room
    }

    /// The page, with what closes it.
    pub(super) fn end(mut self, tail: &str) -> Vec<u8> {
        self.body.extend_from_slice(tail.as_bytes());
        self.body
    }
}

#[cfg(test)]
mod tests {
    use super::Listing;

    #[test]
    fn what_has_no_room_leaves_no_trace_and_the_first_has_room() {
        let mut listing = Listing::new("[", 5);
        assert!(listing.is_empty() && listing.push(|body| body.extend(b"123456")) && !listing.is_empty());
        assert!(!listing.push(|body| body.push(b'7')));
        assert_eq!(listing.end("]"), b"[123456]");
        let mut listing = Listing::new("[", 5);
        let pushed = (1..=3).map(|digit| listing.push(|body| body.push(b'0' + digit))).filter(|has_room| *has_room);
        assert_eq!((pushed.count(), listing.end("]")), (2, b"[1,2]".to_vec()));
    }
}
