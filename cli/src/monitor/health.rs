//! A running program's health: what checks say from time to time, what it says itself, and what
//! follows from that.
//!
//! The one thing to know: a check is a connection of its own to the guest's agent, so one that hangs
//! holds nothing up but the next; and a machine that is paused is not checked.

mod books;
mod check;
mod listener;
mod program;
mod watchdog;
mod words;

use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vmm::app::{App, HealthCheck, OnFailure, Ready};
use vmm::machine::Running;

use books::{Books, Change};
pub use listener::Listener;
use listener::Speaker;
use program::Program;

use crate::attach::Commander;
use crate::control::message::{Health as State, HealthStatus};
use crate::events::{self, Happened};
use crate::machines::Record;
use crate::output::say;
use crate::systemd::{self, Notice};

/// Characters of a check's output that go into an event: a guest that is unhealthy again and again
/// shall not push all other machines' events out of their file.
const EVENT_CHARS: usize = 200;

const SIGABRT: u8 = 6;
const SIGKILL: u8 = 9;

/// What is known of a program's health; the same for all who have it.
#[derive(Clone)]
pub struct Health(Arc<Shared>);

struct Shared {
    name: String,
    ready: Ready,
    /// What systemd is told then, of a program that says nothing of itself.
    up: String,
    known: Mutex<Known>,
    /// Whenever one of the first two of that may be another.
    changed: Condvar,
}

#[derive(Default)]
struct Known {
    is_ready: bool,
    /// None without a healthcheck.
    state: Option<State>,
    /// What the program says of itself.
    status: Option<String>,
    /// Why the machine is ended, if it is for its health.
    verdict: Option<String>,
}

/// Who watches the program, until this is dropped.
pub struct Watchers {
    _ends: Vec<Sender<()>>,
}

impl Health {
    /// Of the machine `name`, whose program does not run yet.
    pub fn new(name: String, app: &App) -> Self {
        let known = Known {
            state: app.health_check().map(|_| State::default()),
            ..Known::default()
        };
        Self(Arc::new(Shared {
            name,
            ready: app.ready,
            up: systemd::up(app),
            known: Mutex::new(known),
            changed: Condvar::new(),
        }))
    }

    /// The machine's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether the machine is ready, what the checks say, and what the program itself.
    pub fn look(&self) -> (bool, Option<State>, Option<String>) {
        let known = self.known();
        (known.is_ready, known.state.clone(), known.status.clone())
    }

    /// Returns once it is not so any more, or after `patience`.
    pub fn await_change(&self, ready: bool, health: Option<HealthStatus>, patience: Duration) {
        let is_so = |known: &mut Known| {
            let status = known.state.as_ref().map(|state| state.status);
            (known.is_ready, status) == (ready, health)
        };
        let changed = &self.0.changed;
        // Whoever waited looks himself.
        drop(changed.wait_timeout_while(self.known(), patience, is_so));
    }

    /// Why the machine is ended, if it is for its health.
    pub fn verdict(&self) -> Option<String> {
        self.known().verdict.clone()
    }

    /// The program runs: checks it from now on, and listens to it.
    pub fn start(
        &self,
        app: &App,
        running: &Arc<Running>,
        commander: &Commander,
        listener: Option<Listener>,
    ) -> Watchers {
        events::note(&self.0.name, Happened::Started);
        let is_ready = match self.0.ready {
            Ready::Started => true,
            Ready::Healthy => app.health_check().is_none(),
            Ready::Notify => false,
        };
        if is_ready {
            self.set_ready();
        }
        let mut ends = Vec::new();
        let mut program = || {
            let (program, end) = Program::new(commander.clone());
            ends.push(end);
            program
        };
        if let Some(check) = app.health_check() {
            let checked = Checked {
                health: self.clone(),
                check: check.clone(),
                exec: check::execution(app, check),
                running: Arc::clone(running),
                program: program(),
                stop: (
                    app.program().stop_signal().number(),
                    app.program().stop_timeout().into(),
                ),
            };
            let thread = thread::Builder::new().name("health".into());
            if let Err(error) = thread.spawn(move || checked.run()) {
                say(format_args!("nothing checks the program: {error}"));
            }
        }
        if let Some(listener) = listener {
            let speaker = Speaker::new(self.clone(), app, Arc::clone(running), program());
            let thread = thread::Builder::new().name("notify".into());
            if let Err(error) = thread.spawn(move || speaker.listen(listener)) {
                say(format_args!("nobody listens to the program: {error}"));
            }
        }
        Watchers { _ends: ends }
    }

    fn set_ready(&self) {
        let mut known = self.known();
        if !std::mem::replace(&mut known.is_ready, true) {
            let status = known.status.clone();
            drop(known);
            self.0.changed.notify_all();
            events::note(&self.0.name, Happened::Ready);
            systemd::notify(Notice::Ready(status.as_ref().unwrap_or(&self.0.up)));
        }
    }

    fn set_state(&self, state: State) {
        self.known().state = Some(state);
        self.0.changed.notify_all();
    }

    fn set_status(&self, status: String) {
        self.known().status = Some(status);
    }

    fn set_verdict(&self, verdict: String) {
        self.known().verdict = Some(verdict);
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
    program: Program,
    /// What ends it, as `mvm stop` does.
    stop: (u8, Duration),
}

impl Checked {
    fn run(self) {
        let started = Instant::now();
        let mut books = Books::new(&self.check);
        while !self.program.has_ended_after(books.pause(started.elapsed())) {
            if self.running.pause.is_paused() {
                continue;
            }
            let age = started.elapsed();
            let verdict = check::check(&self.running, &self.exec, self.check.timeout.into());
            // What a check of a machine says that has ended or was paused is no fault of its program.
            if self.program.has_ended_after(Duration::ZERO) {
                return;
            }
            if self.running.pause.is_paused() && !verdict.is_good {
                continue;
            }
            let change = books.take(verdict, age);
            self.health.set_state(books.health().clone());
            if self.tell(change, books.health()) {
                return;
            }
        }
    }

    /// Says what has changed, and does what follows; true if that is the machine's end.
    fn tell(&self, change: Change, state: &State) -> bool {
        let name = &self.health.0.name;
        match change {
            Change::None => false,
            Change::Healthy => {
                events::note(name, Happened::Healthy);
                if self.health.0.ready != Ready::Notify {
                    self.health.set_ready();
                }
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
                self.health.set_verdict(format!("it was unhealthy: {why}"));
                self.program.end(&[self.stop]);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_hears_of_each_change_and_at_once_of_an_old_one() {
        let app = App::new("a", vec!["sh".into()]);
        let health = Health::new("a".into(), &app);
        let long = Duration::from_secs(3600);
        let starting = Some(HealthStatus::Starting);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| health.await_change(false, None, long));
            health.set_state(State::default());
            waiting.join().unwrap();
            health.await_change(false, None, long);
            health.await_change(false, starting, Duration::from_millis(1));
            let waiting = scope.spawn(|| health.await_change(false, starting, long));
            health.known().is_ready = true;
            health.0.changed.notify_all();
            waiting.join().unwrap();
        });
        assert!(health.look().0);
    }

    #[test]
    fn an_event_has_the_begin_of_the_first_line() {
        assert_eq!(first_words("no answer\nat all"), "no answer");
        assert_eq!(first_words(&"é".repeat(300)), "é".repeat(200));
        assert_eq!(first_words(""), "");
    }
}
