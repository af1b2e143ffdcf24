//! What an engine is told of an error: the last line of the file that `--log` names.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::json;

/// What a line looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Words with values
    #[default]
    Text,
    /// A JSON object
    Json,
}

impl Format {
    fn line(self, time: Timestamp, message: &str) -> String {
        match self {
            // As runc's own: Rust's escapes are those of Go, as far as a message has any.
            Self::Text => format!("time=\"{time}\" level=error msg={message:?}\n"),
            Self::Json => {
                let line = json!({ "level": "error", "msg": message, "time": time });
                format!("{line}\n")
            }
        }
    }
}

/// Adds an error to the log. Where that cannot be written, standard error is all there is.
pub fn write(path: &Path, format: Format, message: &str) {
    let line = format.line(Timestamp::now(), message);
    let log = OpenOptions::new().create(true).append(true).open(path);
    let _ = log.and_then(|mut log| log.write_all(line.as_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_engines_look_for() {
        let line = |format: Format| format.line(Timestamp::UNIX_EPOCH, "no \"kvm\"");
        assert_eq!(
            line(Format::Json),
            "{\"level\":\"error\",\"msg\":\"no \\\"kvm\\\"\",\"time\":\"1970-01-01T00:00:00Z\"}\n"
        );
        assert_eq!(
            line(Format::Text),
            "time=\"1970-01-01T00:00:00Z\" level=error msg=\"no \\\"kvm\\\"\"\n"
        );
    }

    #[test]
    fn what_was_said_before_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        for message in ["one", "two"] {
            write(&path, Format::Json, message);
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 2);
    }
}
