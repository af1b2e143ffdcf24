//! Whose execution is which in the guest: every client calls its own the first one.
//!
//! The one thing to know: a session stays here until the guest has ended it, also when its client
//! has gone; only then is nothing about it under way any more.

use std::collections::BTreeMap;

use guest::protocol::{FIRST_SESSION, MACHINE};

/// A connection of a command.
pub type ClientId = u64;

/// The executions of the guest.
pub struct Sessions {
    /// `None`: its client has gone.
    owners: BTreeMap<u32, Option<ClientId>>,
    next: u32,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            owners: BTreeMap::new(),
            next: FIRST_SESSION,
        }
    }
}

impl Sessions {
    /// A number that no session has, for an execution of `client`.
    pub fn open(&mut self, client: ClientId) -> u32 {
        while self.next == MACHINE || self.owners.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let number = self.next;
        self.owners.insert(number, Some(client));
        self.next = number.wrapping_add(1);
        number
    }

    /// Who gets the frames of a session.
    pub fn owner(&self, number: u32) -> Option<ClientId> {
        self.owners.get(&number).copied().flatten()
    }

    /// The guest has ended it.
    pub fn close(&mut self, number: u32) {
        self.owners.remove(&number);
    }

    /// The client of a session has gone.
    pub fn abandon(&mut self, number: u32) {
        if let Some(owner) = self.owners.get_mut(&number) {
            *owner = None;
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.owners.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_execution_has_its_own_number() {
        let mut sessions = Sessions::default();
        let (one, two) = (sessions.open(7), sessions.open(8));
        assert_ne!(one, two);
        assert_eq!(
            (sessions.owner(one), sessions.owner(two)),
            (Some(7), Some(8))
        );
    }

    #[test]
    fn an_abandoned_session_keeps_its_number_until_the_guest_ends_it() {
        let mut sessions = Sessions::default();
        let number = sessions.open(7);
        sessions.abandon(number);
        assert_eq!((sessions.owner(number), sessions.len()), (None, 1));
        sessions.close(number);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn numbers_that_come_round_again_leave_out_the_machine_and_those_in_use() {
        let mut sessions = Sessions {
            next: u32::MAX,
            ..Sessions::default()
        };
        sessions.owners.insert(1, Some(1));
        let numbers = [sessions.open(2), sessions.open(2)];
        assert_eq!(numbers, [u32::MAX, 2]);
    }

    #[test]
    fn an_unknown_session_belongs_to_nobody() {
        assert_eq!(Sessions::default().owner(5), None);
    }
}
