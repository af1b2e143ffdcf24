//! An object of JSON whose keys stay in the order in which people read them.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Keys and values.
#[derive(Debug, Default)]
pub struct Ordered(Vec<(String, Item)>);

#[derive(Debug)]
enum Item {
    Value(Value),
    Object(Ordered),
}

impl Ordered {
    /// Adds a key, unless the value says nothing: null, "", [] or {}.
    pub fn put(&mut self, key: &str, value: impl Into<Value>) {
        let value = value.into();
        let is_nothing = match &value {
            Value::Null => true,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(entries) => entries.is_empty(),
            Value::Bool(_) | Value::Number(_) => false,
        };
        if !is_nothing {
            self.put_always(key, value);
        }
    }

    /// Adds a key.
    pub fn put_always(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.into(), Item::Value(value.into())));
    }

    /// Adds an object, unless it has no keys.
    pub fn put_object(&mut self, key: &str, object: Self) {
        if !object.0.is_empty() {
            self.0.push((key.into(), Item::Object(object)));
        }
    }
}

impl Serialize for Ordered {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, item) in &self.0 {
            match item {
                Item::Value(value) => map.serialize_entry(key, value)?,
                Item::Object(object) => map.serialize_entry(key, object)?,
            }
        }
        map.end()
    }
}
