//! The manual page of app.json, from its schema: what types and their comments say, it says.
//!
//! Left out: conflicts between fields, which `mvm check` tells of a file.

use roff::{Roff, bold, italic, roman};
use serde_json::{Map, Value};
use vmm::app::App;

/// A file that shows what most have.
const EXAMPLE: [&str; 8] = [
    "{",
    "  \"name\": \"web\",",
    "  \"app\": { \"entrypoint\": \"/nix/store/...-web/bin/web\", \"args\": [\"--port\", \"8080\"] },",
    "  \"memory\": \"512M\",",
    "  \"shares\": [{ \"source\": \"./www\", \"mountPoint\": \"/srv\" }],",
    "  \"ports\": [\"8080:8080\"],",
    "  \"restart\": \"on-failure\"",
    "}",
];

/// What is written behind a field that an object must have.
const REQUIRED: &str = "required";

/// The page's source.
pub fn page() -> String {
    let schema = Value::from(App::schema());
    let mut page = Roff::new();
    let title = [
        "mvm-app.json",
        "5",
        "",
        concat!("mvm ", env!("CARGO_PKG_VERSION")),
    ];
    page.control("TH", title);
    page.control("SH", ["NAME"]);
    page.text([roman("mvm-app.json - a program and the machine it runs in")]);
    page.control("SH", ["SYNOPSIS"]);
    page.text([bold("mvm run "), italic("app.json")]);
    page.control("SH", ["DESCRIPTION"]);
    page.text([
        roman(
            "A JSON object in UTF-8. A key that is not below is an error, unless it begins with ",
        ),
        bold("x-"),
        roman(". Relative paths of the host are relative to the file's folder. "),
        bold("mvm check"),
        roman(" says all that is wrong with a file, each with its line, and "),
        bold("mvm schema"),
        roman(" prints the JSON Schema that this page is made from."),
    ]);
    page.control("SH", ["FIELDS"]);
    Fields { root: &schema }.of(&schema, "", &mut page);
    page.control("SH", ["EXAMPLE"]);
    page.control("nf", []);
    for line in EXAMPLE {
        page.text([roman(line)]);
    }
    page.control("fi", []);
    page.control("SH", ["SEE ALSO"]);
    let others = ["mvm", "mvm-run", "mvm-check", "mvm-schema"];
    page.text([roman(others.map(|page| format!("{page}(1)")).join(", "))]);
    page.render()
}

/// Fields of objects, and of those in them.
struct Fields<'a> {
    root: &'a Value,
}

impl<'a> Fields<'a> {
    fn of(&self, object: &'a Value, prefix: &str, page: &mut Roff) {
        let required = object["required"].as_array();
        for (key, field) in object["properties"].as_object().into_iter().flatten() {
            let path = format!("{prefix}{key}");
            let is_required = required.is_some_and(|keys| keys.iter().any(|one| one == key));
            self.entry(&path, field, is_required, page);
            self.within(field, &path, page);
        }
    }

    /// What is said of one field.
    fn entry(&self, path: &str, field: &'a Value, is_required: bool, page: &mut Roff) {
        let mut facts = vec![self.kind(field)];
        facts.extend(is_required.then(|| REQUIRED.to_owned()));
        // That of an object is those of its fields.
        let default = field.get("default").filter(|default| !default.is_object());
        facts.extend(default.map(|default| format!("default {default}")));
        page.control("TP", []);
        page.text([bold(path), roman(format!(" ({})", facts.join("; ")))]);
        let description = field["description"].as_str().unwrap_or_default();
        page.text([roman(description)]);
        for (value, words) in self.values(field) {
            page.control("RS", []);
            page.control("TP", []);
            page.text([bold(value)]);
            page.text([roman(words)]);
            page.control("RE", []);
        }
    }

