//! PEM as Go's decoder reads it, because identities travel as PEM text and its quirks decide who is known
//! (spec 02 §13.3): text around a block is ignored, the label may be anything, headers are skipped, line ends may be
//! CR LF.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

const BEGIN: &[u8] = b"-----BEGIN ";

/// One decoded block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PemBlock {
    /// The text between `-----BEGIN ` and `-----`, such as `CERTIFICATE`.
    pub label: String,
    /// The decoded content.
    pub content: Vec<u8>,
}

/// Finds the first whole block of `text` and returns it with what follows the end of its last line. `None` when there
/// is no block. A damaged block is passed over and the search goes on behind it.
#[must_use]
pub fn first_block(text: &[u8]) -> Option<(PemBlock, &[u8])> {
    let mut rest = text;
    loop {
        let start = line_starting_with(rest, BEGIN)?;
        let after_begin = &rest[start + BEGIN.len()..];
        if let Some(found) = block_at(after_begin) {
            return Some(found);
        }
        rest = after_begin;
    }
}

/// Every block of `text` in order.
#[must_use]
pub fn all_blocks(text: &[u8]) -> Vec<PemBlock> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((block, after)) = first_block(rest) {
        blocks.push(block);
        rest = after;
    }
    blocks
}

/// Writes one block with lines of 64 characters, ending in a newline.
#[must_use]
pub fn encode(label: &str, content: &[u8]) -> String {
    let encoded = STANDARD.encode(content);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = after;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

/// Position of the first line that starts with `prefix`.
fn line_starting_with(text: &[u8], prefix: &[u8]) -> Option<usize> {
    text.windows(prefix.len())
        .enumerate()
        .find(|(at, window)| *window == prefix && (*at == 0 || text[at - 1] == b'\n'))
        .map(|(at, _)| at)
}

/// The first line without its line end and trailing blanks, and what follows it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let (line, rest) = match text.iter().position(|b| *b == b'\n') {
        Some(end) => (&text[..end], &text[end + 1..]),
        None => (text, &text[text.len()..]),
    };
    (line.trim_ascii_end(), rest)
}

/// Reads a block whose text starts just behind `-----BEGIN `.
fn block_at(text: &[u8]) -> Option<(PemBlock, &[u8])> {
    let (begin_line, mut rest) = split_line(text);
    let label = begin_line.strip_suffix(b"-----")?;
    let mut body = Vec::new();
    loop {
        // A block that begins before this one ended shows that this one is damaged; stopping there also keeps the search
        // linear in the length of the text.
        if rest.is_empty() || rest.starts_with(BEGIN) {
            return None;
        }
        let (line, after) = split_line(rest);
        rest = after;
        if let Some(end) = line.strip_prefix(b"-----END ") {
            if end.strip_suffix(b"-----")? != label {
                return None;
            }
            break;
        }
        let is_header = body.is_empty() && line.contains(&b':');
        if !is_header {
            body.extend(line.iter().filter(|b| !b.is_ascii_whitespace()));
        }
    }
    let content = STANDARD.decode(&body).ok()?;
    let label = std::str::from_utf8(label).ok()?.to_owned();
    Some((PemBlock { label, content }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_around_headers_and_carriage_returns_are_tolerated() {
        let text = "hello\r\n-----BEGIN ANY THING-----\r\nProc-Type: 4\r\n\r\nAQID\r\nBA==\r\n-----END ANY THING-----\r\nrest";
        let (block, rest) = first_block(text.as_bytes()).unwrap();
        assert_eq!(
            block,
            PemBlock {
                label: "ANY THING".into(),
                content: vec![1, 2, 3, 4]
            }
        );
        assert_eq!(rest, b"rest");
    }

    #[test]
    fn a_damaged_block_is_passed_over() {
        let text = "-----BEGIN A-----\n!!!!\n-----END A-----\n-----BEGIN B-----\nAQ==\n-----END B-----";
        let (block, rest) = first_block(text.as_bytes()).unwrap();
        assert_eq!(
            (block.label.as_str(), block.content.as_slice()),
            ("B", &[1u8][..])
        );
        assert!(rest.is_empty());
    }

    #[test]
    fn without_a_whole_block_there_is_nothing() {
        for text in [
            "",
            "-----BEGIN A-----",
            "-----BEGIN A-----\nAQ==\n",
            "x-----BEGIN A-----\nAQ==\n-----END A-----",
            "-----BEGIN A-----\nAQ==\n-----END B-----\n",
            "-----BEGIN A\nAQ==\n-----END A-----\n",
        ] {
            assert!(first_block(text.as_bytes()).is_none(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(content in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut text = encode("CERTIFICATE", &content);
            text.push_str(&encode("X509 CRL", b"second"));
            let blocks = all_blocks(text.as_bytes());
            prop_assert_eq!(blocks.len(), 2);
            prop_assert_eq!(&blocks[0].content, &content);
        }

        #[test]
        fn any_text_is_survived(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = all_blocks(&text);
        }

        #[test]
        fn any_body_is_survived(body in "[-A-Za-z0-9+/=: \\n]{0,200}") {
            let _ = all_blocks(format!("-----BEGIN X-----\n{body}\n-----END X-----\n").as_bytes());
        }
    }
}
