//! Words of a compose file as mvm has them: variables, durations, sizes, names.

/// A text with its variables as `compose.json` has them: `$A` is `${A}`, and `$$` a `$`. One that is
/// not set is empty there, and an error here, so it is written as one that may be empty.
pub fn text(text: &str) -> String {
    let mut converted = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('$') {
        converted.push_str(before);
        let (brace, from_name) = match from.strip_prefix('{') {
            Some(inner) => ("{", inner),
            None => ("", from),
        };
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = from_name
            .find(|c| !is_of_name(c))
            .unwrap_or(from_name.len());
        let (name, after) = from_name.split_at(end);
        let is_name = !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit());
        rest = if let Some(after) = from.strip_prefix('$') {
            converted.push('$');
            // What would be a variable here is none there.
            if after.starts_with('{') {
                converted.push('$');
            }
            after
        } else if !brace.is_empty() {
            converted.extend(["${", name]);
            if is_name && after.starts_with('}') {
                converted.push_str(":-");
            }
            after
        } else if is_name {
            converted.extend(["${", name, ":-}"]);
            after
        } else {
            converted.push('$');
            from
        };
    }
    converted + rest
}

/// Parts between colons, but for those within the braces of a variable.
pub fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((part, behind)) = split_once(rest, &[':']) {
        parts.push(part);
        rest = behind;
    }
    parts.push(rest);
    parts
}

/// What is before and behind the first of `separators`, but for those within the braces of a variable.
pub fn split_once<'a>(text: &'a str, separators: &[char]) -> Option<(&'a str, &'a str)> {
    let mut depth = 0_usize;
    let at = text.find(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && separators.contains(&c)
    })?;
    let (before, from) = text.split_at(at);
    Some((before, &from[1..]))
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

/// A file for an image: `registry.example/web/app:1.2` is `app-1.2.tar`. Of a variable counts what it
/// is by default, else its name; of an image with a tag, no digest.
pub fn image_file(image: &str) -> String {
    let image = without_variables(image);
    let last = image.rsplit('/').next().unwrap_or(&image);
    let name = match last.split_once('@') {
        Some((tagged, _)) if tagged.contains(':') => tagged,
        _ => last,
    };
    format!("./{}.tar", name.replace([':', '@'], "-"))
}

/// The text with the default of each variable in its place, or with its name where it has none.
fn without_variables(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once("${") {
        plain.push_str(before);
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let end = from.find(|c| !is_of_name(c)).unwrap_or(from.len());
        let (name, form) = from.split_at(end);
        let close = end_of_form(form);
        let word = form[..close].trim_start_matches(':').strip_prefix('-');
        match word.map(without_variables).filter(|word| !word.is_empty()) {
            Some(word) => plain.push_str(&word),
            None => plain.push_str(&name.to_lowercase()),
        }
        rest = form.get(close + 1..).unwrap_or_default();
    }
    plain + rest
}

/// Where the brace is that closes a variable, or the end.
fn end_of_form(form: &str) -> usize {
    let mut depth = 0_usize;
    for (at, byte) in form.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return at,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    form.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_written_as_mvm_has_them() {
        for (word, expected) in [
            ("plain", "plain"),
            ("$A-${B:-c}", "${A:-}-${B:-c}"),
            ("${A}${B?no}${C:-${D}}", "${A:-}${B?no}${C:-${D:-}}"),
            ("$$A $${A} $$$A", "$A $${A} $${A:-}"),
            ("cost: 5$", "cost: 5$"),
            ("$1 $-", "$1 $-"),
        ] {
            assert_eq!(text(word), expected);
        }
        assert!(has_variable("${A}") && has_variable("$$$A") && !has_variable("$$A"));
    }

    #[test]
    fn what_separates_is_outside_of_variables() {
        assert_eq!(split("a:${B:-c:${D:-e}}:f"), ["a", "${B:-c:${D:-e}}", "f"]);
        assert_eq!(split(":a::"), ["", "a", "", ""]);
        let once = |text| split_once(text, &[':', '=']);
        assert_eq!(once("${A:-=}=b:c"), Some(("${A:-=}", "b:c")));
        assert_eq!(once("v6:::1"), Some(("v6", "::1")));
        assert_eq!(once("${A:-b}"), None);
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
        for (image, file) in [
            ("redis", "./redis.tar"),
            ("redis:7@sha256:00ff", "./redis-7.tar"),
            ("redis@sha256:00ff", "./redis-sha256-00ff.tar"),
            ("${IMAGE:-org/app:1}", "./app-1.tar"),
            ("org/app:${VERSION:-${MAIN:-2}-x}", "./app-2-x.tar"),
            ("org/app:${VERSION}", "./app-version.tar"),
        ] {
            assert_eq!(image_file(image), file, "{image}");
        }
    }
}
