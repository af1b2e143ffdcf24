//! A running program's health: checks from time to time, and what follows from them.
//!
//! The one thing to know: a check is a connection of its own to the guest's agent, so one that hangs
//! holds nothing up but the next; and a machine that is paused is not checked.

mod books;
mod check;

use std::process;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, kill_process};
use vmm::app::{App, HealthCheck, OnFailure, Ready};
use vmm::machine::Running;

use books::{Books, Change};

use crate::attach::{Command, Commander};
use crate::control::message::Health as State;
use crate::events::{self, Happened};
use crate::machines::Record;
use crate::output::say;
use crate::systemd::{self, Notice};

/// For a program that is to end to do so after SIGTERM; `mvm stop` gives it as long.
const TERM_TIME: Duration = Duration::from_secs(10);

/// For its guest to switch itself off then.
const POWER_OFF_TIME: Duration = Duration::from_secs(5);

/// Characters of a check's output that go into an event: a guest that is unhealthy again and again
/// shall not push all other machines' events out of their file.
const EVENT_CHARS: usize = 200;

const SIGTERM: u8 = 15;

/// What is known of a program's health; the same for all who have it.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    name: String,
    ready: Ready,
    /// What systemd is told then.
    notice: Notice,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    is_ready: bool,
    /// None without a healthcheck.
    state: Option<State>,
    /// Why the machine is ended, if it is for its health.
    verdict: Option<String>,
}

/// What checks the program, until it is dropped.
pub struct Checker {
    _end: Sender<()>,
}

impl Health {
    /// Of the machine `name`, whose program does not run yet.
    pub fn new(name: String, app: &App) -> Self {
        let known = Known {
            state: app.healthcheck.as_ref().map(|_| State::default()),
            ..Known::default()
        };
        Self(Arc::new(Shared {
            name,
            ready: app.ready,
            notice: Notice::ready(app),
            known: Mutex::new(known),
        }))
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the machine is ready, and what the checks say.
    pub fn look(&self) -> (bool, Option<State>) {
        let known = self.known();
        (known.is_ready, known.state.clone())
    }

    /// Why the machine is ended, if it is for its health.
    pub fn verdict(&self) -> Option<String> {
        self.known().verdict.clone()
    }

    /// The program runs: checks it from now on.
    pub fn start(&self, app: &App, running: Arc<Running>, commander: Commander) -> Checker {
        events::note(&self.0.name, Happened::Started);
        if self.0.ready == Ready::Started || app.healthcheck.is_none() {
            self.set_ready();
        }
        let (end, ended) = mpsc::channel();
        if let Some(check) = &app.healthcheck {
            let checked = Checked {
                health: self.clone(),
                check: check.clone(),
                exec: check::execution(app, check),
                running,
                commander,
                ended,
            };
            let thread = thread::Builder::new().name("health".into());
            if let Err(error) = thread.spawn(move || checked.run()) {
                say(format_args!("nothing checks the program: {error}"));
            }
        }
        Checker { _end: end }
    }

    fn set_ready(&self) {
        if !std::mem::replace(&mut self.known().is_ready, true) {
            events::note(&self.0.name, Happened::Ready);
            systemd::notify(self.0.notice);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is told of a check where it is one of many things.
fn first_words(output: &str) -> String {
    let line = output.lines().next().unwrap_or_default();
    line.chars().take(EVENT_CHARS).collect()
}

/// A program that is checked.
struct Checked {
    health: Health,
    check: HealthCheck,
    exec: guest::protocol::Exec,
    running: Arc<Running>,
    commander: Commander,
    /// Closed when the program has ended.
    ended: Receiver<()>,
}

impl Checked {
    fn run(self) {
        let started = Instant::now();
        let mut books = Books::new(&self.check);
        while !self.has_ended_after(books.pause(started.elapsed())) {
            if self.running.pause.is_paused() {
                continue;
            }
            let age = started.elapsed();
            let verdict = check::check(&self.running, &self.exec, self.check.timeout.into());
            // What a check of a machine says that has ended or was paused is no fault of its program.
            if self.has_ended_after(Duration::ZERO) {
                return;
            }
            if self.running.pause.is_paused() && !verdict.is_good {
                continue;
            }
            let change = books.take(verdict, age);
            self.health.known().state = Some(books.health().clone());
            if self.tell(change, books.health()) {
                return;
            }
        }
    }

    /// Waits; true if the program ends meanwhile.
    fn has_ended_after(&self, time: Duration) -> bool {
        self.ended.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    /// Says what has changed, and does what follows; true if that is the machine's end.
    fn tell(&self, change: Change, state: &State) -> bool {
        let name = &self.health.0.name;
        match change {
            Change::None => false,
            Change::Healthy => {
                events::note(name, Happened::Healthy);
                self.health.set_ready();
                false
            }
            Change::Unhealthy => {
                let last = state.last.as_ref();
                let why = last
                    .map(|last| first_words(&last.output))
                    .unwrap_or_default();
                events::note(name, Happened::Unhealthy { why: why.clone() });
                match self.check.on_failure {
                    OnFailure::None => return false,
                    OnFailure::Restart => {}
                    OnFailure::Stop => {
                        if let Some(record) = Record::open(name) {
                            // What cannot be noted here cannot be kept from being started either.
                            let _ = record.set_stopped(true);
                        }
                    }
                }
                self.health.known().verdict = Some(format!("it was unhealthy: {why}"));
                self.end();
                true
            }
        }
    }

    /// Ends the machine, as gently as it lets itself be ended.
    fn end(&self) {
        let _ = self.commander.tell(Command::Signal(SIGTERM));
        if self.has_ended_after(TERM_TIME) {
            return;
        }
        let _ = self.commander.tell(Command::PowerOff);
        if self.has_ended_after(POWER_OFF_TIME) {
            return;
        }
        let _ = kill_process(getpid(), Signal::KILL);
        process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_begin_of_the_first_line() {
        assert_eq!(first_words("no answer\nat all"), "no answer");
        assert_eq!(first_words(&"é".repeat(300)), "é".repeat(200));
        assert_eq!(first_words(""), "");
    }
}
