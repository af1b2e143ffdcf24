//! A [`Project`] from a file: reading it, and knowing the line of each value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Project, Service, Variables, keys, machine, merge, variables};
use crate::app::document::{Document, Member, Node, Value};
use crate::app::file::{at_most, complaints_of, document_of, problem_at, whole_file};
use crate::app::quote::one_line;
use crate::app::reader::{self, Finding};
use crate::app::{App, AppFile, Complaint, MAX_FILE_SIZE, Place, Problem, Problems, text};

/// What such a file is called, in the order in which they are looked for.
pub const FILE_NAMES: [&str; 2] = ["compose.json", "mvm-compose.json"];

/// A [`Project`] and the file it came from.
#[derive(Debug)]
pub struct ComposeFile {
    /// What the file says, with absolute paths and with its variables.
    pub project: Project,
    source: Source,
    path: PathBuf,
}

/// What no service has by default.
const NOT_DEFAULTS: &[&str] = &["name", "dependsOn", "networks", "scale", "profiles"];

/// Something wrong at an offset.
#[derive(Debug)]
pub(super) struct Fault {
    pub at: usize,
    pub message: String,
}

/// The text of a file, and what services it says there.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    document: Document,
    /// The tree of each service with the project's defaults.
    trees: BTreeMap<String, Node>,
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
    /// Reads and checks a file. `name`: the project's, whatever the file says. Relative paths in it
    /// start at its folder.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn load(path: &Path, name: Option<&str>, variables: &Variables) -> Result<Self, Problems> {
        let label = one_line(&path.to_string_lossy());
        let bytes =
            text::read_file(path, MAX_FILE_SIZE).map_err(|error| whole_file(&label, error))?;
        let path = std::path::absolute(path)
            .map_err(|error| whole_file(&label, format!("cannot find its folder: {error}")))?;
        Self::parse(&label, &path, &bytes, name, variables)
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
        let (mut document, duplicates) = document_of(label, bytes)?;
        let mut faults = Vec::new();
        variables::fill_in(document.root_mut(), variables, &mut faults);
        let mut source = Source {
            name: label.into(),
            document,
            trees: BTreeMap::new(),
        };
        let mut problems: Vec<Problem> = duplicates
            .into_iter()
            .map(|finding| source.found(finding))
            .collect();
        problems.extend(faults.into_iter().map(|fault| source.fault(fault)));
        let (file, findings) = reader::read::<keys::File>(&source.document);
        let is_whole = findings.is_empty() && problems.is_empty();
        problems.extend(findings.into_iter().map(|finding| source.found(finding)));
        let Some(file) = file else {
            return Err(at_most(label, problems));
        };
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut project = Project {
            name: name.map_or_else(|| name_of(&file, folder), str::to_owned),
            services: BTreeMap::new(),
            networks: file.networks,
            volumes: file.volumes,
        };
        problems.extend(source.read_services(folder, &mut project));
        if is_whole && problems.is_empty() {
            let complaints = project.check();
            problems.extend(complaints.into_iter().map(|one| source.locate(one)));
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

    /// Where the file is.
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
            problems.extend(complaints.map(|one| self.source.locate_in(name, &one).2));
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
                problems.push(self.source.locate_in(name, &complaint).2);
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
    fn read_services(&mut self, folder: &Path, project: &mut Project) -> Vec<Problem> {
        let mut problems = Vec::new();
        let root = self.document.root();
        let Some(Value::Object(members)) = root.member("services").map(|one| &one.node.value)
        else {
            return problems;
        };
        let defaults = root.member("defaults").map(|member| {
            let (others, defaults) = merge::split(&member.node, NOT_DEFAULTS);
            problems.extend(others.members().iter().map(|other| {
                self.fault(Fault {
                    at: other.node.at,
                    message: "is a service's own to say".into(),
                })
            }));
            defaults
        });
        let are_objects = members.iter().filter(|member| member.node.is_object());
        let trees = are_objects.take(super::MAX_SERVICES);
        let trees = trees.map(|member| {
            let tree = merge::over(defaults.as_ref(), &member.node);
            (member.key.clone(), tree)
        });
        self.trees = trees.collect();
        for (name, tree) in &self.trees {
            let (service, found) = self.read_service(name, tree, folder, &project.name);
            problems.extend(found);
            if let Some(service) = service {
                project.services.insert(name.clone(), service);
            }
        }
        if members.len() > super::MAX_SERVICES {
            let most = super::MAX_SERVICES;
            let message = format!("must be at most {most} services, are {}", members.len());
            let place = Place::root().key("services");
            problems.push(self.locate(Complaint { place, message }));
        }
        problems
    }

    fn read_service(
        &self,
        name: &str,
        tree: &Node,
        folder: &Path,
        project: &str,
    ) -> (Option<Service>, Vec<Problem>) {
        let (keys, section) = merge::split(tree, keys::OF_SERVICE);
        let (own_name, mut section) = merge::split(&section, &["name"]);
        let own_name = own_name.members().iter().map(|member| {
            let message = "must not be given: the project and the service say the machine's name";
            self.fault(Fault {
                at: member.node.at,
                message: message.into(),
            })
        });
        let mut problems: Vec<Problem> = own_name.collect();
        if let Value::Object(members) = &mut section.value {
            members.push(named(tree.at, &machine::name(project, name, 1)));
        }
        let (keys, found) = reader::read_section::<keys::Service>(&self.document, &keys, &[]);
        let (app, also_found) =
            reader::read_section::<App>(&self.document, &section, keys::OF_SERVICE);
        let findings: Vec<Finding> = found.into_iter().chain(also_found).collect();
        let (Some(keys), Some(mut app)) = (keys, app) else {
            problems.extend(findings.into_iter().map(|finding| self.found(finding)));
            return (None, problems);
        };
        let spoilt: Vec<&Place> = findings
            .iter()
            .filter_map(|one| one.spoilt.as_ref())
            .collect();
        for complaint in complaints_of(&mut app, folder, spoilt.is_empty()) {
            let (_, place, problem) = self.locate_in(name, &complaint);
            // The name is judged as the project's and the service's.
            let is_own = complaint.place != Place::root().key("name");
            if is_own && !spoilt.iter().any(|spoilt| spoilt.concerns(&place)) {
                problems.push(problem);
            }
        }
        problems.extend(findings.into_iter().map(|finding| self.found(finding)));
        let service = Service {
            app,
            depends_on: keys.depends_on,
            networks: keys.networks,
            scale: keys.scale,
            profiles: keys.profiles,
        };
        (Some(service), problems)
    }

    fn found(&self, finding: Finding) -> Problem {
        let position = self.document.line_and_column(finding.at);
        problem_at(&self.name, position, &finding.place, finding.message)
    }

    fn fault(&self, fault: Fault) -> Problem {
        let position = self.document.line_and_column(fault.at);
        let place = self.document.place_of(fault.at);
        problem_at(&self.name, position, &place, fault.message)
    }

    /// A complaint about the whole file's values with its line.
    fn locate(&self, complaint: Complaint) -> Problem {
        let at = self.document.offset_of(&complaint.place);
        let position = self.document.line_and_column(at);
        problem_at(&self.name, position, &complaint.place, complaint.message)
    }

    /// A complaint about a service's app: where it is in the file, its place there, and its line.
    fn locate_in(&self, service: &str, complaint: &Complaint) -> (usize, Place, Problem) {
        let steps = complaint.place.steps();
        let (at, passed) = match self.trees.get(service) {
            Some(tree) => {
                let (node, passed) = tree.nearest(&complaint.place);
                (node.at, passed)
            }
            None => (self.document.root().at, 0),
        };
        let mut place = self.document.place_of(at);
        for step in steps.iter().skip(passed) {
            place = place.step(step.clone());
        }
        let position = self.document.line_and_column(at);
        let problem = problem_at(&self.name, position, &place, complaint.message.clone());
        (at, place, problem)
    }
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
