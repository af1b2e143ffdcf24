//! The files of a project as one tree: each over those before it, with what they include.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::keys::{self, Include};
use super::texts::{Fault, MAX_FILES, Texts};
use super::{MAX_SERVICES, Variables, merge, overlay, variables};
use crate::app::document::{Member, Node, Value};
use crate::app::file::{document_of, whole_file};
use crate::app::quote::one_line;
use crate::app::reader;
use crate::app::short_form::Short;
use crate::app::{MAX_FILE_SIZE, Problem, text};

/// Reads a file of variables, which may ask for those that are given.
pub type ReadVariables<'a> = &'a dyn Fn(&Path, &Variables) -> Result<Variables, Problem>;

/// The file of variables in a project's folder.
const VARIABLES_FILE: &str = ".env";

/// What no service has by default.
const NOT_DEFAULTS: &[&str] = &["name", "dependsOn", "networks", "scale", "profiles"];

/// What a file has of those that it includes.
const INCLUDED: [&str; 3] = ["services", "networks", "volumes"];

/// A file by its path, and by what messages call it.
pub struct Named {
    pub path: PathBuf,
    pub label: String,
    /// Where it is said that it is included.
    pub from: Option<usize>,
}

/// What holds for files that are put over each other.
pub struct Group {
    /// Where their relative paths start.
    pub folder: PathBuf,
    /// The same as messages have it.
    pub shown: PathBuf,
    /// What may stand in them.
    pub variables: Variables,
}

/// Files that were put together.
pub struct Merged {
    pub root: Node,
    /// Services that came from elsewhere, with the defaults of there.
    settled: BTreeSet<String>,
}

/// Reads files, and keeps what is wrong with them.
pub struct Loader<'a> {
    pub texts: Texts,
    pub problems: Vec<Problem>,
    read_variables: ReadVariables<'a>,
    /// The files that include each other so far, the outermost first.
    around: Vec<PathBuf>,
}

impl<'a> Loader<'a> {
    pub fn new(read_variables: ReadVariables<'a>) -> Self {
        Self {
            texts: Texts::default(),
            problems: Vec::new(),
            read_variables,
            around: Vec::new(),
        }
    }

    /// Variables of `files`, or of the file beside; those of `known` win.
    pub fn variables(&mut self, folder: &Path, files: &[PathBuf], known: &Variables) -> Variables {
        let beside = folder.join(VARIABLES_FILE);
        let beside = (files.is_empty() && beside.exists()).then_some(beside);
        let mut variables = Variables::new();
        for file in beside.iter().chain(files) {
            match (self.read_variables)(file, known) {
                Ok(more) => variables.extend(more),
                Err(problem) => self.problems.push(problem),
            }
        }
        variables.extend(known.clone());
        variables
    }

    /// Each file over those before it.
    pub fn put_together(&mut self, files: &[Named], group: &Group) -> Option<Merged> {
        let mut merged: Option<Merged> = None;
        for file in files {
            let Some(bytes) = self.read(file) else {
                continue;
            };
            let Some(root) = self.parse(&file.label, &bytes, group) else {
                continue;
            };
            // Two names of one file are one file in a circle.
            let real = file.path.canonicalize();
            self.around.push(real.unwrap_or_else(|_| file.path.clone()));
            let next = self.with_included(root, group);
            self.around.pop();
            merged = Some(match merged {
                None => next,
                Some(under) => Merged {
                    root: overlay::file(&self.texts, under.root, next.root),
                    settled: &under.settled | &next.settled,
                },
            });
        }
        merged
    }

    fn read(&mut self, file: &Named) -> Option<Vec<u8>> {
        match (text::read_file(&file.path, MAX_FILE_SIZE), file.from) {
            (Ok(bytes), _) => return Some(bytes),
            (Err(error), Some(at)) => self.fault(at, format!("{}: {error}", file.label)),
            (Err(error), None) => self.problems.push(whole_file(&file.label, error)),
        }
        None
    }

    /// The tree of a text, with its variables.
    pub fn parse(&mut self, label: &str, bytes: &[u8], group: &Group) -> Option<Node> {
        if self.texts.is_full() {
            let message = format!("is one more than the {MAX_FILES} files that a project may have");
            self.problems.push(whole_file(label, message));
            return None;
        }
        let (document, duplicates) = match document_of(label, bytes) {
            Ok(read) => read,
            Err(problem) => {
                self.problems.push(problem);
                return None;
            }
        };
        let start = self.texts.next_start();
        let mut root = self.texts.add(label, &group.folder, document);
        for mut duplicate in duplicates {
            duplicate.at += start;
            self.problems.push(self.texts.found(duplicate));
        }
        let mut faults = Vec::new();
        variables::fill_in(&mut root, &group.variables, &mut faults);
        for Fault { at, message } in faults {
            self.fault(at, message);
        }
        Some(root)
    }

