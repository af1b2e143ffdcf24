//! Both ends of the protocol against each other: `attach` here, the guest's agent in a thread.
//!
//! The one thing to know: no machine is needed, since the agent runs its programs on this system.

mod collected;
mod flow;
mod hostile;
mod launched;
mod left;
mod timed;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Result;
use guest::agent::{Agent, End};
use guest::protocol::{Exec, Exit, Message, Setup, Tty};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process};

use super::signals::Signals;
use super::{Company, Connection, Outcome, Program, Stdio, attach_with};

/// Long enough for any machine; a wait this long means that something hangs.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Signal numbers as bytes of a stream.
struct FakeSignals(UnixStream);

impl Signals for FakeSignals {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    fn pending(&mut self) -> Vec<u8> {
        let mut numbers = vec![0; 16];
        let count = self.0.read(&mut numbers).unwrap();
        numbers.truncate(count);
        numbers
    }
}

fn fake_signals() -> (FakeSignals, UnixStream) {
    let (read, write) = UnixStream::pair().unwrap();
    (FakeSignals(read), write)
}

fn pipe() -> (File, OwnedFd) {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    (read.into(), write)
}

fn null() -> OwnedFd {
    File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap()
        .into()
}

/// A connection to an agent that is set up, and the thread that it runs in.
fn machine() -> (Connection, JoinHandle<Result<End>>) {
    let (host, guest) = UnixStream::pair().unwrap();
    let agent = Agent::greet(guest.into(), None, 1).unwrap();
    let thread = thread::spawn(|| agent.serve(&mut |_| Ok(())));
    let mut connection = Connection::open(host, TIMEOUT).unwrap();
    connection.set_up(&Setup::default(), TIMEOUT).unwrap();
    (connection, thread)
}

fn sh(script: &str) -> Exec {
    Exec {
        argv: vec!["sh".into(), "-c".into(), script.into()],
        stdin: true,
        ..Exec::default()
    }
}

