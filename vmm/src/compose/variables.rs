//! `${NAME}` in the strings of a `compose.json`: variables of whoever carries it out.
//!
//! The forms are those of a shell: `${A}`, `${A:-word}`, `${A-word}`, `${A:?message}`, `${A?message}`,
//! `${A:+word}`, `${A+word}`; with the colon an empty value is as none. A word may have such forms in
//! it. `$${` is `${`; a `$` before anything else is a `$`. A variable that is not set is an error:
//! an empty word in its place starts the wrong thing.

use std::collections::BTreeMap;

use super::texts::Fault;
use crate::app::document::{Node, Value};
use crate::app::quote::quoted;

/// Variables by their names.
pub type Variables = BTreeMap<String, String>;

/// Forms inside each other; nobody can read more.
const MAX_DEPTH: u32 = 8;

/// Bytes of a string with its variables, as of one argument of a program.
const MAX_SIZE: usize = crate::app::MAX_ARG_SIZE;

/// Fills in the variables of each string in the tree.
pub(super) fn fill_in(node: &mut Node, variables: &Variables, faults: &mut Vec<Fault>) {
    match &mut node.value {
        Value::String(text) if text.contains("${") => match substitute(text, variables) {
            Ok(filled) => *text = filled,
            Err(message) => faults.push(Fault {
                at: node.at,
                message,
            }),
        },
        Value::List(items) => {
            for item in items {
                fill_in(item, variables, faults);
            }
        }
        Value::Object(members) => {
            for member in members {
                fill_in(&mut member.node, variables, faults);
            }
        }
        _ => {}
    }
}

/// The text with its variables filled in.
///
/// # Errors
/// One is not set, or what looks like one is none.
pub fn substitute(text: &str, variables: &Variables) -> Result<String, String> {
    filled_in(text, variables, 0)
}

fn filled_in(text: &str, variables: &Variables, depth: u32) -> Result<String, String> {
    if depth > MAX_DEPTH {
        return Err(format!(
            "has variables more than {MAX_DEPTH} deep in each other"
        ));
    }
    let mut filled = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(before) = before.strip_suffix('$') {
            filled.push_str(before);
            filled.push_str("${");
            rest = &from[2..];
            continue;
        }
        filled.push_str(before);
        let end = end_of(from)
            .ok_or_else(|| format!("{} has no \"}}\"; \"$${{\" is \"${{\"", quoted(from)))?;
        filled.push_str(&value_of(&from[2..end], variables, depth)?);
        rest = &from[end + 1..];
        if filled.len() > MAX_SIZE {
            return Err(format!(
                "must be at most {MAX_SIZE} bytes with its variables"
            ));
        }
    }
    filled.push_str(rest);
    Ok(filled)
}

/// Where the "}" is that belongs to the "${" at the beginning.
fn end_of(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if at > 0 && text.as_bytes().get(at - 1) == Some(&b'$') => depth += 1,
            b'}' if depth == 1 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What stands for the form that has `inner` between its braces.
fn value_of(inner: &str, variables: &Variables, depth: u32) -> Result<String, String> {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = inner.find(|c| !is_of_name(c)).unwrap_or(inner.len());
    let (name, form) = inner.split_at(end);
    let starts_well = name.starts_with(|c: char| !c.is_ascii_digit());
    let (is_strict, form) = match form.strip_prefix(':') {
        Some(form) => (true, form),
        None => (false, form),
    };
    let mut value = variables.get(name);
    if is_strict {
        value = value.filter(|value| !value.is_empty());
    }
    let word = form.get(1..).unwrap_or_default();
    match (form.chars().next(), value) {
        _ if !starts_well => Err(not_a_form(inner)),
        (None, Some(value)) if !is_strict => Ok(value.clone()),
        (None, None) if !is_strict => Err(format!(
            "the variable {name} is not set; \"${{{name}:-word}}\" has a word for that"
        )),
        (Some('-' | '?'), Some(value)) => Ok(value.clone()),
        (Some('-'), None) | (Some('+'), Some(_)) => filled_in(word, variables, depth + 1),
        (Some('+'), None) => Ok(String::new()),
        (Some('?'), None) => {
            let why = filled_in(word, variables, depth + 1)?;
            let why = if why.is_empty() { "is not set" } else { &why };
            Err(format!("the variable {name}: {why}"))
        }
        _ => Err(not_a_form(inner)),
    }
}

fn not_a_form(inner: &str) -> String {
    let shown = quoted(&format!("${{{inner}}}"));
    format!(
        "{shown} is no variable; there are ${{A}}, ${{A:-word}}, ${{A:?message}} and ${{A:+word}}, \
         and \"$${{\" is \"${{\""
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let variables = [("A", "1"), ("EMPTY", ""), ("LONG_2", "x y")];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        substitute(text, &variables.into())
    }

    #[test]
    fn variables_have_the_forms_of_a_shell() {
        for (text, expected) in [
            ("${A}", "1"),
            ("a-${A}${LONG_2}-b", "a-1x y-b"),
            ("${A:-2}${A-2}", "11"),
            ("${NONE:-2}${NONE-3}", "23"),
            ("${EMPTY:-2}|${EMPTY-3}", "2|"),
            ("${NONE:-${A}-${NONE-x}}", "1-x"),
            ("${A:+set}${NONE:+set}${EMPTY+set}${EMPTY:+set}", "setset"),
            ("${NONE:-}", ""),
            ("${NONE:-a:b-c?d}", "a:b-c?d"),
            ("${A:?no}", "1"),
            ("$A $$ $${A} $", "$A $$ ${A} $"),
            ("{} }", "{} }"),
        ] {
            assert_eq!(filled(text), Ok(expected.into()), "{text}");
        }
    }

    #[test]
    fn what_is_no_variable_or_not_set_is_an_error() {
        for (text, expected) in [
            (
                "${NONE}",
                "the variable NONE is not set; \"${NONE:-word}\" has a word for that",
            ),
            ("${EMPTY:?give one}", "the variable EMPTY: give one"),
            ("${NONE?}", "the variable NONE: is not set"),
            ("${A", "\"${A\" has no \"}\"; \"$${\" is \"${\""),
        ] {
            assert_eq!(filled(text), Err(expected.into()), "{text}");
        }
        for text in ["${}", "${1}", "${A%x}", "${#A}", "${A:}", "${A b}"] {
            let error = filled(text).expect_err(text);
            assert!(error.contains("is no variable"), "{error}");
        }
    }

    #[test]
    fn depth_and_size_are_bounded() {
        let deep = "${NONE:-".repeat(99) + &"}".repeat(99);
        assert!(filled(&deep).is_err());
        let variables = [("A".into(), "x".repeat(MAX_SIZE))].into();
        assert!(substitute("${A}${A}", &variables).is_err());
    }
}
