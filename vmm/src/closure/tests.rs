//! Which source gives the closure, and what is said when none does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::fixture::{self, path};
use super::*;

fn app() -> App {
    App::new("a", vec![path("a").to_string()])
}

fn file(text: &str) -> AppFile {
    AppFile::parse("app.json", Path::new("/"), text.as_bytes()).expect("a good file")
}

/// A host with the database of that state folder, and no `nix-store`.
fn host(state: &TempDir) -> Nix {
    Nix {
        database: state.path().join("db/db.sqlite"),
        search_path: OsString::new(),
    }
}

fn bare_host() -> Nix {
    Nix {
        database: PathBuf::from("/nonexistent/db.sqlite"),
        search_path: OsString::new(),
    }
}

/// A host whose `nix-store` is this script.
fn host_with_tool(folder: &TempDir, script: &str) -> Nix {
    let tool = folder.path().join("nix-store");
    fs::write(&tool, format!("#!/bin/sh\n{script}\n")).expect("write");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).expect("chmod");
    Nix {
        search_path: folder.path().into(),
        ..bare_host()
    }
}

#[test]
fn no_store_path_needs_no_source() {
    let closure = Closure::resolve(&app(), &BTreeSet::new(), &bare_host()).expect("closure");
    assert_eq!(closure.paths(), []);
    assert_eq!(*closure.source(), Source::NoRoots);
}

#[test]
fn the_database_gives_the_closure_sorted() {
    let state = fixture::database(&[("b", "z"), ("b", "a"), ("z", "a")]);
    let nix = host(&state);
    let closure = Closure::resolve(&app(), &BTreeSet::from([path("b")]), &nix).expect("closure");
    assert_eq!(closure.paths(), [path("a"), path("b"), path("z")]);
    assert_eq!(*closure.source(), Source::Database(nix.database));
}

#[test]
fn without_a_database_the_tool_is_asked() {
    let folder = tempfile::tempdir().expect("folder");
    let script = format!(
        "test \"$*\" = '-qR {}' && printf '%s\\n%s\\n' {} {}",
        path("a"),
        path("b"),
        path("a")
    );
    let nix = host_with_tool(&folder, &script);
    let closure = Closure::resolve(&app(), &BTreeSet::from([path("a")]), &nix).expect("closure");
    assert_eq!(closure.paths(), [path("a"), path("b")]);
    assert_eq!(
        *closure.source(),
        Source::NixStore(folder.path().join("nix-store"))
    );
}

#[test]
fn what_the_database_does_not_know_the_tool_may() {
    let state = fixture::database(&[("b", "b")]);
    let folder = tempfile::tempdir().expect("folder");
    let tool = host_with_tool(&folder, &format!("echo {}", path("a")));
    let nix = Nix {
        search_path: tool.search_path,
        ..host(&state)
    };
    let closure = Closure::resolve(&app(), &BTreeSet::from([path("a")]), &nix).expect("closure");
    assert_eq!(closure.paths(), [path("a")]);
}

