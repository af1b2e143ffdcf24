//! The JSON Schema (2020-12) of `app.json`, made from the types.
//!
//! It says all that a schema can; conflicts between values are left to [`App::check`].

use schemars::transform::{RecursiveTransform, Transform, transform_subschemas};
use schemars::{Schema, SchemaGenerator, generate::SchemaSettings, json_schema};
use serde_json::json;

use super::{
    App, Console, Kernel, MAX_ARG_SIZE, Policy, Restart, Store, StoreMode, System, short_form,
};

impl App {
    /// The schema of the file.
    pub fn schema() -> Schema {
        let settings = SchemaSettings::draft2020_12().for_deserialize();
        let mut schema = settings.into_generator().into_root_schema_for::<Self>();
        RecursiveTransform(fit).transform(&mut schema);
        join_lines(&mut schema);
        let program = json!({ "required": ["entrypoint"] });
        schema.insert(
            "oneOf".into(),
            json!([
                { "required": ["app"], "properties": { "app": program, "image": false } },
                { "required": ["system"] },
                { "required": ["image"] },
            ]),
        );
        schema.insert("title".into(), "app.json of mvm".into());
        if let Some(properties) = schema
            .get_mut("properties")
            .and_then(|value| value.as_object_mut())
        {
            let description = "This schema's address, for editors.";
            properties.insert(
                "$schema".into(),
                json!({ "type": "string", "description": description }),
            );
        }
        schema
    }
}

/// Each section takes keys of the user's own; and a number's Rust type is nobody's business.
pub fn fit(schema: &mut Schema) {
    schema.remove("format");
    if schema.get("additionalProperties") == Some(&json!(false)) {
        schema.insert("patternProperties".into(), json!({ "^x-": true }));
    }
}

/// Doc comments are wrapped for source code; a description is not.
pub fn join_lines(schema: &mut Schema) {
    if let Some(serde_json::Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
    transform_subschemas(&mut join_lines, schema);
}

pub(super) fn kernel(generator: &mut SchemaGenerator) -> Schema {
    let path = host_path(generator);
    short_form::schema::<Kernel>(generator, &path)
}

pub(super) fn store(generator: &mut SchemaGenerator) -> Schema {
    let mode = generator.subschema_for::<StoreMode>();
    short_form::schema::<Store>(generator, &mode)
}

pub(super) fn system(generator: &mut SchemaGenerator) -> Schema {
    let path = store_path(generator);
    short_form::schema::<System>(generator, &path)
}

/// A path in the store.
pub(super) fn store_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^(?!.*/\.\.(/|$))/nix/store/[0-9a-z]{32}-[^\u0000]+$" })
}

/// "file" alone would lack its path.
pub(super) fn console(generator: &mut SchemaGenerator) -> Schema {
    short_form::schema::<Console>(generator, &json_schema!({ "enum": ["none", "stdio"] }))
}

pub(super) fn restart(generator: &mut SchemaGenerator) -> Schema {
    let policy = generator.subschema_for::<Policy>();
    short_form::schema::<Restart>(generator, &policy)
}

/// A path on the host.
pub(super) fn host_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "pattern": r"^(?!~(/|$))[^\u0000]*$" })
}

/// An absolute path in the machine.
pub(super) fn guest_path(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": r"^(?!.*/\.\.(/|$))/[^\u0000]*$" })
}

/// An absolute path in the machine that is not the machine's own.
pub(super) fn mount_point(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "pattern": r"^(?!.*/\.\.(/|$))(?!/(proc|sys|dev)(/|$))/[^\u0000]*[^/\u0000]/*$",
    })
}

/// A string that goes to `execve`; its length is in characters here, which are at most as many as
/// its bytes.
pub(super) fn argument() -> Schema {
    json_schema!({ "type": "string", "maxLength": MAX_ARG_SIZE - 1, "pattern": r"^[^\u0000]*$" })
}
