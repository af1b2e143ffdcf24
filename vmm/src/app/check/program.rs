//! The program that a machine runs.

use std::path::Path;

use super::super::ulimit::{MAX_NOFILE, RESOURCES};
use super::super::{
    App, Id, MAX_ARG_SIZE, MAX_ARGS, MAX_ENV, MAX_GROUPS, Program, User, resource_number, suggest,
};
use super::{Check, Place, quoted};
use crate::closure::{STORE_DIR, StorePath};

impl Check {
    /// What the machine runs.
    pub(super) fn main(&mut self, app: &App) {
        let root = Place::root;
        match &app.system {
            None => self.program(&app.app, app.image.is_some(), &root().key("app")),
            Some(system) => {
                let place = root().key("system");
                let is_stored = StorePath::containing(Path::new(&system.path)).is_some();
                let allowed = format_args!("a folder in {STORE_DIR}");
                self.expect(
                    is_stored,
                    place.clone().key("path"),
                    allowed,
                    quoted(&system.path),
                );
                self.guest_path(&system.path, place.key("path"));
                if !app.app.is_absent() {
                    let message = "must not be given with `system`, which has a program of its own";
                    self.complain(root().key("app"), message.into());
                }
            }
        }
    }

    /// `has_image`: what is missing here may be there.
    fn program(&mut self, program: &Program, has_image: bool, place: &Place) {
        let place = |key: &'static str| place.clone().key(key);
        let entrypoint = &program.entrypoint;
        match entrypoint.first().map(String::as_str) {
            None if !has_image => {
                let message =
                    "must be the program to run, where there is neither \"system\" nor \"image\"";
                self.complain(place("entrypoint"), message.into());
            }
            Some("") => {
                let message = "must be the program to run, is an empty string";
                self.complain(place("entrypoint"), message.into());
            }
            _ => {}
        }
        let count = entrypoint.len() + program.args.len();
        if count > MAX_ARGS {
            let message =
                format!("must be at most {MAX_ARGS} items with the entrypoint's, are {count}");
            self.complain(place("args"), message);
        }
        for (nth, arg) in entrypoint.iter().enumerate() {
            self.argument(arg, place("entrypoint").index(nth));
        }
        for (nth, arg) in program.args.iter().enumerate() {
            self.argument(arg, place("args").index(nth));
        }
        self.env(program, &place("env"));
        self.guest_path(program.cwd(), place("cwd"));
        self.expect(
            program.user().parse::<User>().is_ok(),
            place("user"),
            User::ALLOWED,
            quoted(program.user()),
        );
        self.groups(&program.groups, &place("groups"));
        self.ulimits(program, &place("ulimits"));
    }

    fn groups(&mut self, groups: &[String], place: &Place) {
        let most = format_args!("at most {MAX_GROUPS} groups");
        let is_few = groups.len() <= MAX_GROUPS;
        self.expect(is_few, place.clone(), most, groups.len());
        for (nth, group) in groups.iter().enumerate() {
            let is_good = group.parse::<Id>().is_ok();
            let allowed = "the name of a group or a gid";
            self.expect(is_good, place.clone().index(nth), allowed, quoted(group));
        }
    }

    fn ulimits(&mut self, program: &Program, place: &Place) {
        for (name, limit) in &program.ulimits {
            let here = || place.clone().key(name.clone());
            if resource_number(name).is_none() {
                let instead = suggest::instead_of(name, &RESOURCES);
                let message = format!("there is no limit {}{instead}", quoted(name));
                self.complain(here(), message);
            }
            let is_kept = name != "nofile" || limit.hard <= MAX_NOFILE;
            let most = format_args!("at most {MAX_NOFILE}");
            self.expect(is_kept, here(), most, limit);
        }
    }

    fn env(&mut self, program: &Program, place: &Place) {
        self.expect(
            program.env.len() <= MAX_ENV,
            place.clone(),
            format_args!("at most {MAX_ENV} variables"),
            program.env.len(),
        );
        for (name, value) in &program.env {
            let here = || place.clone().key(name.clone());
            if name.is_empty() || name.contains(['=', '\0']) {
                let found = quoted(name);
                let message = format!(
                    "a variable's name must not be empty nor contain \"=\" or NUL, is {found}"
                );
                self.complain(here(), message);
            }
            let value = value.as_deref().unwrap_or("");
            self.argument(value, here());
            let size = name.len() + value.len() + 2;
            if value.len() < MAX_ARG_SIZE && size > MAX_ARG_SIZE {
                self.complain(
                    here(),
                    format!("must be at most {MAX_ARG_SIZE} bytes with its name, is {size}"),
                );
            }
        }
    }

    /// A string that goes to `execve`.
    pub(super) fn argument(&mut self, text: &str, place: Place) {
        let most = MAX_ARG_SIZE - 1;
        self.expect(
            text.len() <= most,
            place.clone(),
            format_args!("at most {most} bytes"),
            format_args!("{} bytes", text.len()),
        );
        self.no_nul(text, place);
    }
}
