//! How far the machines of a project are while they are started, each in a thread of its own.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use vmm::compose::Condition;

use super::Replica;

/// How far one machine is.
#[derive(Clone, Debug, Default)]
struct Far {
    reached: BTreeSet<Condition>,
    has_failed: bool,
}

/// Where threads say how far their machines are, and wait for others.
pub struct Board<'a> {
    replicas: &'a [Replica],
    far: Mutex<(Vec<Far>, bool)>,
    changed: Condvar,
}

/// Why a machine is not started.
#[derive(Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// This service that it needs has failed.
    Failed(String),
    /// Nothing more is to be started.
    Cancelled,
}

impl<'a> Board<'a> {
    /// Of these machines, of which none is anywhere yet.
    pub fn new(replicas: &'a [Replica]) -> Self {
        Self {
            replicas,
            far: Mutex::new((vec![Far::default(); replicas.len()], false)),
            changed: Condvar::new(),
        }
    }

    /// The machine with number `nth` is so far.
    pub fn reach(&self, nth: usize, condition: Condition) {
        self.set(nth, |far| {
            far.reached.insert(condition);
        });
    }

    /// It will get no further.
    pub fn fail(&self, nth: usize) {
        self.set(nth, |far| far.has_failed = true);
    }

    /// Nothing more is to be started.
    pub fn cancel(&self) {
        self.lock().1 = true;
        self.changed.notify_all();
    }

    /// Whether that has been said.
    pub fn is_cancelled(&self) -> bool {
        self.lock().1
    }

    /// Whether the program of the machine with number `nth` has been run.
    pub fn is_started(&self, nth: usize) -> bool {
        self.lock()
            .0
            .get(nth)
            .is_some_and(|far| far.reached.contains(&Condition::Started))
    }

    /// Whether some machine of these needs the service to be so.
    pub fn is_awaited(&self, service: &str, condition: Condition) -> bool {
        let mut replicas = self.replicas.iter();
        replicas.any(|replica| replica.needs.get(service) == Some(&condition))
    }

    /// Waits until all that the machine with number `nth` needs is so. Services that are not among
    /// these are taken to be.
    pub fn await_needs(&self, nth: usize) -> Result<(), Obstacle> {
        let Some(replica) = self.replicas.get(nth) else {
            return Ok(());
        };
        let mut far = self.lock();
        loop {
            if far.1 {
                return Err(Obstacle::Cancelled);
            }
            let mut is_free = true;
            for (other, far) in self.replicas.iter().zip(&far.0) {
                if let Some(condition) = replica.needs.get(&other.service)
                    && !far.reached.contains(condition)
                {
                    if far.has_failed {
                        return Err(Obstacle::Failed(other.service.clone()));
                    }
                    is_free = false;
                }
            }
            if is_free {
                return Ok(());
            }
            far = self
                .changed
                .wait(far)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn set(&self, nth: usize, change: impl FnOnce(&mut Far)) {
        if let Some(far) = self.lock().0.get_mut(nth) {
            change(far);
        }
        self.changed.notify_all();
    }

    /// What a thread that panicked has left is whole: each change is one.
    fn lock(&self) -> MutexGuard<'_, (Vec<Far>, bool)> {
        self.far.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use vmm::app::App;

    use super::*;

    /// A machine of a service that needs another one to be so.
    fn replica(service: &str, number: u32, needs: &[(&str, Condition)]) -> Replica {
        let needs = needs
            .iter()
            .map(|(name, condition)| ((*name).to_owned(), *condition));
        let app = App::new(format!("{service}-{number}"), Vec::new());
        Replica::of(service, app, needs.collect::<BTreeMap<_, _>>())
    }

    fn shop() -> Vec<Replica> {
        vec![
            replica("db", 1, &[]),
            replica("db", 2, &[]),
            replica(
                "web",
                1,
                &[
                    ("db", Condition::Healthy),
                    ("elsewhere", Condition::Started),
                ],
            ),
        ]
    }

    #[test]
    fn it_is_free_once_all_machines_of_what_it_needs_are_so() {
        let replicas = shop();
        let board = Board::new(&replicas);
        assert_eq!(board.await_needs(0), Ok(()));
        thread::scope(|scope| {
            let (sender, free) = mpsc::channel();
            let board = &board;
            scope.spawn(move || sender.send(board.await_needs(2)));
            for (nth, condition) in [
                (0, Condition::Started),
                (1, Condition::Started),
                (0, Condition::Healthy),
                (1, Condition::Completed),
            ] {
                board.reach(nth, condition);
                assert!(free.recv_timeout(Duration::from_millis(10)).is_err());
            }
            board.reach(1, Condition::Healthy);
            assert_eq!(free.recv(), Ok(Ok(())));
        });
        assert!(board.is_awaited("db", Condition::Healthy));
        assert!(!board.is_awaited("db", Condition::Started));
    }

    #[test]
    fn it_is_not_started_when_what_it_needs_has_failed() {
        let replicas = shop();
        let board = Board::new(&replicas);
        board.reach(0, Condition::Healthy);
        board.fail(1);
        assert_eq!(board.await_needs(2), Err(Obstacle::Failed("db".into())));
    }

    #[test]
    fn nothing_is_started_any_more_once_that_is_said() {
        let replicas = shop();
        let board = Board::new(&replicas);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| board.await_needs(2));
            board.cancel();
            assert_eq!(waiting.join().unwrap(), Err(Obstacle::Cancelled));
        });
        assert_eq!(board.await_needs(0), Err(Obstacle::Cancelled));
    }
}
