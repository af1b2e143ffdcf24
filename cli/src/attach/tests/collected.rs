//! Answers of programs, and what is no answer.

use std::time::Duration;

use guest::protocol::{Exit, WINDOW};

use super::super::collect;
use super::{Outcome, TIMEOUT, machine, sh};

#[test]
fn the_whole_answer_comes_however_many_windows_it_has() {
    let (mut connection, _agent) = machine();
    let script = format!("head -c {} /dev/zero; echo words >&2; exit 3", 3 * WINDOW);
    let (outcome, answer) =
        collect(&mut connection, &sh(&script), 4 * WINDOW as usize, TIMEOUT).unwrap();
    assert_eq!(outcome, Outcome::Exited(Exit::Code(3)));
    assert_eq!(answer.len(), 3 * WINDOW as usize);
}

#[test]
fn an_answer_has_a_limit_and_a_time() {
    let (mut connection, _agent) = machine();
    let error = collect(&mut connection, &sh("yes"), 1000, TIMEOUT).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the guest's answer is longer than 1000 bytes"
    );
    let (mut connection, _agent) = machine();
    let moment = Duration::from_millis(100);
    let error = collect(&mut connection, &sh("sleep 1000"), 1000, moment).unwrap_err();
    assert_eq!(error.to_string(), "it did not answer within 0.1 s");
}
