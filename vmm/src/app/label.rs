//! Labels: words of the user's own about a machine, by name.

use schemars::{Schema, SchemaGenerator, json_schema};

/// Labels of one machine; far more than anyone looks for.
pub const MAX_LABELS: usize = 256;

/// Bytes of a label's name.
pub(super) const MAX_NAME_SIZE: usize = 255;

/// Bytes of what a label says: a line or two, as all labels are read for each list.
pub(super) const MAX_TEXT_SIZE: usize = 4096;

/// Whether a machine may have this label.
pub fn is_label(name: &str, text: &str) -> bool {
    is_name(name) && text.len() <= MAX_TEXT_SIZE
}

pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME_SIZE).contains(&name.len())
        && !name.contains(|c: char| c == '=' || c.is_control())
}

pub(super) fn schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "propertyNames": {
            "pattern": r"^[^=\u0000-\u001f\u007f-\u009f]+$",
            "maxLength": MAX_NAME_SIZE,
        },
        "additionalProperties": { "type": "string", "maxLength": MAX_TEXT_SIZE },
        "maxProperties": MAX_LABELS,
    })
}
