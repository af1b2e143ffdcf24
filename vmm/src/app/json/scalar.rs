//! Strings (RFC 8259 section 7) and numbers (section 6).

use super::{Parse, Parser, SyntaxError};
use crate::app::quote::{one_line, quoted};

impl Parser<'_> {
    pub(super) fn number(&mut self) -> Parse<serde_json::Number> {
        let word = self.word();
        if !is_number(word) {
            return Err(self.error_at(self.at, format!("{} is not a JSON number", quoted(word))));
        }
        let number = serde_json::from_str(word).map_err(|_| {
            self.error_at(
                self.at,
                format!("the number {} is out of range", quoted(word)),
            )
        })?;
        self.at += word.len();
        Ok(number)
    }

    pub(super) fn string(&mut self) -> Parse<String> {
        let start = self.at;
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.rest();
            let plain = rest
                .bytes()
                .position(|byte| byte == b'"' || byte == b'\\' || byte < 0x20)
                .ok_or_else(|| {
                    self.error_at(start, "the string that starts here is not closed".into())
                })?;
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                Some(b'\n' | b'\r') => {
                    return Err(self.error_at(
                        start,
                        "the string that starts here is not closed in its line".into(),
                    ));
                }
                _ => return Err(self.control_character()),
            }
        }
    }

    fn control_character(&self) -> SyntaxError {
        let code = self.peek().unwrap_or(0);
        self.error_at(
            self.at,
            format!("a string must not contain the raw control character U+{code:04X}; write \"\\u{code:04x}\""),
        )
    }

    /// Takes an escape, a pair of surrogates included.
    fn escape(&mut self) -> Parse<char> {
        let start = self.at;
        let letter = self.rest().chars().nth(1);
        self.at += 1 + letter.map_or(0, char::len_utf8);
        Ok(match letter {
            Some(c @ ('"' | '\\' | '/')) => c,
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let high = self.hex4(start)?;
                let low = match high {
                    0xd800..=0xdbff if self.rest().starts_with("\\u") => {
                        self.at += 2;
                        Some(self.hex4(start)?)
                    }
                    _ => None,
                };
                let units = [high, low.unwrap_or(0)];
                let units = if low.is_some() {
                    &units[..]
                } else {
                    &units[..1]
                };
                match char::decode_utf16(units.iter().copied()).next() {
                    Some(Ok(c)) => c,
                    _ => return Err(self.error_at(start, "half of a UTF-16 surrogate pair".into())),
                }
            }
            _ => {
                let found = one_line(&self.text[start..self.at]);
                let allowed = "\\\" \\\\ \\/ \\b \\f \\n \\r \\t \\uXXXX";
                return Err(
                    self.error_at(start, format!("unknown escape {found}; allowed: {allowed}"))
                );
            }
        })
    }

    fn hex4(&mut self, start: usize) -> Parse<u16> {
        let digits = self
            .rest()
            .get(..4)
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let code = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok());
        self.at += 4;
        code.ok_or_else(|| {
            self.error_at(
                start,
                "\"\\u\" must be followed by four hexadecimal digits".into(),
            )
        })
    }
}

/// Whether `word` is a number by the grammar.
fn is_number(word: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let word = word.strip_prefix('-').unwrap_or(word);
    let (mantissa, exponent) = match word.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (word, None),
    };
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (mantissa, None),
    };
    digits(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent
            .is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)))
}