fn read_all(mut file: File) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// How a program ended, and what it wrote.
struct Run {
    outcome: Outcome,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn run(exec: &Exec, input: Vec<u8>) -> Run {
    let (mut connection, _agent) = machine();
    let (stdin, feed) = pipe();
    let (stdout, out) = pipe();
    let (stderr, err) = pipe();
    let (stdout, stderr) = (read_all(stdout), read_all(stderr));
    // A program may not read all of it.
    let feeder = thread::spawn(move || File::from(feed).write_all(&input).unwrap_or_default());
    let streams = Stdio {
        stdin: stdin.into(),
        stdout: out,
        stderr: err,
    };
    let (signals, _send) = fake_signals();
    let outcome = attach_with(
        &mut connection,
        Program::New(exec),
        streams,
        signals,
        None,
        Company::default(),
    )
    .unwrap();
    feeder.join().unwrap();
    Run {
        outcome,
        stdout: stdout.join().unwrap(),
        stderr: stderr.join().unwrap(),
    }
}

fn code(code: u8) -> Outcome {
    Outcome::Exited(Exit::Code(code))
}

#[test]
fn exit_codes_come_back() {
    for status in [0, 1, 42, 126, 127, 255] {
        let outcome = run(&sh(&format!("exit {status}")), Vec::new()).outcome;
        assert_eq!(outcome, code(status));
        assert_eq!(outcome.status(), status);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let outcome = run(&sh("kill -TERM $$"), Vec::new()).outcome;
    assert_eq!(outcome, Outcome::Exited(Exit::Signal(15)));
    assert_eq!(outcome.status(), 143);
}

#[test]
fn the_streams_stay_apart_and_are_binary() {
    let ended = run(
        &sh(r"printf 'a\000\377\r\n'; printf 'b\012\200' >&2"),
        Vec::new(),
    );
    assert_eq!(ended.stdout, b"a\0\xff\r\n");
    assert_eq!(ended.stderr, b"b\n\x80");
}

#[test]
fn sixty_four_mebibytes_pass_through_unchanged() {
    let mut state = 1u32;
    let input: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(64 << 20)
    .collect();
    let ended = run(&sh("cat"), input.clone());
    assert_eq!(ended.outcome, code(0));
    assert!(
        ended.stdout == input,
        "{} bytes came back",
        ended.stdout.len()
    );
}

#[test]
fn input_that_nobody_reads_holds_nothing_up() {
    let ended = run(&sh("exec 0<&-; echo done"), vec![b'x'; 8 << 20]);
    assert_eq!((ended.outcome, ended.stdout), (code(0), b"done\n".to_vec()));
}

#[test]
fn a_program_without_input_reads_its_end() {
    let exec = Exec {
        stdin: false,
        ..sh("cat; echo done")
    };
    let ended = run(&exec, b"not for it".to_vec());
    assert_eq!(ended.stdout, b"done\n");
}

#[test]
fn a_child_left_behind_does_not_hold_the_end_up() {
    let ended = run(&sh("sleep 1000 & echo $!"), Vec::new());
    let pid: i32 = String::from_utf8(ended.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    let left_behind = Pid::from_raw(pid).unwrap();
    // Fails if it is not there any more.
    kill_process(left_behind, Signal::KILL).unwrap();
    assert_eq!(ended.outcome, code(0));
}

#[test]
fn environment_and_folder_are_as_asked_for() {
    let exec = Exec {
        env: vec!["A=1 2".into(), "HOME=/h".into()],
        cwd: Some("/usr".into()),
        ..sh(r#"echo "$A,$HOME,$USER,$PATH,$(pwd)""#)
    };
    let ended = run(&exec, Vec::new());
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let expected = format!("1 2,/h,root,{path},/usr\n");
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), expected);
}

#[test]
fn signals_are_as_at_the_start_of_a_session() {
    // The agent itself ignores SIGPIPE, as every Rust program does.
    let script = "grep SigIgn /proc/self/status; \
                  set -- $(cat /proc/$$/stat); test $6 -eq $$ && echo leader";
    let ended = run(&sh(script), Vec::new());
    let expected = "SigIgn:\t0000000000000000\nleader\n";
    assert_eq!(String::from_utf8(ended.stdout).unwrap(), expected);
}

#[test]
fn arguments_need_not_be_text() {
    let exec = Exec {
        argv: vec!["printf".into(), "%s".into(), vec![b'a', 0xff, 0xfe].into()],
        ..Exec::default()
    };
    assert_eq!(run(&exec, Vec::new()).stdout, b"a\xff\xfe");
}

#[test]
fn two_megabytes_of_environment_arrive() {
    // The kernel takes 128 KiB in one string, and a quarter of the stack's limit of 8 MiB in all.
    let env: Vec<String> = (0..15)
        .map(|n| format!("V{n}={}", "x".repeat(125_000)))
        .collect();
    let exec = Exec {
        env: env.iter().map(|entry| entry.as_str().into()).collect(),
        ..sh("set | wc -c")
    };
    let ended = run(&exec, Vec::new());
    let bytes: usize = String::from_utf8(ended.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    assert!(bytes > 15 * 125_000, "{bytes}");
}

fn refused(exec: &Exec) -> (u8, String) {
    match run(exec, Vec::new()).outcome {
        Outcome::Refused { code, message } => (code, message),
        other => panic!("not refused but {other:?}"),
    }
}

fn program(path: &str) -> Exec {
    Exec {
        argv: vec![path.into()],
        ..Exec::default()
    }
}

#[test]
fn what_cannot_be_executed_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt;
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (plain, script) = (
        file("plain", "text", 0o644),
        file("script", "#!/no/such/interpreter\n", 0o755),
    );
    let no_format = file("no-format", "\u{1}\u{2}", 0o755);
    let folder = folder.path().to_str().unwrap();
    let of = |path: &str, reason: &str| format!("cannot execute {path}: {reason}");
    let cases = [
        ("/no/such", 127, of("/no/such", "there is no such file")),
        (
            &*script,
            127,
            of(
                &script,
                "its interpreter /no/such/interpreter does not exist",
            ),
        ),
        (&*plain, 126, of(&plain, "Permission denied")),
        (folder, 126, of(folder, "it is a folder")),
        (
            &*no_format,
            126,
            of(
                &no_format,
                "it is neither a script with a #! line nor a program for this machine",
            ),
        ),
    ];
    for (path, code, message) in cases {
        assert_eq!(refused(&program(path)), (code, message));
    }
}

#[test]
fn what_cannot_be_set_up_is_named() {
    let missing = Exec {
        cwd: Some("/no/such".into()),
        ..sh("true")
    };
    let nobody = Exec {
        user: Some("nemo".into()),
        ..sh("true")
    };
    let nowhere = Exec {
        env: vec!["PATH=/no:/such".into()],
        ..program("thing")
    };
    let long = Exec {
        argv: vec!["/bin/echo".into(), "x".repeat(200_000).into()],
        ..Exec::default()
    };
    let cases = [
        (
            missing,
            126,
            "cannot change to folder /no/such: No such file or directory",
        ),
        (nobody, 126, "there is no user \"nemo\" in /etc/passwd"),
        (
            nowhere,
            127,
            "cannot execute thing: no folder of PATH has it (PATH=/no:/such)",
        ),
        (
            long,
            126,
            "cannot execute /bin/echo: \
             the arguments and the environment are longer than the kernel takes",
        ),
    ];
    for (exec, code, message) in cases {
        assert_eq!(refused(&exec), (code, message.to_owned()));
    }
}

#[test]
fn a_terminal_has_its_size_and_joins_the_streams() {
    let exec = Exec {
        tty: Some(Tty {
            rows: 31,
            cols: 97,
            term: "vt100".into(),
        }),
        // Pseudo-terminals have the major number 136.
        ..sh("stty size; tty >&2; echo $TERM; set -- $(cat /proc/$$/stat); echo $(($7 >> 8))")
    };
    let ended = run(&exec, Vec::new());
    let text = String::from_utf8(ended.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines[0], lines[2], lines[3]), ("31 97", "vt100", "136"));
    assert!(lines[1].starts_with("/dev/pts/"), "{text}");
    assert_eq!(ended.stderr, b"");
}

fn on_terminal(script: &str) -> Exec {
    Exec {
        tty: Some(Tty {
            rows: 24,
            cols: 80,
            term: String::new(),
        }),
        ..sh(script)
    }
}

#[test]
fn the_interrupt_character_ends_a_program_on_a_terminal() {
    let ended = run(&on_terminal("exec sleep 1000"), vec![3]);
    assert_eq!(ended.outcome, Outcome::Exited(Exit::Signal(2)));
}

#[test]
fn the_end_of_input_ends_a_line_reader_on_a_terminal() {
    let ended = run(
        &on_terminal("stty -echo; cat; echo end"),
        b"one\ntwo".to_vec(),
    );
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(text.ends_with("one\r\ntwoend\r\n"), "{text:?}");
}

#[test]
fn many_sessions_run_at_once() {
    let threads: Vec<_> = (0..32u8)
        .map(|number| {
            thread::spawn(move || {
                let script = format!("cat; exit {number}");
                let input = vec![number; 300_000];
                let ended = run(&sh(&script), input.clone());
                assert_eq!((ended.outcome, ended.stdout == input), (code(number), true));
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn power_off_ends_the_agent() {
    let (mut connection, agent) = machine();
    connection.send(&Message::PowerOff).unwrap();
    assert_eq!(agent.join().unwrap().unwrap(), End::PowerOff);
}

#[test]
fn a_host_that_leaves_ends_what_it_started() {
    let (mut connection, agent) = machine();
    let (mut stdout, out) = pipe();
    let host = thread::spawn(move || {
        let (signals, mut send) = fake_signals();
        let stdio = Stdio {
            stdin: null(),
            stdout: out,
            stderr: null(),
        };
        send.write_all(&[2, 2]).unwrap();
        attach_with(
            &mut connection,
            Program::New(&sh("trap '' INT; echo $$; sleep 1000")),
            stdio,
            signals,
            None,
            Company::default(),
        )
    });
    assert_eq!(host.join().unwrap().unwrap(), Outcome::GaveUp { signal: 2 });
    assert_eq!(agent.join().unwrap().unwrap(), End::HostGone);
    // The pipe has no writer left, so this ends.
    stdout.read_to_end(&mut Vec::new()).unwrap();
}
