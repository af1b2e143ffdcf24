//! Words of a compose file as mvm has them: variables, durations, sizes, names.

/// A text with its variables as `compose.json` has them: `$A` is `${A}`, and `$$` a `$`.
pub fn text(text: &str) -> String {
    let mut converted = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('$') {
        converted.push_str(before);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = from.find(|c| !is_of_name(c)).unwrap_or(from.len());
        if let Some(after) = from.strip_prefix('$') {
            converted.push('$');
            // What would be a variable here is none there.
            if after.starts_with('{') {
                converted.push('$');
            }
            rest = after;
        } else if end > 0 && !from.starts_with(|c: char| c.is_ascii_digit()) {
            converted.extend(["${", &from[..end], "}"]);
            rest = &from[end..];
        } else {
            converted.push('$');
            rest = from;
        }
    }
    converted + rest
}

/// Whether it has a variable, so that nobody knows what it will be.
pub fn has_variable(text: &str) -> bool {
    text.replace("$$", "").contains('$')
}

/// A duration such as "1m30s" or "500ms", in milliseconds and as mvm has it.
pub fn duration(text: &str) -> Option<String> {
    const UNITS: [(&str, u64); 5] = [
        ("ms", 1000),
        ("us", 1),
        ("s", 1_000_000),
        ("m", 60_000_000),
        ("h", 3_600_000_000),
    ];
    let mut rest = text.trim();
    let mut micros = 0_u64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (digits, from) = rest.split_at(end);
        let (name, unit) = UNITS.iter().find(|(name, _)| from.starts_with(name))?;
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut value = whole.parse::<u64>().ok()?.checked_mul(*unit)?;
        if !fraction.is_empty() {
            let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            value = value.checked_add(fraction.parse::<u64>().ok()?.checked_mul(*unit)? / scale)?;
        }
        micros = micros.checked_add(value)?;
        rest = &from[name.len()..];
    }
    let ms = micros.div_ceil(1000);
    Some(if ms.is_multiple_of(1000) {
        format!("{}s", ms / 1000)
    } else {
        format!("{ms}ms")
    })
}

/// A size such as "512m", "1.5gb" or "1048576", in whole MiB, rounded up.
pub fn mebibytes(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let unit = unit.trim().trim_end_matches("ib").trim_end_matches('b');
    let bytes: u64 = match unit {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut size = whole.parse::<u64>().ok()?.checked_mul(bytes)?;
    if !fraction.is_empty() {
        let scale = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
        size = size.checked_add(fraction.parse::<u64>().ok()?.checked_mul(bytes)? / scale)?;
    }
    Some(size.div_ceil(1 << 20))
}

/// Hundredths of a processor of "1.5" or "0.25".
pub fn cpu_percent(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), ""));
    let hundredths = format!("{fraction:0<2}");
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let rest = hundredths.get(2..)?;
    (is_number(whole) && is_number(&hundredths) && rest.trim_matches('0').is_empty())
        .then(|| {
            Some(
                whole.parse::<u64>().ok()?.checked_mul(100)?
                    + hundredths[..2].parse::<u64>().ok()?,
            )
        })?
        .filter(|percent| *percent > 0)
}

/// A name that mvm allows, made of one that may have "_", "." and capitals.
pub fn name(name: &str) -> String {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let name = name.to_lowercase().replace(|c| !is_good(c), "-");
    name.trim_matches('-').to_owned()
}

/// A file for an image: `registry.example/web/app:1.2` is `app-1.2.tar`.
pub fn image_file(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    format!("./{}.tar", last.replace([':', '@'], "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_written_as_mvm_has_them() {
        for (word, expected) in [
            ("plain", "plain"),
            ("$A-${B:-c}", "${A}-${B:-c}"),
            ("$$A $${A} $$$A", "$A $${A} $${A}"),
            ("cost: 5$", "cost: 5$"),
            ("$1 $-", "$1 $-"),
        ] {
            assert_eq!(text(word), expected);
        }
        assert!(has_variable("${A}") && has_variable("$$$A") && !has_variable("$$A"));
    }

    #[test]
    fn durations_have_one_unit() {
        for (word, expected) in [
            ("30s", Some("30s")),
            ("1m30s", Some("90s")),
            ("1h", Some("3600s")),
            ("1.5s", Some("1500ms")),
            ("500ms", Some("500ms")),
            ("10us", Some("1ms")),
            ("30", None),
            ("", None),
            ("s", None),
            ("1d", None),
        ] {
            assert_eq!(duration(word).as_deref(), expected, "{word}");
        }
    }

    #[test]
    fn sizes_are_whole_mebibytes() {
        for (word, expected) in [
            ("512m", Some(512)),
            ("1G", Some(1024)),
            ("1.5gb", Some(1536)),
            ("64MiB", Some(64)),
            ("1048577", Some(2)),
            ("100k", Some(1)),
            ("m", None),
            ("5x", None),
        ] {
            assert_eq!(mebibytes(word), expected, "{word}");
        }
    }

    #[test]
    fn processors_are_hundredths() {
        for (word, expected) in [
            ("1", Some(100)),
            ("0.5", Some(50)),
            ("1.25", Some(125)),
            ("1.250", Some(125)),
            ("0.001", None),
            ("0", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(cpu_percent(word), expected, "{word}");
        }
    }

    #[test]
    fn names_and_files_are_allowed_ones() {
        assert_eq!(name("My_App.2"), "my-app-2");
        assert_eq!(
            image_file("registry.example:5000/web/app:1.2"),
            "./app-1.2.tar"
        );
        assert_eq!(image_file("redis"), "./redis.tar");
    }
}
