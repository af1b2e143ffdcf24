//! A [`Project`] from its files: reading them, and knowing the line of each value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::load::{Group, Loader, Merged, Named, ReadVariables};
use super::texts::{Fault, Texts};
use super::{Project, Service, Variables, keys, machine, merge};
use crate::app::document::{Member, Node, Value};
use crate::app::file::{at_most, complaints_of, document_of, whole_file};
use crate::app::quote::one_line;
use crate::app::reader::{self, Finding};
use crate::app::{App, AppFile, Complaint, MAX_FILE_SIZE, Place, Problem, Problems, text};

/// What such a file is called, in the order in which they are looked for.
pub const FILE_NAMES: [&str; 2] = ["compose.json", "mvm-compose.json"];

/// What a file beside them is called that is put over them, in the same order.
pub const OVERRIDE_NAMES: [&str; 2] = ["compose.override.json", "mvm-compose.override.json"];

/// A [`Project`] and the files it came from.
#[derive(Debug)]
pub struct ComposeFile {
    /// What the files say, with absolute paths and with its variables.
    pub project: Project,
    source: Source,
    path: PathBuf,
}

/// Which files, and what is said of them elsewhere.
pub struct Asked<'a> {
    /// The files, each put over those before it.
    pub files: &'a [PathBuf],
    /// The project's name, whatever the files say.
    pub name: Option<&'a str>,
    /// Variables that may stand in the files.
    pub variables: &'a Variables,
    /// What reads more of them from files.
    pub read_variables: ReadVariables<'a>,
}

/// The texts of a project, and what they come to.
#[derive(Debug)]
struct Source {
    name: String,
    texts: Texts,
    /// The tree, each service with the defaults that are for it.
    root: Node,
}

/// Whether the file at `path` is a project's rather than a machine's: by its name, or by its keys.
pub fn is_compose(path: &Path) -> bool {
    let is_named = || FILE_NAMES.iter().any(|name| path.ends_with(name));
    let has_services = || {
        let bytes = text::read_file(path, MAX_FILE_SIZE).ok()?;
        let (document, _) = document_of("", &bytes).ok()?;
        Some(document.root().member("services").is_some())
    };
    path != Path::new("-") && (is_named() || has_services() == Some(true))
}

impl ComposeFile {
    /// Reads and checks files. Relative paths in them start at the first one's folder.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn load(asked: &Asked<'_>) -> Result<Self, Problems> {
        let [first, ..] = asked.files else {
            return Err(whole_file("", "no file is named".into()).into());
        };
        let label = label_of(first);
        let path = std::path::absolute(first)
            .map_err(|error| whole_file(&label, format!("cannot find its folder: {error}")))?;
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let mut loader = Loader::new(asked.read_variables);
        let group = Group {
            variables: loader.variables(&folder, &[], asked.variables),
            shown: first.parent().unwrap_or(Path::new("")).to_owned(),
            folder,
        };
        let named = |path: &PathBuf| Named {
            path: path.clone(),
            label: label_of(path),
            from: None,
        };
        let files: Vec<_> = asked.files.iter().map(named).collect();
        let merged = loader.put_together(&files, &group);
        Self::of(loader, merged, &label, &path, asked.name)
    }

    /// Checks the bytes of the file at `path`, which messages call `label`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn parse(
        label: &str,
        path: &Path,
        bytes: &[u8],
        name: Option<&str>,
        variables: &Variables,
    ) -> Result<Self, Problems> {
        let mut loader = Loader::new(&|_, _| Ok(Variables::new()));
        let folder = path.parent().unwrap_or(Path::new("/")).to_owned();
        let group = Group {
            shown: folder.clone(),
            folder,
            variables: variables.clone(),
        };
        let root = loader.parse(label, bytes, &group);
        let merged = root.map(|root| loader.with_included(root, &group));
        Self::of(loader, merged, label, path, name)
    }

    fn of(
        mut loader: Loader<'_>,
        merged: Option<Merged>,
        label: &str,
        path: &Path,
        name: Option<&str>,
    ) -> Result<Self, Problems> {
        let Some(merged) = merged else {
            return Err(at_most(label, loader.problems));
        };
        let root = loader.settle(merged);
        let Loader {
            texts,
            mut problems,
            ..
        } = loader;
        let (file, findings) = reader::read::<keys::File>(&texts, &root);
        problems.extend(findings.into_iter().map(|finding| texts.found(finding)));
        let Some(file) = file else {
            return Err(at_most(label, once(problems)));
        };
        let is_whole = problems.is_empty();
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut project = Project {
            name: name.map_or_else(|| name_of(&file, folder), str::to_owned),
            services: BTreeMap::new(),
            networks: file.networks,
            volumes: file.volumes,
        };
        let source = Source {
            name: label.into(),
            texts,
            root,
        };
        problems.extend(source.read_services(&mut project));
        if is_whole && problems.is_empty() {
            let complaints = project.check();
            problems.extend(complaints.iter().map(|one| source.locate(one)));
        }
        let problems = once(problems);
        if problems.is_empty() {
            let path = path.to_owned();
            return Ok(Self {
                project,
                source,
                path,
            });
        }
        Err(at_most(label, problems))
    }

    /// Where the file is, of several the first.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All that the file names on the host and that is not there, or not what it should be.
    ///
    /// # Errors
    /// There is something.
    pub fn check_host(&self) -> Result<(), Problems> {
        let mut problems = Vec::new();
        for (name, service) in &self.project.services {
            let app = self.project.machine(name, service, 1);
            let label = &self.source.name;
            let file =
                AppFile::of(app, label).map_err(|error| whole_file(label, format!("{error:#}")))?;
            let complaints = file.complaints_of_host().into_iter();
            problems.extend(complaints.map(|one| self.source.locate_in(name, &one).1));
        }
        self.none_of(problems)
    }

    /// Has `look` say what is wrong with the images that services name, each once.
    ///
    /// # Errors
    /// It says something of one.
    pub fn check_images(&self, look: impl Fn(&str) -> Result<(), String>) -> Result<(), Problems> {
        let mut seen = BTreeMap::new();
        let mut problems = Vec::new();
        for (name, service) in &self.project.services {
            let Some(image) = &service.app.image else {
                continue;
            };
            if let Err(message) = seen.entry(image).or_insert_with(|| look(image)) {
                let place = Place::root().key("image");
                let message = message.clone();
                let complaint = Complaint { place, message };
                problems.push(self.source.locate_in(name, &complaint).1);
            }
        }
        self.none_of(problems)
    }

    fn none_of(&self, problems: Vec<Problem>) -> Result<(), Problems> {
        let problems = once(problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(at_most(&self.source.name, problems))
        }
    }
}

