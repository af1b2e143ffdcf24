//! The parser against `serde_json`, and its own bounds.

use proptest::prelude::*;
use serde_json::json;

use super::super::document::{Node, Value};
use super::*;

/// The tree as `serde_json` would give it.
fn plain(node: &Node) -> serde_json::Value {
    match &node.value {
        Value::Null => json!(null),
        Value::Bool(value) => json!(value),
        Value::Number(number) => json!(number),
        Value::String(text) => json!(text),
        Value::List(items) => items.iter().map(plain).collect(),
        Value::Object(members) => members
            .iter()
            .map(|member| (member.key.clone(), plain(&member.node)))
            .collect(),
    }
}

fn parsed(text: &str) -> Option<serde_json::Value> {
    parse(text).ok().map(|parsed| plain(parsed.document.root()))
}

/// Pieces of JSON, good and bad, from which texts are put together.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        " ",
        "\n",
        "\"a\"",
        "\"\"",
        "\"\\u00e9\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud83d\"",
        "\"\\ude00x\"",
        "\"\\u12\"",
        "\"\\/\\b\\f\\n\\r\\t\\\\\\\"\"",
        "\"\t\"",
        "\"\\x\"",
        "\"",
        "é",
        "0",
        "-0",
        "01",
        "1.5",
        "1.",
        ".5",
        "-",
        "1e3",
        "1E+2",
        "1e",
        "1e400",
        "-1e-400",
        "18446744073709551616",
        "true",
        "false",
        "null",
        "nul",
        "tru e",
        "//",
        "'",
        "\u{feff}",
    ])
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(|value| json!(value)),
        any::<i64>().prop_map(|value| json!(value)),
        any::<u64>().prop_map(|value| json!(value)),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(|value| json!(value)),
        any::<String>().prop_map(|value| json!(value)),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(|items| json!(items)),
            prop::collection::btree_map(any::<String>(), inner, 0..6)
                .prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #[test]
    fn a_good_text_is_read_as_serde_json_reads_it(value in any_json(), pretty: bool) {
        let text = if pretty { format!("{value:#}") } else { value.to_string() };
        prop_assert_eq!(parsed(&text), serde_json::from_str(&text).ok());
    }

    #[test]
    fn a_text_is_refused_if_and_only_if_serde_json_refuses_it(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        let theirs = serde_json::from_str::<serde_json::Value>(&text).ok();
        prop_assert_eq!(parsed(&text).is_some(), theirs.is_some(), "{}", text);
    }

    #[test]
    fn an_error_is_one_line_at_a_place_in_the_text(pieces in prop::collection::vec(piece(), 0..12)) {
        let text = pieces.concat();
        let error = parse(&text).err();
        let is_fine = |error: &SyntaxError| text.is_char_boundary(error.at) && !error.message.contains('\n');
        prop_assert!(error.as_ref().is_none_or(is_fine), "{:?}", error);
    }
}

#[test]
fn nesting_ends_at_the_limit() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    let error = parse(&nested(MAX_DEPTH + 1)).expect_err("too deep");
    assert_eq!(error.at, MAX_DEPTH);
}

#[test]
fn the_number_of_values_ends_at_the_limit() {
    // The list itself is a value too.
    let list = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    assert!(parse(&list(MAX_VALUES - 1)).is_ok());
    assert!(parse(&list(MAX_VALUES)).is_err());
}

#[test]
fn of_a_duplicate_key_the_first_value_counts() {
    let parsed = parse(r#"{"a": 1, "b": {"a": 2}, "\u0061": 3}"#).expect("only a duplicate");
    assert_eq!(
        plain(parsed.document.root()),
        json!({"a": 1, "b": {"a": 2}})
    );
    assert_eq!(parsed.duplicates.len(), 1);
    assert_eq!(parsed.duplicates[0].at, 24);
}
