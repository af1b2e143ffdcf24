//! RSTs for packets that belong to no connection.

use std::collections::VecDeque;

use super::packet::{Header, op};

/// Answers that wait for a buffer of the guest. When there are as many, the guest's packets wait
/// too: a guest that sends without taking the answers stops itself (§5.10.6.1.2).
const REPLIES_MAX: usize = 256;

/// Answers in the order of the packets.
#[derive(Default)]
pub struct Replies(VecDeque<Header>);

impl Replies {
    /// Answers `header`, unless it is such an answer itself, or one is waiting already.
    pub fn refuse(&mut self, header: &Header) {
        if header.op != op::RST {
            self.push(header.reset());
        }
    }

    /// Lets `reply` wait, unless the same is waiting already.
    pub fn push(&mut self, reply: Header) {
        if !self.0.contains(&reply) {
            self.0.push_back(reply);
        }
    }

    /// Whether the guest's packets have to wait. Connections that the host's side ends may add a
    /// few beyond that: one each.
    pub fn is_full(&self) -> bool {
        self.0.len() >= REPLIES_MAX
    }

    pub fn first(&self) -> Option<&Header> {
        self.0.front()
    }

    pub fn pop_first(&mut self) {
        self.0.pop_front();
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
