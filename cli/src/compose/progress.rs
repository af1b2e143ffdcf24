//! How far the machines of a project are, for the user: a line for each on a terminal, which changes
//! in its place; elsewhere a line for each change.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use super::Replica;
use crate::output::say;
use crate::terminal;

/// What is said of some machines.
pub struct Progress {
    names: Vec<String>,
    /// By its number, what has been said last of each.
    words: Mutex<BTreeMap<usize, String>>,
    is_drawn: bool,
}

/// States that pass, and of which nothing is said where lines cannot change.
const PASSING: [&str; 2] = ["waiting", "starting"];

impl Progress {
    /// Of these machines. `beside_logs`: other lines come between, so none can change.
    pub fn of(replicas: &[Replica], beside_logs: bool) -> Self {
        let names: Vec<_> = replicas
            .iter()
            .map(|replica| replica.name().to_owned())
            .collect();
        let rows = terminal::window_size().map_or(0, |size| usize::from(size.ws_row));
        let has_room = names.len() < rows;
        Self {
            is_drawn: io::stderr().is_terminal() && has_room && !beside_logs,
            words: Mutex::default(),
            names,
        }
    }

    /// The machine with number `nth` is so.
    pub fn set(&self, nth: usize, word: &str) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let before = words.insert(nth, word.into());
        if self.is_drawn {
            let is_first = before.is_none() && words.len() == 1;
            self.draw(&words, is_first);
        } else if !PASSING.contains(&word) {
            let name = self.names.get(nth).map_or("", String::as_str);
            say(format_args!("{name}: {word}"));
        }
    }

    /// It has failed.
    pub fn fail(&self, nth: usize, error: &anyhow::Error) {
        let message = format!("{error:#}");
        let name = self.names.get(nth).map_or("", String::as_str);
        // What names the machine already.
        let message = message
            .strip_prefix(&format!("{name} "))
            .unwrap_or(&message);
        let message = message
            .strip_prefix(&format!("{name}: "))
            .unwrap_or(message);
        if self.is_drawn {
            self.set(nth, "failed");
            let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
            // Told in full once the lines stand still.
            words.insert(nth, format!("failed\n{message}"));
        } else {
            say(format_args!("{name}: {message}"));
        }
    }

    /// Nothing changes any more.
    pub fn finish(&self) {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        for (nth, word) in words.iter().filter(|_| self.is_drawn) {
            if let Some((_, message)) = word.split_once('\n') {
                let name = self.names.get(*nth).map_or("", String::as_str);
                say(format_args!("{name}: {message}"));
            }
        }
    }

    fn draw(&self, words: &BTreeMap<usize, String>, is_first: bool) {
        let width = self.names.iter().map(String::len).max().unwrap_or(0);
        let mut text = String::new();
        if !is_first {
            let _ = write!(text, "\x1b[{}A", self.names.len());
        }
        for (nth, name) in self.names.iter().enumerate() {
            let word = words.get(&nth).map_or("waiting", String::as_str);
            let word = word.lines().next().unwrap_or_default();
            let _ = writeln!(text, "\r\x1b[K{name:width$}  {word}");
        }
        // Nobody to tell when the stream is closed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}