    /// The fields of the objects that a field holds.
    fn within(&self, field: &'a Value, path: &str, page: &mut Roff) {
        for schema in self.forms(field) {
            if schema.get("properties").is_some() {
                self.of(schema, &format!("{path}."), page);
            }
            if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
                self.within(items, &format!("{path}[]"), page);
            }
            let named = schema.get("additionalProperties");
            if let Some(named) = named.filter(|named| named.is_object()) {
                self.within(named, &format!("{path}.NAME"), page);
            }
        }
    }

    /// What a value may look like, one after another.
    fn forms(&self, schema: &'a Value) -> Vec<&'a Value> {
        if let Some(place) = schema["$ref"].as_str() {
            let found = self.root.pointer(place.trim_start_matches('#'));
            return found.map_or(Vec::new(), |found| self.forms(found));
        }
        let of_key = |key: &str| schema[key].as_array();
        // An object's are rules about its keys.
        let choices = of_key("anyOf").or_else(|| of_key("oneOf"));
        match choices.filter(|_| schema.get("properties").is_none()) {
            Some(choices) => choices.iter().flat_map(|one| self.forms(one)).collect(),
            None => vec![schema],
        }
    }

    /// The words for what a value may look like.
    fn kind(&self, schema: &'a Value) -> String {
        let mut words: Vec<String> = Vec::new();
        for form in self.forms(schema).into_iter().filter_map(Value::as_object) {
            for word in self.words(form) {
                if !words.contains(&word) {
                    words.push(word);
                }
            }
        }
        words.join(" or ")
    }

    fn words(&self, form: &'a Map<String, Value>) -> Vec<String> {
        if let Some(value) = form.get("const") {
            return vec![value.to_string()];
        }
        if let Some(values) = form.get("enum").and_then(Value::as_array) {
            return values.iter().map(Value::to_string).collect();
        }
        let kind = form.get("type").and_then(Value::as_str).unwrap_or("any");
        let items = form.get("items").filter(|items| items.is_object());
        vec![match (kind, form.get("minimum"), form.get("maximum")) {
            ("integer" | "number", Some(least), Some(most)) => {
                format!("{kind} from {least} to {most}")
            }
            ("array", ..) => match items {
                Some(items) => format!("list of {}", self.kind(items)),
                None => "list".into(),
            },
            ("boolean", ..) => "true or false".into(),
            ("object", ..) if form.get("properties").is_none() => "object by name".into(),
            _ => kind.into(),
        }]
    }

    /// The words that a value may be, and what each means.
    fn values(&self, schema: &'a Value) -> Vec<(String, &'a str)> {
        let forms = self.forms(schema).into_iter();
        forms
            .filter_map(|form| Some((form.get("const")?, form["description"].as_str()?)))
            .map(|(value, words)| (value.to_string(), words))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each key of each object of the schema.
    fn keys(schema: &Value, found: &mut Vec<String>) {
        match schema {
            Value::Object(object) => {
                // Rules about keys name them, too.
                let keys_here = object.get("properties").and_then(Value::as_object);
                found.extend(keys_here.into_iter().flat_map(Map::keys).cloned());
                for (key, value) in object {
                    if !["if", "then", "else", "not", "oneOf", "default"].contains(&key.as_str()) {
                        keys(value, found);
                    }
                }
            }
            Value::Array(list) => list.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }

    #[test]
    fn each_field_is_in_the_page_of_the_format() {
        let page = page();
        let mut all = Vec::new();
        keys(&Value::from(App::schema()), &mut all);
        assert!(all.len() > 50, "{all:?}");
        for key in all {
            let is_there = page.lines().any(|line| {
                let name = line
                    .strip_prefix("\\fB")
                    .and_then(|line| line.split_once("\\fR"));
                name.is_some_and(|(name, _)| {
                    name.replace('\\', "").rsplit('.').next() == Some(&key)
                })
            });
            assert!(is_there, "{key}: {page}");
        }
    }

    #[test]
    fn a_field_is_told_with_its_form_its_default_and_its_words() {
        let page = page().replace('\\', "");
        for words in [
            "fBnamefR (string; required)",
            "fBvcpusfR (integer from 1 to 64; default 1)",
            "fBapp.entrypointfR (string or list of string)",
            "fBapp.ttyfR (true or false or \"auto\"; default \"auto\")",
            "fBshares[].mountPointfR (string; required)",
            "fBsecrets.NAME.ownerfR (string",
            "fBlabelsfR (object by name)",
            "fB\"on-failure\"fR",
        ] {
            assert!(page.contains(words), "{words}: {page}");
        }
    }
}
