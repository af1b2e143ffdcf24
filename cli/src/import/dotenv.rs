//! Files of variables as Docker Compose reads them: quotes, values of several lines, comments, and
//! variables in values.
//!
//! The one thing to know: a value is told as `compose.json` would have it, so that a variable in it
//! that the file does not set is looked for by whoever fills those in.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use vmm::compose::{Variables, substitute};

use super::words;

/// Names and values, in order. What has a name alone has its value from elsewhere.
///
/// # Errors
/// A line is no variable; begins with its number.
pub fn parse(text: &str) -> Result<Vec<(String, Option<String>)>> {
    let mut known = Variables::new();
    let mut entries = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(entries);
        }
        let (line, behind) = rest.split_once('\n').unwrap_or((rest, ""));
        if line.starts_with('#') {
            rest = behind;
            continue;
        }
        let number = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let (name, value, behind) =
            entry(rest, line, behind).with_context(|| number.to_string())?;
        rest = behind;
        let value = value.map(|value| with_known(&value, &known));
        if let Some(value) = &value {
            // As text, which is what those that follow have of it.
            known.insert(name.clone(), value.replace("$${", "${"));
        }
        entries.push((name, value));
    }
}

/// The variable at the beginning, and what is behind it.
fn entry<'a>(
    rest: &'a str,
    line: &'a str,
    behind: &'a str,
) -> Result<(String, Option<String>, &'a str)> {
    let start = line.strip_prefix("export ").unwrap_or(line);
    let end = start.find(['=', ':']).unwrap_or(start.len());
    let name = without_comment(&start[..end]).trim();
    let is_word = !name.is_empty() && !name.contains(char::is_whitespace);
    ensure!(
        is_word,
        "{:?} is no name of a variable",
        start[..end].trim()
    );
    if end == start.len() {
        return Ok((name.into(), None, behind));
    }
    let at = line.len() - start.len() + end + 1;
    let raw = line[at..].trim_start_matches([' ', '\t']);
    let Some(quote) = raw.chars().next().filter(|c| ['\'', '"'].contains(c)) else {
        let value = words::text(without_comment(raw).trim());
        return Ok((name.into(), Some(value), behind));
    };
    let inner = &rest[line.len() - raw.len() + 1..];
    let end =
        end_of_quoted(inner, quote).with_context(|| format!("{name} has no closing {quote}"))?;
    let (tail, behind) = match inner[end + 1..].split_once('\n') {
        Some((tail, behind)) => (tail, behind),
        None => (&inner[end + 1..], ""),
    };
    let tail = without_comment(tail).trim();
    ensure!(tail.is_empty(), "{tail:?} is behind the quotes of {name}");
    let value = match quote {
        '"' => unescaped(&inner[..end]),
        _ => inner[..end].replace("${", "$${"),
    };
    Ok((name.into(), Some(value), behind))
}

/// What is before a "#" that begins a word.
fn without_comment(text: &str) -> &str {
    let starts = text.match_indices('#').map(|(at, _)| at);
    let mut starts = starts.filter(|at| text[..*at].chars().last().is_none_or(char::is_whitespace));
    starts.next().map_or(text, |at| &text[..at])
}

/// Where the quote is that closes a value. In double ones "\" takes the next character's meaning away.
fn end_of_quoted(text: &str, quote: char) -> Option<usize> {
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' && quote == '"' {
            is_escaped = true;
        } else if c == quote {
            return Some(at);
        }
    }
    None
}

/// What stands between double quotes.
fn unescaped(text: &str) -> String {
    let mut value = String::new();
    let mut rest = text;
    while let Some((before, from)) = rest.split_once('\\') {
        value.push_str(&words::text(before));
        let mut characters = from.chars();
        match characters.next() {
            Some('n') => value.push('\n'),
            Some('r') => value.push('\r'),
            Some('t') => value.push('\t'),
            // No variable begins with it.
            Some('$') if characters.as_str().starts_with('{') => value.push_str("$$"),
            Some(c @ ('"' | '\\' | '$')) => value.push(c),
            Some(c) => value.extend(['\\', c]),
            None => value.push('\\'),
        }
        rest = characters.as_str();
    }
    value + &words::text(rest)
}

/// The value with the variables of earlier lines, if all of its variables are such.
fn with_known(value: &str, known: &Variables) -> String {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = |form: &str| {
        let end = form.find(|c| !is_of_name(c)).unwrap_or(form.len());
        form[..end].to_owned()
    };
    let mut forms = value.split("${").skip(1);
    if !forms.all(|form| known.contains_key(&name(form))) {
        return value.into();
    }
    let filled = substitute(value, known);
    filled.map_or_else(|_| value.into(), |filled| filled.replace("${", "$${"))
}

/// The variables of a file that the environment knows by `here`.
///
/// # Errors
/// As [`parse`].
pub fn variables(text: &str, here: &Variables) -> Result<BTreeMap<String, String>> {
    let mut found = Variables::new();
    for (name, value) in parse(text)? {
        let all: Variables = found.clone().into_iter().chain(here.clone()).collect();
        let value = match value {
            Some(value) => substitute(&value, &all).map_err(anyhow::Error::msg)?,
            None => all.get(&name).cloned().unwrap_or_default(),
        };
        found.insert(name, value);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        let entries = parse(text).map_err(|error| format!("{error:#}"))?;
        let entries = entries.into_iter();
        Ok(entries
            .map(|(name, value)| (name, value.unwrap_or_else(|| "-".into())))
            .collect())
    }

    #[test]
    fn values_are_what_docker_compose_makes_of_them() {
        for (line, expected) in [
            ("A=1", "1"),
            ("A= two words  ", "two words"),
            ("export A=1", "1"),
            ("A: 1", "1"),
            ("A=1 # a comment", "1"),
            ("A=1#2", "1#2"),
            ("A=# nothing", ""),
            ("A=", ""),
            ("A=\"b # c\" # d", "b # c"),
            ("A='$B ${C}'", "$B $${C}"),
            (
                "A=\"b\\n\\\"c\\\" \\$D \\${E} \\x\"",
                "b\n\"c\" $D $${E} \\x",
            ),
            ("A=\"one\ntwo\"", "one\ntwo"),
            ("A=$B-${C:-d}", "${B:-}-${C:-d}"),
            ("A\n", "-"),
        ] {
            let expected = vec![("A".to_owned(), expected.to_owned())];
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn earlier_lines_are_known_to_later_ones() {
        let text = "# all\n\nA=1\nB=\"x\ny\"\nC=${A}-$B\nD=${A}${E}\nF='${A}'\nG=$F\n";
        let expected = [
            ("A", "1"),
            ("B", "x\ny"),
            ("C", "1-x\ny"),
            ("D", "${A:-}${E:-}"),
            ("F", "$${A}"),
            ("G", "$${A}"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(parsed(text), Ok(expected.to_vec()));
        let here = Variables::from([("E".into(), "e".into())]);
        let found = variables(text, &here).unwrap();
        assert_eq!((&*found["D"], &*found["F"]), ("1e", "${A}"));
    }

    #[test]
    fn what_is_no_variable_is_told_with_its_line() {
        for (text, expected) in [
            ("A=1\n=2", "2: \"\" is no name of a variable"),
            ("\nA b=1", "2: \"A b\" is no name of a variable"),
            ("A=\"b\nc", "1: A has no closing \""),
            ("A='b\nc'\nB='b'c", "3: \"c\" is behind the quotes of B"),
        ] {
            assert_eq!(parsed(text), Err(expected.into()), "{text}");
        }
    }
}
