//! Sizes as people write them: `"256M"`, `"1.5G"`; K, M, G and T, or k, m, g and t,
//! are binary.

use super::quote::quoted;

/// Bytes in 1 KiB.
pub const KIB: u64 = 1 << 10;

/// Bytes in 1 MiB.
pub const MIB: u64 = 1 << 20;

/// A size as a regular expression, for the schema.
pub const PATTERN: &str = r"^[0-9]+(\.[0-9]+)?[KMGTkmgt]$";

/// Enough for any 64-bit number of bytes, and few enough that 128 bits hold the product.
const MAX_DIGITS: usize = 20;

const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

/// `text` as bytes, or what is wrong with it.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = |why: &str| {
        format!(
            "must be a size such as \"256M\" or \"1.5G\"{why}, is {}",
            quoted(text)
        )
    };
    let Some((last, digits)) = text
        .chars()
        .next_back()
        .map(|last| (last, text.strip_suffix(last).unwrap_or("")))
    else {
        return Err(wrong(""));
    };
    let Some((_, shift)) = UNITS
        .iter()
        .find(|(unit, _)| unit.eq_ignore_ascii_case(&last))
    else {
        return Err(wrong(if last.is_ascii_digit() {
            " with its unit"
        } else {
            " (units: K, M, G, T)"
        }));
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all = [whole, fraction].concat();
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !plain(whole) || !plain(fraction) {
        return Err(wrong(""));
    }
    if all.len() > MAX_DIGITS {
        return Err(wrong(&format!(" of at most {MAX_DIGITS} digits")));
    }
    // At most 20 digits times 2^40 is below 2^107, and 10^20 below 2^67.
    let scaled = all.parse::<u128>().unwrap_or(0) << shift;
    let divisor = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    match u64::try_from(scaled / divisor) {
        Ok(bytes) if scaled % divisor == 0 => Ok(bytes),
        Ok(_) => Err(wrong(" that is a whole number of bytes")),
        Err(_) => Err(wrong(" below 2^64 bytes")),
    }
}

/// `kib` KiB with the largest unit that leaves a whole number.
pub fn format_kib(kib: u64) -> String {
    let above_kib = |shift: u32| shift - 10;
    let whole = |(_, shift): &&(char, u32)| kib.trailing_zeros() >= above_kib(*shift);
    match UNITS.iter().rev().find(whole) {
        Some((unit, shift)) if kib > 0 => format!("{}{unit}", kib >> above_kib(*shift)),
        _ => format!("{kib}K"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_binary_and_exact() {
        assert_eq!(parse("1K"), Ok(1024));
        assert_eq!(parse("1.5G"), Ok(3 << 29));
        assert_eq!(parse("0.5K"), Ok(512));
        assert_eq!(parse("512m"), parse("512M"));
        assert_eq!(parse("16777215T"), Ok(16_777_215 << 40));
    }

    #[test]
    fn what_is_no_size_says_why() {
        for (text, part) in [
            ("", "such as"),
            ("M", "such as"),
            ("12", "with its unit"),
            ("12Q", "units: K, M, G, T"),
            ("12mb", "units: K, M, G, T"),
            ("1.M", "such as"),
            ("-1M", "such as"),
            ("0.3K", "whole number of bytes"),
            ("16777216T", "below 2^64"),
            ("000000000000000000001K", "at most 20 digits"),
            ("é", "units"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn a_written_size_reads_back_the_same() {
        for kib in [0, 1, 1023, 1024, 1025, 3 << 19, (1 << 53) - 1] {
            assert_eq!(
                parse(&format_kib(kib)),
                Ok(kib * KIB),
                "{}",
                format_kib(kib)
            );
        }
    }
}
