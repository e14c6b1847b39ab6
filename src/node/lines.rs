//! Lines out of a byte stream, numbered, with a limit that holds before anything is stored.

use std::io::{self, BufRead, BufReader, Read};

use super::ingress_error::IngressError;

/// Reads lines that end in LF or CR LF, or at the end of the stream. Blank lines count as lines and
/// are skipped. Memory stays within `line_bytes_max` whatever comes in.
#[derive(Debug)]
pub struct Lines<R> {
    reader: BufReader<R>,
    buffer: Vec<u8>,
    number: u64,
    line_bytes_max: usize,
}

/// One line that is not blank.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1, blank lines included.
    pub number: u64,
    /// What it holds, without its ending; or that it is longer than the limit.
    pub bytes: Result<&'a [u8], IngressError>,
}

impl<R: Read> Lines<R> {
    /// Lines of `reader`, each at most `line_bytes_max` bytes without its ending.
    pub const fn new(reader: BufReader<R>, line_bytes_max: usize) -> Self {
        Self { reader, buffer: Vec::new(), number: 0, line_bytes_max }
    }

    /// Whether the next line is there without waiting for the reader.
    pub fn has_whole_line(&self) -> bool {
        self.reader.buffer().contains(&b'\n')
    }

    /// The next line, or `None` at the end of the stream. Waits for the reader.
    ///
    /// # Errors
    /// Those of the reader. A line that is too long is no error here: it is read to its end and
    /// reported as a [`Line`], and the next call goes on behind it.
    pub fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        loop {
            self.buffer.clear();
            // Room for the longest ending, so that a full line is seen to end.
            let most = (self.line_bytes_max as u64).saturating_add(2);
            (&mut self.reader).take(most).read_until(b'\n', &mut self.buffer)?;
            if self.buffer.is_empty() {
                return Ok(None);
            }
            self.number += 1;
            let mut over = 0;
            let ended = self.buffer.pop_if(|last| *last == b'\n').is_some();
            if !ended && self.buffer.len() as u64 == most {
                over = skip_line(&mut self.reader)?;
            } else {
                self.buffer.pop_if(|last| *last == b'\r');
            }
            let bytes = self.buffer.len() as u64 + over;
            if bytes > self.line_bytes_max as u64 {
                let fault = IngressError::TooLong { bytes, line_bytes_max: self.line_bytes_max };
                return Ok(Some(Line { number: self.number, bytes: Err(fault) }));
            }
            if !self.buffer.trim_ascii().is_empty() {
                break;
            }
        }
        Ok(Some(Line { number: self.number, bytes: Ok(&self.buffer) }))
    }
}

/// Passes over the rest of a line and gives its length without the LF.
fn skip_line(reader: &mut impl BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let available = match reader.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            return Ok(skipped);
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let (content, used) = end.map_or((available.len(), available.len()), |end| (end, end + 1));
        reader.consume(used);
        skipped += content as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn all(input: &[u8], line_bytes_max: usize, chunk: usize) -> Vec<(u64, Result<Vec<u8>, u64>)> {
        let mut lines = Lines::new(BufReader::with_capacity(chunk, input), line_bytes_max);
        let mut seen = Vec::new();
        while let Some(line) = lines.next_line().expect("a slice never fails") {
            let bytes = match line.bytes {
                Ok(bytes) => Ok(bytes.to_vec()),
                Err(IngressError::TooLong { bytes, .. }) => Err(bytes),
                Err(other) => panic!("{other}"),
            };
            seen.push((line.number, bytes));
        }
        assert!(lines.buffer.capacity() <= (line_bytes_max + 2).max(8) * 2, "the limit bounds the memory");
        seen
    }

    #[test]
    fn lines_end_in_lf_cr_lf_or_the_end_of_the_stream() {
        let seen = all(b"one\ntwo\r\n\n \t\r\nfive", 100, 3);
        let texts: Vec<_> = seen.iter().map(|(n, b)| (*n, b.as_deref().expect("short"))).collect();
        assert_eq!(texts, [(1, &b"one"[..]), (2, b"two"), (5, b"five")]);
        assert_eq!(all(b"", 100, 3), []);
        assert_eq!(all(b"\n\n", 100, 3), []);
    }

    #[test]
    fn the_limit_is_exact_and_a_long_line_hurts_no_other() {
        let input = b"12345\n123456\n12345\r\n1234567890123\nok\n12345";
        let seen = all(input, 5, 4);
        let lines: Vec<_> = seen.into_iter().map(|(n, b)| (n, b.map(|b| b.len() as u64))).collect();
        assert_eq!(lines, [(1, Ok(5)), (2, Err(6)), (3, Ok(5)), (4, Err(13)), (5, Ok(2)), (6, Ok(5))]);
        assert_eq!(all(b"123456", 5, 4), [(1, Err(6))]);
    }

    struct Broken;
    impl io::Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }

    #[test]
    fn a_broken_stream_is_an_error_also_behind_a_long_line() {
        let mut lines = Lines::new(BufReader::new(Broken), 5);
        assert_eq!(lines.next_line().expect_err("broken").to_string(), "gone");
        let mut lines = Lines::new(BufReader::new(b"1234567890".chain(Broken)), 5);
        assert_eq!(lines.next_line().expect_err("broken").to_string(), "gone");
    }

    proptest! {
        #[test]
        fn the_lines_are_those_of_a_plain_split(
            input in prop::collection::vec(prop::sample::select(b"ab \r\n".as_slice()), 0..60),
            line_bytes_max in 0..12usize,
            chunk in 1..8usize,
        ) {
            let plain: Vec<_> = input
                .split(|&byte| byte == b'\n')
                .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
                .zip(1..)
                .filter(|(line, _)| line.len() > line_bytes_max || !line.trim_ascii().is_empty())
                .map(|(line, n)| (n, (line.len() <= line_bytes_max).then(|| line.to_vec())))
                .collect();
            let seen: Vec<_> = all(&input, line_bytes_max, chunk).into_iter().map(|(n, b)| (n, b.ok())).collect();
            prop_assert_eq!(seen, plain);
        }
    }
}
