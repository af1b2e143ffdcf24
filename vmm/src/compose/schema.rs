//! The JSON Schema (2020-12) of `compose.json`: that of an app.json in each service.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use serde_json::{Map, Value, json};

use super::{Project, keys};
use crate::app::App;
use crate::app::schema::{fit, join_lines};

impl Project {
    /// The schema of the file.
    pub fn schema() -> Schema {
        let settings = SchemaSettings::draft2020_12().for_deserialize();
        let mut generator = settings.into_generator();
        let app = generator.subschema_for::<App>();
        let own = generator.subschema_for::<keys::Service>();
        let mut schema = generator.into_root_schema_for::<keys::File>();
        if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
            let [app, own] = [&app, &own].map(|reference| take(definitions, reference));
            let (section, service) = (section(app.clone(), None), section(app, Some(own)));
            definitions.insert("Section".into(), section);
            definitions.insert("Service".into(), service);
        }
        if let Some(services) = schema.pointer_mut("/properties/services") {
            services["additionalProperties"] = json!({ "$ref": "#/$defs/Service" });
        }
        RecursiveTransform(fit).transform(&mut schema);
        join_lines(&mut schema);
        schema.insert("title".into(), "compose.json of mvm".into());
        if let Some(properties) = schema.get_mut("properties") {
            let description = "This schema's address, for editors.";
            properties["$schema"] = json!({ "type": "string", "description": description });
        }
        schema
    }
}

/// The definition that `reference` leads to, which nothing else names.
fn take(definitions: &mut Map<String, Value>, reference: &Schema) -> Value {
    let path = reference
        .get("$ref")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let name = path.rsplit('/').next().unwrap_or_default();
    definitions.remove(name).unwrap_or_default()
}

/// The keys of an app.json, of which none is needed here, and those of `own`. A null takes a default
/// away.
fn section(mut app: Value, own: Option<Value>) -> Value {
    let mut properties = app["properties"].take();
    if let Some(properties) = properties.as_object_mut() {
        properties.remove("name");
        if own.is_some() {
            for schema in properties.values_mut() {
                *schema = json!({ "anyOf": [schema.take(), { "type": "null" }] });
            }
        }
        let mut own = own.unwrap_or_default();
        if let Some(own) = own["properties"].as_object_mut() {
            properties.append(own);
        }
    }
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}