#[test]
fn an_invalid_path_names_all_that_was_tried() {
    let state = fixture::database(&[("b", "b")]);
    let folder = tempfile::tempdir().expect("folder");
    let tool = host_with_tool(&folder, "echo 'error: path is not valid' >&2; exit 1");
    let nix = Nix {
        search_path: tool.search_path,
        ..host(&state)
    };
    let error = Closure::resolve(&app(), &BTreeSet::from([path("a"), path("b")]), &nix)
        .expect_err("invalid");
    let expected = format!(
        "cannot find the closure of {a}: {database} does not know it; {tool} -qR failed (exit status: 1): \
         error: path is not valid; if it was built here and garbage-collected since, \
         `nix-store --realise {a}` may bring it back",
        a = path("a"),
        database = nix.database.display(),
        tool = folder.path().join("nix-store").display(),
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_host_without_nix_is_told_so() {
    let error =
        Closure::resolve(&app(), &BTreeSet::from([path("a")]), &bare_host()).expect_err("no Nix");
    let text = error.to_string();
    assert!(
        text.contains("there is no database /nonexistent/db.sqlite; there is no nix-store in PATH"),
        "{text}"
    );
}

#[test]
fn a_list_comes_before_all_else_and_must_hold_the_entrypoint() {
    let state = fixture::database(&[("a", "a")]);
    let list = state.path().join("list");
    fs::write(&list, format!("{}\n", path("b"))).expect("write");
    let mut app = app();
    app.store.closure = Some(list.clone());
    let error = Closure::resolve(&app, &BTreeSet::from([path("a")]), &host(&state))
        .expect_err("not listed");
    let expected = format!(
        "{} does not list {}, where app.entrypoint is",
        list.display(),
        path("a")
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_list_of_what_is_not_there_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let list = folder.path().join("list");
    fs::write(&list, format!("{}\n", path("a"))).expect("write");
    let mut app = app();
    app.store.closure = Some(list.clone());
    let error = Closure::resolve(&app, &BTreeSet::new(), &bare_host()).expect_err("not there");
    let expected = format!(
        "{} lists {}, which this host does not have;",
        list.display(),
        path("a")
    );
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
fn a_file_outside_the_store_has_all_paths_of_its_text_as_roots() {
    let text = format!(
        r#"{{"name":"a","app":{{"entrypoint":"{}/bin/a","env":{{"PATH":"{}/bin:/bin"}}}},"x-more":["{}"]}}"#,
        path("a"),
        path("b"),
        path("c").as_str().replace('/', "\\/"),
    );
    assert_eq!(
        roots(&file(&text)),
        BTreeSet::from([path("a"), path("b"), path("c")])
    );
}

#[test]
fn what_is_added_to_an_app_is_a_root_too() {
    let mut file = file(&format!(
        r#"{{"name":"a","app":{{"entrypoint":"{}"}}}}"#,
        path("a")
    ));
    file.app.app.args.push(format!("{}/share", path("d")));
    assert_eq!(roots(&file), BTreeSet::from([path("a"), path("d")]));
}

#[test]
fn the_mode_decides_whether_there_is_a_closure_at_all() {
    let with_mode = |mode: &str| {
        let file = file(&format!(
            r#"{{"name":"a","app":{{"entrypoint":"/x"}},"store":"{mode}"}}"#
        ));
        StoreView::of(&file.app, &roots(&file)).expect("view")
    };
    assert_eq!(with_mode("none"), StoreView::None);
    assert_eq!(with_mode("all"), StoreView::All);
    let empty = Closure {
        paths: Vec::new(),
        source: Source::NoRoots,
    };
    assert_eq!(with_mode("closure"), StoreView::Closure(empty));
}

#[test]
fn of_an_images_paths_the_valid_ones_are_the_hosts() {
    let state = fixture::database(&[("b", "z"), ("c", "c")]);
    let nix = host(&state);
    let in_image = BTreeSet::from([path("b"), path("c"), path("unknown")]);
    let closure = Closure::on_this_host(in_image, &nix);
    assert_eq!(closure.paths(), [path("b"), path("c"), path("z")]);
    assert_eq!(*closure.source(), Source::Database(nix.database));
    let none = Closure::on_this_host(BTreeSet::from([path("unknown")]), &host(&state));
    assert_eq!(none.paths(), []);
}

#[test]
fn without_a_database_an_images_paths_are_all() {
    let in_image = BTreeSet::from([path("b"), path("a")]);
    let closure = Closure::on_this_host(in_image, &bare_host());
    assert_eq!(closure.paths(), [path("a"), path("b")]);
    assert_eq!(*closure.source(), Source::Image);
}

/// A closure of two paths, which a file lists.
fn listed(list: &Path) -> Closure {
    Closure::sorted(vec![path("a"), path("b")], Source::List(list.into()))
}

#[test]
fn what_nix_knows_is_the_databases_or_stands_beside_the_list() {
    let state = fixture::database(&[("a", "b")]);
    let folder = tempfile::tempdir().expect("folder");
    let list = list::of(folder.path());
    assert_eq!(list, folder.path().join("store-paths"));
    let text = |hash: u8| {
        let (a, b) = (path("a"), path("b"));
        format!("{a}\n{hash}\n0\n\n1\n{b}\n{b}\n{hash}\n0\n\n0\n")
    };
    fs::write(&list, "").expect("write");
    fs::write(folder.path().join("registration"), text(7)).expect("write");
    let closure = listed(&list);
    assert_eq!(closure.registration(&host(&state)).expect("known"), text(0));
    let told = closure.registration(&bare_host());
    assert_eq!(told.expect("known"), text(7));
    // A link to the list elsewhere has nothing beside it.
    let elsewhere = tempfile::tempdir().expect("folder");
    let link = elsewhere.path().join("list");
    std::os::unix::fs::symlink(&list, &link).expect("link");
    let told = listed(&link).registration(&bare_host());
    assert_eq!(told.expect("known"), text(7));
}

#[test]
fn a_list_alone_does_not_say_what_nix_knows() {
    let folder = tempfile::tempdir().expect("folder");
    let list = folder.path().join("list");
    let error = listed(&list).registration(&bare_host()).expect_err("none");
    let text = error.to_string();
    assert!(
        text.contains("cannot ask the Nix database /nonexistent/db.sqlite"),
        "{text}"
    );
    let words = format!(
        "; there is no {}/registration, as closureInfo makes",
        folder.path().display()
    );
    assert!(text.ends_with(&words), "{text}");
}

#[test]
fn the_tool_that_knows_the_closure_says_what_nix_knows_of_it() {
    let folder = tempfile::tempdir().expect("folder");
    let (a, b) = (path("a"), path("b"));
    let script =
        format!("test \"$*\" = '--dump-db {a} {b}' && printf '%s\\n7\\n0\\n\\n0\\n' {a} {b}");
    let nix = host_with_tool(&folder, &script);
    let source = Source::NixStore(folder.path().join("nix-store"));
    let closure = Closure::sorted(vec![b.clone(), a.clone()], source);
    let told = closure.registration(&nix).expect("known");
    assert_eq!(told, format!("{a}\n7\n0\n\n0\n{b}\n7\n0\n\n0\n"));
}
