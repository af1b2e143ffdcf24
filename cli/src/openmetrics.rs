//! The text format of `OpenMetrics` 1.0.
//!
//! The one thing to know: all samples of a family stand together, whatever machine they are of, and a
//! counter's samples have a suffix that its family has not.

use std::fmt::{self, Write};

/// What kind of number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, until its machine starts again.
    Counter,
    /// It is as it is.
    Gauge,
    /// It is 1, and its labels say something.
    Info,
}

/// Samples of one thing.
#[derive(Clone, Debug)]
pub struct Family {
    name: &'static str,
    kind: Kind,
    /// At the end of the name, too; empty if there is none.
    unit: &'static str,
    help: &'static str,
    samples: Vec<String>,
}

impl Family {
    /// One without samples. The name ends with the unit.
    pub fn new(name: &'static str, kind: Kind, unit: &'static str, help: &'static str) -> Self {
        debug_assert!(name.ends_with(unit), "{name} is in {unit}");
        Self {
            name,
            kind,
            unit,
            help,
            samples: Vec::new(),
        }
    }

    /// Adds a sample, which nothing but its labels tells from others.
    pub fn add(&mut self, labels: &[(&str, &str)], value: impl fmt::Display) {
        let suffix = match self.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
            Kind::Info => "_info",
        };
        let labels: Vec<_> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        let sample = format!("{}{suffix}{{{}}} {value}\n", self.name, labels.join(","));
        self.samples.push(sample);
    }
}

/// All families that have samples, and the mark of the end.
pub fn text(families: &[&Family]) -> String {
    let mut text = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Info => "info",
        };
        let name = family.name;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "# TYPE {name} {kind}");
        if !family.unit.is_empty() {
            let _ = writeln!(text, "# UNIT {name} {}", family.unit);
        }
        let _ = writeln!(text, "# HELP {name} {}", escaped(family.help));
        text.extend(family.samples.iter().map(String::as_str));
    }
    text + "# EOF\n"
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_stand_together_and_the_end_is_marked() {
        let mut time = Family::new("cpu_seconds", Kind::Counter, "seconds", "Time.");
        time.add(&[("machine", "a"), ("of", "x")], 1.5);
        time.add(&[("machine", "b\\\"\n")], 1u64 << 60);
        let mut version = Family::new("build", Kind::Info, "", "Version.");
        version.add(&[("version", "1")], 1);
        let none = Family::new("none", Kind::Gauge, "", "Nothing.");
        let expected = "\
# TYPE cpu_seconds counter
# UNIT cpu_seconds seconds
# HELP cpu_seconds Time.
cpu_seconds_total{machine=\"a\",of=\"x\"} 1.5
cpu_seconds_total{machine=\"b\\\\\\\"\\n\"} 1152921504606846976
# TYPE build info
# HELP build Version.
build_info{version=\"1\"} 1
# EOF
";
        assert_eq!(text(&[&time, &none, &version]), expected);
        assert_eq!(text(&[]), "# EOF\n");
    }
}
