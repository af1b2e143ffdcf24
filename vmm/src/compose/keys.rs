//! The keys of `compose.json` that are not those of an app.json.

use std::collections::BTreeMap;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::{DEFAULT_NETWORK, MAX_SCALE, list_or_map};
use crate::app::program::one_or_more;
use crate::app::short_form::Short;
use crate::app::{VERSION, VolumeSize, check, count, short_form};

/// The whole file.
#[derive(DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "sections are read once more, as what they are")]
pub struct File {
    /// Version of this format.
    #[serde(default = "version", deserialize_with = "count::version")]
    #[schemars(extend("const" = VERSION))]
    pub version: u32,
    /// The project's name. By default that of the file's folder.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = check::NAME_PATTERN))]
    pub name: Option<String>,
    /// Other files, whose services, networks and volumes are the project's as well; a string is the
    /// file's path.
    #[serde(default)]
    #[schemars(schema_with = "includes_schema")]
    pub include: Vec<Short<Include>>,
    /// Keys of an app.json that each service has that does not say them itself. Objects are put
    /// together key by key; a service's null takes a key away.
    #[serde(default)]
    pub defaults: Section,
    /// The services, by name: the keys of an app.json, and what of them is the project's.
    #[serde(default)]
    #[schemars(extend("minProperties" = 1))]
    #[expect(
        clippy::zero_sized_map_values,
        reason = "each value is seen to be an object"
    )]
    pub services: BTreeMap<String, Section>,
    /// What is to be said of networks, by name. Each service is in "default" unless it names others.
    #[serde(default)]
    pub networks: BTreeMap<String, Network>,
    /// Volumes that services name, by name.
    #[serde(default)]
    pub volumes: BTreeMap<String, Volume>,
}

/// Files that are read as a project of their own folder, and whose services, networks and volumes are
/// the project's as well. Two that have one name are an error.
#[derive(Default, DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Include {
    /// The file, or several, each put over those before it.
    #[serde(deserialize_with = "one_or_more")]
    #[schemars(schema_with = "paths_schema")]
    pub path: Vec<String>,
    /// Where relative paths in them start. By default the first one's folder.
    #[serde(default)]
    pub project_directory: Option<String>,
    /// Files of variables. By default ".env" there, if there is one. The variables of the file that
    /// includes win.
    #[serde(default, deserialize_with = "one_or_more")]
    #[schemars(schema_with = "paths_schema")]
    pub env_file: Vec<String>,
}

/// What a service says of itself besides what is in an app.json.
#[derive(DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Services that must be started, healthy or completed before this one is started.
    #[serde(default, deserialize_with = "dependencies")]
    #[schemars(schema_with = "dependencies_schema")]
    pub depends_on: BTreeMap<String, Condition>,
    /// Networks of the project that it is in; none for []. By default "default".
    #[serde(default = "default_network", deserialize_with = "list_or_map::read")]
    #[schemars(schema_with = "memberships_schema")]
    pub networks: BTreeMap<String, Membership>,
    /// How many machines it is.
    #[serde(default = "one", deserialize_with = "scale")]
    #[schemars(range(max = MAX_SCALE))]
    pub scale: u32,
    /// It is started only if one of these is asked for.
    #[serde(default)]
    pub profiles: Vec<String>,
}

/// The keys of [`Service`].
pub const OF_SERVICE: &[&str] = &["dependsOn", "networks", "scale", "profiles"];

/// Those of them that are a list of names, or an object that says more of each.
pub const OF_MIXED_FORM: &[&str] = &["dependsOn", "networks"];

/// A network of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// Whether who is in such networks alone has no way out of them.
    #[serde(default)]
    pub internal: bool,
    /// Whether it is not the project's, but one of this name that any machine may be in.
    #[serde(default)]
    pub external: bool,
}

/// A volume of the project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// How much it can hold, such as "10G", instead of what services say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "VolumeSize")]
    pub size: Option<VolumeSize>,
    /// Whether it is not the project's, but the one of this name that any machine can have.
    #[serde(default)]
    pub external: bool,
}

/// What a service is in a network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Membership {
    /// What it is called there besides its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
}

/// How far a service is.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    DeriveDeserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Condition {
    /// Its program runs.
    #[default]
    Started,
    /// Its healthcheck has succeeded, or its program has said that it is ready.
    Healthy,
    /// Its program has ended with status 0.
    Completed,
}

/// A service that another one needs; a string is the condition.
#[derive(Default, DeriveDeserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Dependency {
    /// How far it must be.
    #[serde(default)]
    condition: Condition,
}

/// An object that is read later.
#[derive(Default)]
pub struct Section;

impl<'de> Deserialize<'de> for Section {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for Section {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

impl JsonSchema for Section {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Section".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

fn dependencies<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Condition>, D::Error> {
    let read: BTreeMap<String, Short<Dependency>> = list_or_map::read(deserializer)?;
    let condition = |(name, short): (_, Short<Dependency>)| (name, short.0.condition);
    Ok(read.into_iter().map(condition).collect())
}

fn dependencies_schema(generator: &mut SchemaGenerator) -> Schema {
    let short = generator.subschema_for::<Condition>();
    list_or_map::schema::<Dependency>(generator, &[short])
}

fn includes_schema(generator: &mut SchemaGenerator) -> Schema {
    let path = paths_schema(generator);
    let item = short_form::schema::<Include>(generator, &path);
    json_schema!({ "type": "array", "items": item })
}

fn paths_schema(_: &mut SchemaGenerator) -> Schema {
    let path = json_schema!({ "type": "string", "minLength": 1 });
    json_schema!({ "anyOf": [path, { "type": "array", "items": path, "minItems": 1 }] })
}

fn memberships_schema(generator: &mut SchemaGenerator) -> Schema {
    list_or_map::schema::<Membership>(generator, &[])
}

fn scale<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let allowed = format_args!("a whole number from 0 to {MAX_SCALE}");
    count::number(deserializer, allowed)
}

fn default_network() -> BTreeMap<String, Membership> {
    BTreeMap::from([(DEFAULT_NETWORK.into(), Membership::default())])
}

const fn version() -> u32 {
    VERSION
}

const fn one() -> u32 {
    1
}
