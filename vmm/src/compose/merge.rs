//! A service with the project's defaults, as one section; each value keeps its place in the file.

use crate::app::document::{Member, Node, Value};

/// `section` with what it leaves to `defaults`.
pub fn over(defaults: &Node, section: &Node) -> Node {
    let mut merged = merge(defaults, section);
    if let Value::Object(members) = &mut merged.value {
        let is_taken_away = |member: &Member| {
            matches!(member.node.value, Value::Null) && defaults.member(&member.key).is_some()
        };
        members.retain(|member| !is_taken_away(member));
    }
    merged
}

/// Objects are put together, all else is `over` alone.
fn merge(under: &Node, over: &Node) -> Node {
    let (Value::Object(below), Value::Object(above)) = (&under.value, &over.value) else {
        return over.clone();
    };
    let mut members: Vec<Member> = above.clone();
    for member in below {
        match members.iter_mut().find(|own| own.key == member.key) {
            Some(own) => own.node = merge(&member.node, &own.node),
            None => members.push(member.clone()),
        }
    }
    Node {
        at: over.at,
        value: Value::Object(members),
    }
}

/// A section's members with these keys, and the others.
pub fn split(section: &Node, keys: &[&str]) -> (Node, Node) {
    let (with, without) = section
        .members()
        .iter()
        .cloned()
        .partition(|member| keys.contains(&member.key.as_str()));
    let section = |members| Node {
        at: section.at,
        value: Value::Object(members),
    };
    (section(with), section(without))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::json;

    /// The value as JSON has it, without spaces.
    fn text(node: &Node) -> String {
        match &node.value {
            Value::Object(members) => {
                let of = |member: &Member| format!("{:?}:{}", member.key, text(&member.node));
                let members: Vec<_> = members.iter().map(of).collect();
                format!("{{{}}}", members.join(","))
            }
            Value::List(items) => {
                let items: Vec<_> = items.iter().map(text).collect();
                format!("[{}]", items.join(","))
            }
            _ => node.describe(),
        }
    }

    fn merged(defaults: &str, section: &str) -> String {
        let parse = |text| json::parse(text).expect("JSON").document;
        let (defaults, section) = (parse(defaults), parse(section));
        text(&over(defaults.root(), section.root()))
    }

    #[test]
    fn what_a_service_says_wins_key_by_key() {
        for (defaults, section, expected) in [
            (r#"{"a":1}"#, r#"{"b":2}"#, r#"{"b":2,"a":1}"#),
            (r#"{"a":1}"#, r#"{"a":2}"#, r#"{"a":2}"#),
            (
                r#"{"a":{"b":1,"c":2}}"#,
                r#"{"a":{"c":3,"d":4}}"#,
                r#"{"a":{"c":3,"d":4,"b":1}}"#,
            ),
            (r#"{"a":[1,2]}"#, r#"{"a":[3]}"#, r#"{"a":[3]}"#),
            (r#"{"a":"no"}"#, r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
            (r#"{"a":{"b":1}}"#, r#"{"a":"no"}"#, r#"{"a":"no"}"#),
        ] {
            assert_eq!(merged(defaults, section), expected);
        }
    }

    #[test]
    fn null_takes_a_default_away_and_is_kept_elsewhere() {
        assert_eq!(merged(r#"{"a":{"b":1}}"#, r#"{"a":null}"#), "{}");
        assert_eq!(
            merged(r#"{"a":{"b":1}}"#, r#"{"a":{"b":null}}"#),
            r#"{"a":{"b":null}}"#
        );
        assert_eq!(merged("{}", r#"{"a":null}"#), r#"{"a":null}"#);
    }

    #[test]
    fn a_section_is_split_by_its_keys() {
        let document = json::parse(r#"{"a":1,"b":2,"c":3}"#)
            .expect("JSON")
            .document;
        let (with, without) = split(document.root(), &["b"]);
        assert_eq!(
            (text(&with), text(&without)),
            (r#"{"b":2}"#.into(), r#"{"a":1,"c":3}"#.into())
        );
    }
}