    fn fault(&mut self, at: usize, message: String) {
        let problem = self.texts.fault(Fault { at, message });
        self.problems.push(problem);
    }

    /// A file with what it includes.
    pub fn with_included(&mut self, root: Node, group: &Group) -> Merged {
        let mut whole = Merged {
            root,
            settled: BTreeSet::new(),
        };
        let Some(list) = whole.root.member("include").map(|one| one.node.clone()) else {
            return whole;
        };
        let (includes, findings) =
            reader::read_section::<Vec<Short<Include>>>(&self.texts, &list, &[]);
        let (Some(includes), Value::List(items), true) =
            (includes, &list.value, findings.is_empty())
        else {
            // What is wrong with them is said when the whole file is read.
            return whole;
        };
        for (Short(include), item) in includes.iter().zip(items) {
            if let Some(part) = self.part(include, item.at, group) {
                self.take_over(&mut whole, &part);
            }
        }
        whole
    }

    /// What is included at `at`, by itself.
    fn part(&mut self, include: &Include, at: usize, group: &Group) -> Option<Node> {
        let Some(first) = include.path.first() else {
            self.fault(at, "must name a file".into());
            return None;
        };
        let of = |start: &Path| match &include.project_directory {
            Some(folder) => start.join(folder),
            None => start.join(first).parent().unwrap_or(start).to_owned(),
        };
        let folder = of(&group.folder);
        let in_folder = |path: &String| group.folder.join(path);
        let variable_files: Vec<_> = include.env_file.iter().map(in_folder).collect();
        let inner = Group {
            variables: self.variables(&folder, &variable_files, &group.variables),
            shown: of(&group.shown),
            folder,
        };
        let named = |path: &String| Named {
            path: in_folder(path),
            label: one_line(&group.shown.join(path).to_string_lossy()),
            from: Some(at),
        };
        let files: Vec<_> = include.path.iter().map(named).collect();
        for file in &files {
            let real = file.path.canonicalize().unwrap_or_default();
            if self.around.contains(&real) {
                self.fault(at, format!("{} is included by itself", file.label));
                return None;
            }
        }
        let merged = self.put_together(&files, &inner)?;
        let root = self.settle(merged);
        let (_, findings) = reader::read::<keys::File>(&self.texts, &root);
        let found = findings
            .into_iter()
            .map(|finding| self.texts.found(finding));
        self.problems.extend(found);
        Some(root)
    }

    /// Puts what is included beside what the file says itself.
    fn take_over(&mut self, whole: &mut Merged, part: &Node) {
        for key in INCLUDED {
            let Some(section) = part.member(key).filter(|one| one.node.is_object()) else {
                continue;
            };
            let Some(own) = section_of(&mut whole.root, key) else {
                continue;
            };
            for member in section.node.members() {
                let Some(there) = own.iter().find(|own| own.key == member.key) else {
                    own.push(member.clone());
                    if key == "services" {
                        whole.settled.insert(member.key.clone());
                    }
                    continue;
                };
                // What two files include is there once.
                let is_same = there.node.says_what(&member.node)
                    && self.texts.have_one_folder(there.node.at, member.node.at);
                if !is_same {
                    let elsewhere = self.texts.shown(member.node.at);
                    let message = format!("is in {elsewhere}, too, which is included");
                    let at = there.node.at;
                    let problem = self.texts.fault(Fault { at, message });
                    self.problems.push(problem);
                }
            }
        }
    }

    /// The tree with the defaults in each service that they are for.
    pub fn settle(&mut self, merged: Merged) -> Node {
        let Merged { mut root, settled } = merged;
        let Some(defaults) = root.member("defaults").cloned() else {
            return root;
        };
        let (others, defaults) = merge::split(&defaults.node, NOT_DEFAULTS);
        for other in others.members() {
            self.fault(other.node.at, "is a service's own to say".into());
        }
        let services = section_of(&mut root, "services").into_iter().flatten();
        let services = services.filter(|one| one.node.is_object() && !settled.contains(&one.key));
        for service in services.take(MAX_SERVICES) {
            service.node = merge::over(&defaults, &service.node);
        }
        root
    }
}

/// The members of a section, which is made if it is not there; none of what is no object.
fn section_of<'a>(root: &'a mut Node, key: &str) -> Option<&'a mut Vec<Member>> {
    let at = root.at;
    let Value::Object(members) = &mut root.value else {
        return None;
    };
    let nth = members.iter().position(|member| member.key == key);
    let nth = nth.unwrap_or_else(|| {
        let value = Value::Object(Vec::new());
        members.push(Member {
            key_at: at,
            key: key.into(),
            node: Node { at, value },
        });
        members.len() - 1
    });
    match &mut members.get_mut(nth)?.node.value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}
