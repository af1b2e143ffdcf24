//! The user's own text inside a message: one line, of bounded length, unmistakably quoted.

use std::fmt::Write;

/// A longer text is cut here: a message stays one line that a person can read. A program's path in
/// the store fits.
pub const MAX_QUOTED_CHARS: usize = 100;

/// `text` in double quotes, with JSON's escapes for what would not show, cut to
/// [`MAX_QUOTED_CHARS`].
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for (nth, c) in text.chars().enumerate() {
        if nth == MAX_QUOTED_CHARS {
            out.push('…');
            break;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            _ => push_escaped(&mut out, c),
        }
    }
    out.push('"');
    out
}

/// `text` without quotes, but with everything that would break the line escaped; never cut, since
/// it is a file name.
pub fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_escaped(&mut out, c);
    }
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        // Line separators and direction marks would let a file forge what a terminal shows.
        c if c.is_control()
            || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}') =>
        {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        }
        c => out.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_text_stays_on_one_line() {
        assert_eq!(quoted("a\n\"\u{7}\u{202e}"), r#""a\n\"\u0007\u202e""#);
    }

    #[test]
    fn quoted_text_is_cut() {
        let text = "é".repeat(MAX_QUOTED_CHARS + 1);
        assert_eq!(quoted(&text).chars().count(), MAX_QUOTED_CHARS + 3);
    }

    #[test]
    fn a_file_name_keeps_its_length_and_loses_its_newline() {
        assert_eq!(one_line("a\nb"), "a\\nb");
    }
}
