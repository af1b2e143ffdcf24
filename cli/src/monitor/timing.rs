//! Where the time of a start goes: `mvm run --timing`.

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use vmm::machine::Counts;

use super::instructions::Instructions;
use crate::table::table;

/// How it is told, on standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table
    #[default]
    Text,
    /// One line of JSON
    Json,
}

/// A part of a start, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// This process, from its execution until the first instruction of the guest.
    Mvm,
    /// The guest's kernel, until init's first word.
    Kernel,
    /// Init, and what comes before the program in stage 1, until the program is executed.
    Init,
    /// The program, until its first output.
    App,
}

impl Phase {
    fn name_and_end(self) -> (&'static str, &'static str) {
        match self {
            Self::Mvm => ("mvm", "the guest's first instruction"),
            Self::Kernel => ("kernel", "init's first word"),
            Self::Init => ("init", "the program's start"),
            Self::App => ("app", "its first output"),
        }
    }
}

/// The end of a phase.
struct Mark {
    phase: Phase,
    at: Instant,
    /// How often vCPUs have left the guest for this process until then.
    exits: u64,
    /// How many instructions the guest has carried out by then, if the host counts them.
    instructions: Option<u64>,
}

/// The marks of one start, which several threads may set.
pub struct Timing {
    begun: Instant,
    instructions: Mutex<Option<Instructions>>,
    marks: Mutex<Vec<Mark>>,
}

/// What a phase took, as JSON has it.
#[derive(Debug, PartialEq, Serialize)]
struct Share {
    phase: Phase,
    ms: f64,
    exits: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<u64>,
}

/// Has `timing`, if somebody wants to know, note that a phase has ended now.
pub fn end_of(timing: Option<&Timing>, phase: Phase, vcpus: &[Arc<Counts>]) {
    if let Some(timing) = timing {
        let exits = vcpus.iter().map(|counts| counts.total()).sum();
        timing.end_of(phase, exits, timing.instructions());
    }
}

impl Timing {
    /// Of this process, which has done nothing but compute so far: the time that this took is part of
    /// the first phase, though no clock was read at its execution. There must be no thread yet that
    /// starts a guest.
    pub fn begin() -> Self {
        let computed = clock_gettime(ClockId::ProcessCPUTime);
        let computed = Duration::try_from(computed).unwrap_or_default();
        let now = Instant::now();
        Self {
            begun: now.checked_sub(computed).unwrap_or(now),
            instructions: Mutex::new(Instructions::begin()),
            marks: Mutex::default(),
        }
    }

    fn instructions(&self) -> Option<u64> {
        let mut counter = self.instructions.lock();
        let counter = counter
            .as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut());
        counter.as_mut().and_then(Instructions::count)
    }

    /// Of several ends of one the first counts.
    fn end_of(&self, phase: Phase, exits: u64, instructions: Option<u64>) {
        let at = Instant::now();
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        if marks.iter().all(|mark| mark.phase != phase) {
            marks.push(Mark {
                phase,
                at,
                exits,
                instructions,
            });
        }
    }

    fn shares(&self) -> Vec<Share> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mut before = (self.begun, 0, Some(0));
        let share = |mark: &Mark| {
            let new = (mark.at, mark.exits, mark.instructions);
            let (at, exits, instructions) = std::mem::replace(&mut before, new);
            let instructions = mark.instructions.zip(instructions);
            Share {
                phase: mark.phase,
                ms: milliseconds(mark.at.saturating_duration_since(at)),
                exits: mark.exits.saturating_sub(exits),
                instructions: instructions.map(|(now, then)| now.saturating_sub(then)),
            }
        };
        marks.iter().map(share).collect()
    }

    /// Writes what is known to standard error. Phases that the start did not come to are left out.
    pub fn tell(&self, format: Format) {
        let told = match format {
            Format::Text => text(&self.shares()),
            Format::Json => json(&self.shares()),
        };
        // Nobody to tell when the stream is closed.
        let _ = io::Write::write_all(&mut io::stderr(), told.as_bytes());
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e4).round() / 10.0
}

fn text(shares: &[Share]) -> String {
    let row = |share: &Share| {
        let (name, end) = share.phase.name_and_end();
        let (ms, exits) = (format!("{:.1}", share.ms), share.exits.to_string());
        let instructions = share.instructions.map(|count| count.to_string());
        [
            name.into(),
            ms,
            exits,
            instructions.unwrap_or_else(|| "-".into()),
            end.into(),
        ]
    };
    let mut text = table(
        ["PHASE", "MS", "EXITS", "INSTRUCTIONS", "UNTIL"],
        &shares.iter().map(row).collect::<Vec<_>>(),
    );
    let ms: f64 = shares.iter().map(|share| share.ms).sum();
    let exits: u64 = shares.iter().map(|share| share.exits).sum();
    // A string takes all that it is given.
    let _ = writeln!(text, "{ms:.1} ms and {exits} exits in all");
    text
}

fn json(shares: &[Share]) -> String {
    serde_json::json!({ "phases": shares }).to_string() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timing() -> Timing {
        let timing = Timing::begin();
        for (phase, exits) in [
            (Phase::Mvm, 1),
            (Phase::Kernel, 900),
            (Phase::Init, 1000),
            (Phase::App, 1001),
            (Phase::App, 2000),
        ] {
            timing.end_of(phase, exits, Some(exits * 1000));
        }
        timing
    }

    #[test]
    fn each_phase_has_its_own_exits_and_all_time_is_some_phase_s() {
        let timing = timing();
        let shares = timing.shares();
        let exits: Vec<_> = shares.iter().map(|share| share.exits).collect();
        assert_eq!(exits, [1, 899, 100, 1]);
        let instructions: Vec<_> = shares.iter().map(|share| share.instructions).collect();
        assert_eq!(instructions, [1000, 899_000, 100_000, 1000].map(Some));
        let told: f64 = shares.iter().map(|share| share.ms).sum();
        let marks = timing.marks.lock().unwrap();
        let whole = milliseconds(marks[3].at - timing.begun);
        assert!((told - whole).abs() < 0.5, "{told} {whole}");
    }

    #[test]
    fn text_and_json_say_the_same() {
        let share = |phase, ms, exits, instructions| Share {
            phase,
            ms,
            exits,
            instructions,
        };
        let shares = [
            share(Phase::Mvm, 12.25, 0, None),
            share(Phase::Kernel, 300.0, 900, Some(7_000_000)),
        ];
        let expected = "\
PHASE   MS     EXITS  INSTRUCTIONS  UNTIL
mvm     12.2   0      -             the guest's first instruction
kernel  300.0  900    7000000       init's first word
312.2 ms and 900 exits in all
";
        assert_eq!(text(&shares), expected);
        let expected = r#"{"phases":[{"exits":0,"ms":12.25,"phase":"mvm"},{"exits":900,"instructions":7000000,"ms":300.0,"phase":"kernel"}]}"#;
        assert_eq!(json(&shares), format!("{expected}\n"));
    }
}
