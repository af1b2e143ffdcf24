//! The sections of a program that serves: secrets, healthcheck, restart.

use std::collections::BTreeMap;

use super::super::secret::is_name;
use super::super::{
    Duration, HealthCheck, Http, MAX_ARGS, MAX_CONTAINS, MAX_SECRETS, Restart, Secret, User,
};
use super::{Check, Place, quoted};

/// The shortest interval and timeout: checks shall not be what the machine is busy with.
const MIN_PAUSE: Duration = Duration::from_ms(10);

/// The shortest watchdog: a program that is to speak more often is busy with that.
const MIN_WATCHDOG: Duration = Duration::from_ms(100);

/// The longest of any duration here; who writes more has the wrong unit.
const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

impl Check {
    pub(super) fn secrets(&mut self, secrets: &BTreeMap<String, Secret>) {
        let place = Place::root().key("secrets");
        self.expect(
            secrets.len() <= MAX_SECRETS,
            place.clone(),
            format_args!("at most {MAX_SECRETS} secrets"),
            secrets.len(),
        );
        for (name, secret) in secrets.iter().take(MAX_SECRETS) {
            let here = place.clone().key(name.clone());
            if !is_name(name) {
                let found = quoted(name);
                let message = format!(
                    "a secret's name must be 1 to 128 letters, digits, \"_\", \".\" and \"-\", is {found}"
                );
                self.complain(here.clone(), message);
            }
            self.secret(secret, &here);
        }
    }

    fn secret(&mut self, secret: &Secret, place: &Place) {
        let here = |key: &'static str| place.clone().key(key);
        let sources = [
            secret.source.is_some(),
            secret.env.is_some(),
            secret.command.is_some(),
            secret.load_credential.is_some(),
        ];
        self.one_of(&sources, "source, env, command and loadCredential", place);
        if let Some(source) = &secret.source {
            self.host_path(source, here("source"));
        }
        if let Some(env) = &secret.env {
            let is_good = !env.is_empty() && !env.contains(['=', '\0']);
            self.expect(is_good, here("env"), "a variable's name", quoted(env));
        }
        if let Some(command) = &secret.command {
            self.command(command, &here("command"));
        }
        if let Some(name) = &secret.load_credential {
            let allowed = "1 to 128 letters, digits, \"_\", \".\" and \"-\"";
            self.expect(is_name(name), here("loadCredential"), allowed, quoted(name));
        }
        if let Some(path) = &secret.path {
            self.guest_path(path, here("path"));
            self.expect(
                !path.ends_with('/') && !is_kernels(path),
                here("path"),
                "the path of a file, outside of /proc, /sys and /dev",
                quoted(path),
            );
        }
        self.expect(
            secret.mode_bits().is_some(),
            here("mode"),
            "three octal digits such as \"0400\"",
            quoted(&secret.mode),
        );
        if let Some(owner) = &secret.owner {
            let is_good = owner.parse::<User>().is_ok();
            self.expect(is_good, here("owner"), User::ALLOWED, quoted(owner));
        }
    }

    pub(super) fn health(&mut self, health: &HealthCheck) {
        let place = Place::root().key("healthcheck");
        let here = |key: &'static str| place.clone().key(key);
        let kinds = [
            health.exec.is_some(),
            health.http.is_some(),
            health.tcp.is_some(),
            health.unix.is_some(),
            health.disable,
        ];
        self.one_of(&kinds, "exec, http, tcp, unix and disable", &place);
        if let Some(command) = &health.exec {
            self.command(command, &here("exec"));
        }
        if let Some(http) = &health.http {
            self.http(http, &here("http"));
        }
        if let Some(path) = &health.unix {
            self.guest_path(path, here("unix"));
        }
        let retries = 1..u32::MAX;
        self.expect(
            retries.contains(&health.retries),
            here("retries"),
            "a whole number from 1",
            health.retries,
        );
        self.duration(health.interval, MIN_PAUSE, here("interval"));
        self.duration(health.timeout, MIN_PAUSE, here("timeout"));
        self.duration(
            health.start_period,
            Duration::from_ms(0),
            here("startPeriod"),
        );
    }

    pub(super) fn watchdog(&mut self, period: Duration) {
        self.duration(period, MIN_WATCHDOG, Place::root().key("watchdog"));
    }

    pub(super) fn restart(&mut self, restart: &Restart) {
        let here = |key: &'static str| Place::root().key("restart").key(key);
        self.duration(restart.delay, MIN_PAUSE, here("delay"));
        self.duration(restart.max_delay, restart.delay, here("maxDelay"));
        self.expect(
            restart.max_retries != Some(u32::MAX),
            here("maxRetries"),
            "a whole number that means something",
            "more",
        );
    }

    fn duration(&mut self, duration: Duration, least: Duration, place: Place) {
        self.expect(
            (least..=MAX_DURATION).contains(&duration),
            place,
            format_args!("from {least} to {MAX_DURATION}"),
            duration,
        );
    }

    fn http(&mut self, http: &Http, place: &Place) {
        let path = &http.path;
        // A request's first line holds nothing else (RFC 9112 §3.2.1).
        let is_plain = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
        let allowed = "a path of printable ASCII without spaces that begins with \"/\"";
        self.expect(is_plain, place.clone().key("path"), allowed, quoted(path));
        if let Some(text) = &http.contains {
            let allowed = format_args!("1 to {MAX_CONTAINS} bytes");
            let is_good = (1..=MAX_CONTAINS).contains(&text.len());
            let place = place.clone().key("contains");
            self.expect(is_good, place.clone(), allowed, text.len());
            self.no_nul(text, place);
        }
    }

    /// A program and its arguments.
    fn command(&mut self, command: &[String], place: &Place) {
        let has_program = command.first().is_some_and(|first| !first.is_empty());
        let allowed = format_args!("a program and at most {} arguments", MAX_ARGS - 1);
        self.expect(
            has_program && command.len() <= MAX_ARGS,
            place.clone(),
            allowed,
            format_args!("{} items", command.len()),
        );
        for (nth, argument) in command.iter().enumerate() {
            self.argument(argument, place.clone().index(nth));
        }
    }

    /// One of several keys must be there, and no other of them.
    fn one_of(&mut self, are_there: &[bool], keys: &str, place: &Place) {
        let count = are_there.iter().filter(|is_there| **is_there).count();
        if count != 1 {
            self.complain(
                place.clone(),
                format!("must have one of {keys}, has {count}"),
            );
        }
    }
}

/// Whether a path lies in what the kernel fills.
fn is_kernels(path: &str) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|own| {
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}