/// Each problem once: what is wrong with the defaults is so in each service.
fn once(problems: Vec<Problem>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = Problems::new(problems).into_iter().collect();
    problems.dedup();
    problems
}

/// The project's name where nobody asks for another.
fn name_of(file: &keys::File, folder: &Path) -> String {
    let of_folder = || {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let name = name.to_lowercase();
        let name = name.replace(|c| !is_good(c), "-");
        name.trim_matches('-').to_owned()
    };
    file.name.clone().unwrap_or_else(of_folder)
}

impl Source {
    /// Reads the services into `project`. Returns what is wrong with them.
    fn read_services(&self, project: &mut Project) -> Vec<Problem> {
        let mut problems = Vec::new();
        let Some(services) = self.root.member("services") else {
            return problems;
        };
        let members = services.node.members();
        let are_objects = members.iter().filter(|member| member.node.is_object());
        for Member { key, node, .. } in are_objects.take(super::MAX_SERVICES) {
            let (service, found) = self.read_service(key, node, &project.name);
            problems.extend(found);
            if let Some(service) = service {
                project.services.insert(key.clone(), service);
            }
        }
        if members.len() > super::MAX_SERVICES {
            let most = super::MAX_SERVICES;
            let message = format!("must be at most {most} services, are {}", members.len());
            let place = Place::root().key("services");
            problems.push(self.locate(&Complaint { place, message }));
        }
        problems
    }

    fn read_service(
        &self,
        name: &str,
        tree: &Node,
        project: &str,
    ) -> (Option<Service>, Vec<Problem>) {
        let texts = &self.texts;
        let (keys, section) = merge::split(tree, keys::OF_SERVICE);
        let (own_name, mut section) = merge::split(&section, &["name"]);
        let own_name = own_name.members().iter().map(|member| {
            let message = "must not be given: the project and the service say the machine's name";
            texts.fault(Fault {
                at: member.node.at,
                message: message.into(),
            })
        });
        let mut problems: Vec<Problem> = own_name.collect();
        if let Value::Object(members) = &mut section.value {
            members.push(named(tree.at, &machine::name(project, name, 1)));
        }
        let (keys, found) = reader::read_section::<keys::Service>(texts, &keys, &[]);
        let (app, also_found) = reader::read_section::<App>(texts, &section, keys::OF_SERVICE);
        let findings: Vec<Finding> = found.into_iter().chain(also_found).collect();
        let (Some(keys), Some(mut app)) = (keys, app) else {
            problems.extend(findings.into_iter().map(|finding| texts.found(finding)));
            return (None, problems);
        };
        let spoilt: Vec<&Place> = findings
            .iter()
            .filter_map(|one| one.spoilt.as_ref())
            .collect();
        let folder = |place: &Place| texts.folder_at(tree.nearest(place).0.at);
        for complaint in complaints_of(&mut app, folder, spoilt.is_empty()) {
            let (place, problem) = self.locate_in(name, &complaint);
            // The name is judged as the project's and the service's.
            let is_own = complaint.place != Place::root().key("name");
            if is_own && !spoilt.iter().any(|spoilt| spoilt.concerns(&place)) {
                problems.push(problem);
            }
        }
        problems.extend(findings.into_iter().map(|finding| texts.found(finding)));
        let service = Service {
            app,
            depends_on: keys.depends_on,
            networks: keys.networks,
            scale: keys.scale,
            profiles: keys.profiles,
        };
        (Some(service), problems)
    }

    /// A complaint about the whole project's values with its line.
    fn locate(&self, complaint: &Complaint) -> Problem {
        self.texts.locate(&self.root, complaint).1
    }

    /// A complaint about a service's app: its place in a file, and its line.
    fn locate_in(&self, service: &str, complaint: &Complaint) -> (Place, Problem) {
        let place = Place::root().key("services").key(service.to_owned());
        let steps = complaint.place.steps().iter().cloned();
        self.texts.locate(
            &self.root,
            &Complaint {
                place: steps.fold(place, Place::step),
                message: complaint.message.clone(),
            },
        )
    }
}

/// What messages call a file.
fn label_of(path: &Path) -> String {
    one_line(&path.to_string_lossy())
}

/// The member "name" of a section at `at`.
fn named(at: usize, name: &str) -> Member {
    let node = Node {
        at,
        value: Value::String(name.into()),
    };
    Member {
        key_at: at,
        key: "name".into(),
        node,
    }
}
