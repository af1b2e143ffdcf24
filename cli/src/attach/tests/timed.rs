//! The guest's clock, which whoever runs the machine looks at.

use std::time::{SystemTime, UNIX_EPOCH};

use guest::protocol::{Decoder, FrameBuffer, MACHINE, Side};

use super::hostile::{execution, frame, hello};
use super::*;
use crate::attach::{Clock, Command, commands};

const BEHIND: Duration = Duration::from_secs(90);

fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_nanos() as u64
}

/// A guest whose clock is `behind`, for as many looks as there are; how it was told to move.
fn guest_behind(mut guest: UnixStream, mut behind_ns: i64, questions: usize) -> Vec<i64> {
    guest.write_all(&hello()).unwrap();
    let started = execution(&[Message::Started { pid: 1 }]);
    guest.write_all(&started).unwrap();
    let (mut buffer, mut decoder) = (FrameBuffer::new(), Decoder::new(Side::Host));
    let mut shifts = Vec::new();
    while shifts.len() < questions {
        assert_ne!(buffer.fill(&mut guest).unwrap(), 0, "the host has hung up");
        while let Some(frame_of_host) = buffer.next_frame().unwrap() {
            let message = decoder.decode(frame_of_host).unwrap();
            if let Some(Message::Clock { shift_ns }) = message {
                shifts.push(shift_ns);
                behind_ns -= shift_ns;
                let now_ns = now_ns().saturating_add_signed(-behind_ns);
                let answer = frame(MACHINE, &Message::Time { now_ns });
                guest.write_all(&answer).unwrap();
            }
        }
    }
    let exit = execution(&[Message::Exit(Exit::Code(0))]);
    guest.write_all(&exit).unwrap();
    shifts
}

/// How a guest is told to move its clock when others want as many looks at it.
fn told(behind: Duration, looks: usize, questions: usize) -> Vec<i64> {
    let (host, guest) = UnixStream::pair().unwrap();
    guest.set_read_timeout(Some(TIMEOUT)).unwrap();
    let behind_ns = behind.as_nanos() as i64;
    let thread = thread::spawn(move || guest_behind(guest, behind_ns, questions));
    let mut connection = Connection::open(host, TIMEOUT).unwrap();
    let (commander, commands) = commands().unwrap();
    for _ in 0..looks {
        commander.tell(Command::Clock).unwrap();
    }
    let company = Company {
        commands: Some(commands),
        clock: Some(Clock::start().unwrap()),
        ..Company::default()
    };
    let stdio = Stdio {
        stdin: null(),
        stdout: null(),
        stderr: null(),
    };
    let (signals, _send) = fake_signals();
    let exec = sh("true");
    let program = Program::New(&exec);
    let outcome = attach_with(&mut connection, program, stdio, signals, None, company).unwrap();
    assert_eq!(outcome, code(0));
    thread.join().unwrap()
}

#[test]
fn a_clock_that_is_right_is_left_alone() {
    assert_eq!(told(Duration::ZERO, 1, 1), [0]);
}

#[test]
fn a_clock_that_is_behind_is_moved_by_the_difference() {
    let [first, shift, last] = told(BEHIND, 2, 3)[..] else {
        panic!("not three questions");
    };
    // The second look, which was wanted during the first, finds it right.
    assert_eq!((first, last), (0, 0));
    let difference = Duration::from_nanos(shift.unsigned_abs());
    let most = Duration::from_secs(1);
    assert!(shift > 0 && difference.abs_diff(BEHIND) < most, "{shift}");
}
